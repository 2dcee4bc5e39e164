"""Dates and times in SQLite: texts, in columns whose types SQLite ignores."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from airflow_parallel_provider.values.kinds import Kind

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    from airflow_parallel_provider.sql.backends.base import Backend
    from airflow_parallel_provider.values.table_shape import TableShape


def with_instants(shape: TableShape, connection: Connection, backend: Backend) -> TableShape:
    """The table as SQLAlchemy reflects it, with a type of its own for instants, which it would read as numbers."""
    if connection.dialect.name != "sqlite":
        return shape
    declared = backend.catalog.reflect(connection, shape.name, shape.schema)
    if declared is None:
        return shape
    instants = {column.name for column in declared.columns if column.kind is Kind.DATETIMETZ}
    columns = (replace(column, sql_type=_instant()) if column.name in instants else column for column in shape.columns)
    return replace(shape, columns=tuple(columns))


def as_stored(column: Any, dialect: str) -> Any:
    """A column of a key that is compared as the text that SQLite stores.

    SQLAlchemy formats each time in one way, and SQLite compares texts: a row stored in another format would be below or
    above its own key.
    """
    import sqlalchemy as sa

    kinds = (sa.Date, sa.DateTime, sa.Time)
    is_time = isinstance(column.type, kinds) or getattr(column.type, "is_instant", False)
    return sa.type_coerce(column, sa.Text()) if dialect == "sqlite" and is_time else column


def _instant() -> Any:
    from sqlalchemy.types import UserDefinedType

    body = {
        "cache_ok": True,
        "is_instant": True,
        "get_col_spec": lambda _self, **_options: "TIMESTAMPTZ",
        "result_processor": lambda *_: _read,
    }
    return type("Instant", (UserDefinedType,), body)()


def _read(stored: Any) -> Any:
    try:
        return datetime.fromisoformat(stored)
    except (TypeError, ValueError):
        return stored  # a value of another program
