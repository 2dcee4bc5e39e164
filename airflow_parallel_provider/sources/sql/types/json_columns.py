# SPDX-License-Identifier: Apache-2.0
"""Columns of JSON, read as the texts that they are: drivers would round numbers, and read the null of JSON as NULL."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from airflow_parallel_provider.sources.sql.types.column_readers import read_with
from airflow_parallel_provider.values.json_text import JsonText
from airflow_parallel_provider.values.kinds import Kind

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    from airflow_parallel_provider.sql.backends.base import Backend
    from airflow_parallel_provider.values.table_shape import TableColumn, TableShape


def with_json_texts(shape: TableShape, connection: Connection, backend: Backend) -> TableShape:
    """The table with a type for JSON that reads :class:`JsonText`. Not for SQLite, whose columns hold anything."""
    dialect = connection.dialect.name
    if dialect == "sqlite":
        return shape
    found = {column.name for column in shape.columns if _is_json(column)}
    if getattr(connection.dialect, "is_mariadb", False):  # its JSON is a text with a check, which the backend looks for
        declared = backend.catalog.reflect(connection, shape.name, shape.schema)
        found |= {column.name for column in (declared.columns if declared else ()) if column.kind is Kind.JSON}
    # PostgreSQL's driver parses JSON by itself, unless it is selected as a text.
    select = _as_text if dialect == "postgresql" else None
    columns = (
        replace(column, sql_type=read_with("JSON", read=_read, select=select)) if column.name in found else column
        for column in shape.columns
    )
    return replace(shape, columns=tuple(columns))


def _is_json(column: TableColumn) -> bool:
    import sqlalchemy as sa

    # The type of a domain is in its attribute data_type.
    return isinstance(getattr(column.sql_type, "data_type", column.sql_type), sa.JSON)


def _as_text(column: Any) -> Any:
    import sqlalchemy as sa

    return sa.cast(column, sa.Text())


def _read(stored: Any) -> Any:
    if isinstance(stored, (bytes, bytearray)):
        stored = stored.decode()
    return JsonText(stored) if isinstance(stored, str) else stored
