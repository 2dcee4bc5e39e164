# SPDX-License-Identifier: Apache-2.0
"""SQLite's DDL."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_parallel_provider.sql.backends.quoting import quote_table
from airflow_parallel_provider.sql.backends.table_ddl import TableDdl, table_definition
from airflow_parallel_provider.sql.backends.types import declared_type
from airflow_parallel_provider.values.kinds import Column, Kind

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy.engine import Connection

    from airflow_parallel_provider.values.table_shape import TableColumn, TableShape

_WORD_OF_KIND: Mapping[Kind, str] = {
    Kind.BOOL: "BOOLEAN",
    Kind.INT: "INTEGER",
    Kind.HUGEINT: "DECIMAL_TEXT",
    Kind.FLOAT: "REAL",
    Kind.DECIMAL: "DECIMAL_TEXT",
    Kind.BYTES: "BLOB",
    Kind.DATE: "DATE",
    Kind.DATETIME: "DATETIME",
    Kind.DATETIMETZ: "TIMESTAMPTZ",
    Kind.TIME: "TIME",
    Kind.TIMEDELTA: "REAL",
    Kind.UUID: "CHAR(36)",
    Kind.JSON: "JSON_TEXT",
}


class SqliteTableDdl(TableDdl):
    """Declares types by words of our own, which SQLite keeps."""

    def sql_type(self, column: Column, *, in_key: bool) -> Any:  # noqa: ARG002  # keys need no length here
        """The declared type, which SQLite keeps word for word."""
        if column.kind is Kind.TEXT:
            return declared_type(f"VARCHAR({column.length})" if column.length else "TEXT")
        return declared_type(_WORD_OF_KIND[column.kind or Kind.TEXT])

    def create_like(self, connection: Connection, name: str, shape: TableShape) -> None:
        """With types, defaults and the primary key; the other keys are checked when the rows are copied."""
        definition = table_definition(shape, _default_clause)
        connection.exec_driver_sql(f"CREATE TABLE {quote_table(name, shape.schema)} ({definition})")

    def can_rename(self, connection: Connection, staging: TableShape, old: TableShape | None) -> bool:  # noqa: ARG002
        """Only to a name that is free: with a RENAME, views and triggers would follow the old table."""
        return old is None


def _default_clause(column: TableColumn) -> str:
    if column.default is None:
        return ""
    # An expression must be in parentheses, where SQLite would take a text in double quotes for a name.
    return f" DEFAULT {column.default}" if column.default.startswith('"') else f" DEFAULT ({column.default})"
