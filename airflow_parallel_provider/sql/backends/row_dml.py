"""The statements that write rows: the ledger's claim, and the rows of a chunk."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from airflow_parallel_provider.sql.backends.core_tables import core_table_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.engine import Connection

    from airflow_parallel_provider.values.table_shape import TableShape

Rows = Iterable[tuple[Any, ...]]
"""Rows to be written; they are iterated over once."""


class RowDml:
    """Writes in the transaction that is open, with SQLAlchemy Core."""

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

    def insert(self, connection: Connection, shape: TableShape, names: Sequence[str], rows: Rows) -> None:
        """Append rows.

        :param rows: what :func:`~airflow_parallel_provider.rows.fit.fit_block` returns.
        """
        table, keys = core_table_of(shape, names)
        connection.execute(table.insert(), [dict(zip(keys, row, strict=True)) for row in rows])

    def merge(
        self, connection: Connection, shape: TableShape, names: Sequence[str], rows: Rows, key: Sequence[str]
    ) -> None:
        """Insert rows, or update those whose key exists; of equal keys in one chunk the last row wins."""
        raise NotImplementedError  # Backend.check_disposition comes first

    def prepare_next_write(self, connection: Connection) -> None:
        """Called before each of several writes in one transaction."""
