# SPDX-License-Identifier: Apache-2.0
"""What every attempt at a load must agree on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_parallel_provider.engine.interfaces.records import STREAM
from airflow_parallel_provider.sinks.ledger.loads import SHARDED, frozen_digest

if TYPE_CHECKING:
    from airflow_parallel_provider.engine.interfaces.records import LoadSpec
    from airflow_parallel_provider.sinks.spec.table_spec import TableSpec

ONLY_NEW = "only_new"
"""The term of a load that leaves out what earlier ones have committed; of a source with a stream: that."""


def terms_of(spec: TableSpec, load_spec: LoadSpec) -> dict[str, Any]:
    """What every attempt at a load must agree on."""
    columns = spec.declared_columns
    return {
        "chunk_size": load_spec.chunk_size,
        "source": load_spec.source,
        "write_disposition": spec.write_disposition,
        "primary_key": list(spec.key),
        "aggregates": {name: each.as_text() for name, each in spec.declared_aggregates.items()} or None,
        "columns": None if columns is None else [[column.name, column.type_name()] for column in columns],
        "load_column": spec.load_id_column,
        "newest": spec.newest,
        ONLY_NEW: None if load_spec.narrow is None else (load_spec.source_state or {}).get(STREAM, True),
        SHARDED: frozen_digest(load_spec) if load_spec.part == "plan" else None,
    }
