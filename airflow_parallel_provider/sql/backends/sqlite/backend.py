# SPDX-License-Identifier: Apache-2.0
"""SQLite: the driver's own executemany inside BEGIN IMMEDIATE.

Kinds that SQLite has no type for are stored in a form that can be read back: Decimal and integers beyond 64 bit as text
(``DECIMAL_TEXT``; a number would be rounded to a float), dates and times as ISO text, instants as ISO text in UTC,
timedelta as seconds, UUID and JSON as text. NaN becomes NULL.
"""

from __future__ import annotations

from operator import methodcaller
from typing import TYPE_CHECKING, Any

from airflow_parallel_provider.sql.backends.base import Backend
from airflow_parallel_provider.sql.backends.sqlite.catalog import SqliteCatalog
from airflow_parallel_provider.sql.backends.sqlite.error_classifier import SqliteErrorClassifier
from airflow_parallel_provider.sql.backends.sqlite.row_dml import SqliteRowDml
from airflow_parallel_provider.sql.backends.sqlite.session import SqliteSession
from airflow_parallel_provider.sql.backends.sqlite.table_ddl import SqliteTableDdl
from airflow_parallel_provider.values.convert import to_json
from airflow_parallel_provider.values.kinds import Kind

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_parallel_provider.values.convert import Converter

_iso = methodcaller("isoformat", " ")
"""A time as ``str`` writes it, a quarter faster."""


def _to_storable(value: Any) -> Any:
    """A value for a column whose declared type means nothing to SQLite."""
    if isinstance(value, (dict, list)):
        return to_json(value)
    if value is None or isinstance(value, (bool, int, float, str, bytes)):
        return value
    return value.isoformat() if hasattr(value, "isoformat") else str(value)


class SqliteBackend(Backend):
    """SQLite, on the ``sqlite3`` connection itself."""

    session_class = SqliteSession
    catalog_class = SqliteCatalog
    ddl_class = SqliteTableDdl
    dml_class = SqliteRowDml
    errors_class = SqliteErrorClassifier

    merges = True
    transactional_ddl = True
    folds_case = True
    adapters: Mapping[Kind, Converter] = {
        Kind.DECIMAL: str,
        # Python's texts are ISO texts and sort as the times do: in one column all are in UTC, or none has a zone.
        Kind.DATE: str,
        Kind.DATETIME: _iso,
        Kind.DATETIMETZ: _iso,
        Kind.TIME: str,
        Kind.UUID: str,
        Kind.JSON: to_json,
        Kind.OTHER: _to_storable,
    }
