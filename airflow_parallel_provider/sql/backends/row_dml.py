# SPDX-License-Identifier: Apache-2.0
"""The statements that write rows: the ledger's claim, and the rows of a chunk."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

from airflow_parallel_provider.sql.backends.core_tables import core_table_of
from airflow_parallel_provider.sql.backends.types import declared_type
from airflow_parallel_provider.values.kinds import Kind

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from sqlalchemy.engine import Connection

    from airflow_parallel_provider.values.table_shape import TableShape


class Rows(Protocol):
    """Rows to be written; they are iterated over once."""

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        """The rows."""

    def __len__(self) -> int:
        """How many."""


def _with_json_as_text(shape: TableShape) -> TableShape:
    """The table with a type for JSON that takes texts: SQLAlchemy's makes JSON of a text, and of None."""
    if all(column.kind is not Kind.JSON for column in shape.columns):
        return shape
    columns = (
        replace(column, sql_type=declared_type("JSON")) if column.kind is Kind.JSON else column
        for column in shape.columns
    )
    return replace(shape, columns=tuple(columns))


class RowDml:
    """Writes in the transaction that is open, with SQLAlchemy Core.

    A trigger, a rule or a clause of the table can make a database drop a row without an error. So each way of writing
    compares what the server says with what was sent.
    """

    def claim(
        self,
        connection: Connection,
        statement: Any,
        row: dict[str, Any],
        shape: TableShape | None,  # noqa: ARG002  # some ask about the table in the same round trip
        names: Sequence[str],  # noqa: ARG002
    ) -> None:
        """Insert the ledger's row, which is the first statement of a chunk's transaction.

        :param statement: the INSERT into the ledger.
        :param row: its values by column.
        :param shape: the table that receives the chunk's rows; None: the chunk has no rows.
        :param names: columns of the chunk's rows.
        """
        connection.execute(statement, [row])

    def send_ahead(
        self,
        connection: Connection,  # noqa: ARG002  # most send them inside the transaction
        shape: TableShape,  # noqa: ARG002
        names: Sequence[str],  # noqa: ARG002
        rows: Rows,
        *,
        merge: bool,  # noqa: ARG002
    ) -> Rows:
        """Called with the rows of a chunk before its transaction begins.

        :return: what :meth:`insert` or :meth:`merge` is called with in their place.
        """
        return rows

    def forget_sent(self, connection: Connection) -> None:
        """Called when what :meth:`send_ahead` has sent is not needed any more, outside a transaction."""

    def insert(self, connection: Connection, shape: TableShape, names: Sequence[str], rows: Rows) -> int:
        """Append rows.

        :param rows: what :func:`~airflow_parallel_provider.rows.fit.fit_block` returns.
        :return: how many of them the database has dropped without an error.
        """
        table, keys = core_table_of(_with_json_as_text(shape), names)
        parameters = [dict(zip(keys, row, strict=True)) for row in rows]
        result = connection.execute(table.insert(), parameters, execution_options={"preserve_rowcount": True})
        exact = connection.dialect.supports_sane_multi_rowcount and result.rowcount >= 0
        return len(parameters) - result.rowcount if exact else 0

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
        """Insert rows, or update those whose key exists; of equal keys in one chunk the last row wins.

        :param newest: the column that decides instead: a row replaces another one only if it is not older by it. NULL
            is older than any value; of equally new rows in one chunk the last one wins.
        :return: how many of them the database has dropped without an error.
        """
        raise NotImplementedError  # Backend.check_disposition comes first

    def prepare_next_write(self, connection: Connection) -> None:
        """Called before each of several writes in one transaction."""


def keeps_some(names: Sequence[str], key: Sequence[str], newest: str | None) -> bool:
    """Whether a merge may leave a row as it is, which databases do not count: it is newer, or there is only the key."""
    return newest is not None or set(names) <= set(key)
