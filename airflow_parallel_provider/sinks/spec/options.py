# SPDX-License-Identifier: Apache-2.0
"""The keyword arguments of a ``SinkTable`` for type checkers."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any, Literal

    from airflow_parallel_provider.sinks.aggregates.declare import Aggregate
    from airflow_parallel_provider.sinks.spec.dead_letter_files import DeadLetterFiles
    from airflow_parallel_provider.values.kinds import Column


class SinkTableOptions(TypedDict, total=False):
    """The optional fields of :class:`~airflow_parallel_provider.sinks.spec.table_spec.TableSpec`."""

    schema: str | None
    write_disposition: Literal["append", "merge", "replace"]
    primary_key: str | Iterable[str]
    newest: str | None
    columns: Mapping[str, Any] | Iterable[str | Column] | type | None
    on_rerun: Literal["resume", "replace", "append"] | None
    load_column: str | None
    parse_texts: bool | None
    on_schema_change: Literal["fail", "add_columns"]
    dead_letters: str | DeadLetterFiles | None
    ledger_table: str
    lock_timeout: float
    statement_timeout: float
    dead_letter_length: int
    dead_letter_pickle: bool
    validate: Any
    rejected: str | None
    max_rejected: int | None
    aggregates: Mapping[str, str | Aggregate] | None
