# SPDX-License-Identifier: Apache-2.0
"""DuckDB: each chunk is an Arrow table that an INSERT ... SELECT reads; executemany would be 400 times slower.

A DuckDB file belongs to one process at a time. DuckDB refuses a second process that opens it; the provider waits for
the file as for a lock. Two transactions that change the same thing do not wait for each other: the later one fails and
is tried again. DuckDB cannot limit the time of a statement (``statement_timeout``); stopping a run interrupts it.
"""

from __future__ import annotations

from datetime import time
from typing import TYPE_CHECKING, Any

from airflow_parallel_provider.sql.backends.base import Backend
from airflow_parallel_provider.sql.backends.duckdb.catalog import DuckCatalog
from airflow_parallel_provider.sql.backends.duckdb.error_classifier import DuckErrorClassifier
from airflow_parallel_provider.sql.backends.duckdb.row_dml import DuckRowDml
from airflow_parallel_provider.sql.backends.duckdb.session import DuckSession
from airflow_parallel_provider.sql.backends.duckdb.table_ddl import DuckTableDdl
from airflow_parallel_provider.values.convert import to_json, within_bits
from airflow_parallel_provider.values.intervals import as_sql
from airflow_parallel_provider.values.kinds import Kind

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_parallel_provider.values.convert import Converter

_within_128_bits = within_bits(128, unsigned=False)


def _hugeint_text(value: int) -> str:
    return str(_within_128_bits(value))


def _with_its_zone(value: Any) -> Any:
    """A time of day with a zone as text: Arrow has no zones there, and would drop it."""
    return value.isoformat() if type(value) is time and value.tzinfo is not None else value


class DuckBackend(Backend):
    """DuckDB, on the driver's connection itself."""

    session_class = DuckSession
    catalog_class = DuckCatalog
    ddl_class = DuckTableDdl
    dml_class = DuckRowDml
    errors_class = DuckErrorClassifier

    merges = True
    folds_case = True
    savepoints = False
    transactional_ddl = True
    arrow_kinds = frozenset(
        {
            Kind.BOOL, Kind.INT, Kind.FLOAT, Kind.DECIMAL, Kind.TEXT, Kind.BYTES, Kind.DATE, Kind.DATETIME,
            Kind.DATETIMETZ, Kind.TIME, Kind.TIMEDELTA,
        }
    )  # fmt: skip
    adapters: Mapping[Kind, Converter] = {
        Kind.HUGEINT: _hugeint_text,
        Kind.JSON: to_json,
        Kind.OTHER: _with_its_zone,
        Kind.TIMEDELTA: as_sql,
        Kind.UUID: str,
    }
