"""Rows into SQLite: one prepared statement for all rows of a chunk."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_parallel_provider.sql.backends.quoting import column_list, on_conflict, quote_shape
from airflow_parallel_provider.sql.backends.row_dml import RowDml, Rows
from airflow_parallel_provider.sql.backends.session import driver_connection

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.engine import Connection

    from airflow_parallel_provider.values.table_shape import TableShape


class SqliteRowDml(RowDml):
    """``executemany`` of the ``sqlite3`` module."""

    def insert(self, connection: Connection, shape: TableShape, names: Sequence[str], rows: Rows) -> None:
        """One INSERT, all rows."""
        driver_connection(connection).executemany(_insert_statement(shape, names), rows)

    def merge(
        self, connection: Connection, shape: TableShape, names: Sequence[str], rows: Rows, key: Sequence[str]
    ) -> None:
        """Row by row in C, so of equal keys the last one wins."""
        statement = f"{_insert_statement(shape, names)} {on_conflict(names, key)}"
        driver_connection(connection).executemany(statement, rows)


def _insert_statement(shape: TableShape, names: Sequence[str]) -> str:
    marks = ", ".join("?" * len(names))
    return f"INSERT INTO {quote_shape(shape)} ({column_list(names)}) VALUES ({marks})"  # noqa: S608  # quoted
