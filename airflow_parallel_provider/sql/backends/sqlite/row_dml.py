# SPDX-License-Identifier: Apache-2.0
"""Rows into SQLite: one prepared statement for all rows of a chunk."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_parallel_provider.sql.backends.quoting import column_list, is_not_older, on_conflict, quote, quote_shape
from airflow_parallel_provider.sql.backends.row_dml import RowDml, Rows, keeps_some
from airflow_parallel_provider.sql.backends.session import driver_connection
from airflow_parallel_provider.sql.backends.sqlite.collations import collation_clause

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.engine import Connection

    from airflow_parallel_provider.values.table_shape import TableShape


class SqliteRowDml(RowDml):
    """``executemany`` of the ``sqlite3`` module."""

    def insert(self, connection: Connection, shape: TableShape, names: Sequence[str], rows: Rows) -> int:
        """One INSERT, all rows."""
        return _write(connection, shape, _insert_statement(shape, names), rows)

    def merge(
        self,
        connection: Connection,
        shape: TableShape,
        names: Sequence[str],
        rows: Rows,
        key: Sequence[str],
        *,
        newest: str | None,
    ) -> int:
        """Row by row in C, so of equal keys the last or newest one wins. Each that is written counts, new or not."""
        collation = collation_clause(shape, newest)
        condition = is_not_older(quote(shape.name), newest, collation)
        statement = f"{_insert_statement(shape, names)} {on_conflict(names, key, condition)}"
        kept = list(rows)
        lost = _write(connection, shape, statement, kept)
        if not lost or not keeps_some(names, key, newest):
            return lost
        if not _may_drop(driver_connection(connection), shape):
            return 0
        query, asked = _row_that_wins(shape, names, key, newest, collation)
        raw = driver_connection(connection)
        return sum(raw.execute(query, [row[at] for at in asked]).fetchone() is None for row in kept)


def _write(connection: Connection, shape: TableShape, statement: str, rows: Rows) -> int:
    """Run the statement for each row; return how many rows SQLite has dropped."""
    raw = driver_connection(connection)
    before = raw.total_changes
    lost = len(rows) - int(raw.executemany(statement, rows).rowcount)
    if not lost or not _in_master(raw, shape, "type = 'view' AND lower(name) = lower(?)"):
        return lost
    # SQLite counts no row of a view, only what its trigger does: at least one change for each row.
    return max(0, len(rows) - int(raw.total_changes - before))


def _may_drop(raw: Any, shape: TableShape) -> bool:
    """Whether the table has a trigger, or a clause that ignores a conflict."""
    return _in_master(raw, shape, "lower(tbl_name) = lower(?) AND (type = 'trigger' OR upper(sql) LIKE '%IGNORE%')")


def _in_master(raw: Any, shape: TableShape, condition: str) -> bool:
    prefix = f"{quote(shape.schema)}." if shape.schema else ""
    query = f"SELECT 1 FROM {prefix}sqlite_master WHERE {condition}"  # noqa: S608  # quoted
    return raw.execute(query, (shape.name,)).fetchone() is not None


def _row_that_wins(
    shape: TableShape, names: Sequence[str], key: Sequence[str], newest: str | None, collation: str
) -> tuple[str, list[int]]:
    """A query for the row that has the key of a merged one and is not older, and the numbers of what it asks for."""
    asked = [names.index(name) for name in key]
    same = " AND ".join(f"{quote(name)} IS ?" for name in key)
    if newest is not None:
        asked += [names.index(newest)] * 2
        same += f" AND (? IS NULL OR {quote(newest)} >= ?{collation})"
    return f"SELECT 1 FROM {quote_shape(shape)} WHERE {same}", asked  # noqa: S608  # quoted


def _insert_statement(shape: TableShape, names: Sequence[str]) -> str:
    marks = ", ".join("?" * len(names))
    return f"INSERT INTO {quote_shape(shape)} ({column_list(names)}) VALUES ({marks})"  # noqa: S608  # quoted
