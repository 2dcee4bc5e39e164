"""Tables and columns are made in a transaction of their own, by whoever comes first."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_parallel_provider.errors import SinkError
from airflow_parallel_provider.sql.disk_full import may_pass

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.engine import Connection

    from airflow_parallel_provider.sql.backends.base import Writer
    from airflow_parallel_provider.values.table_shape import TableShape

TRIES = 10
"""How often a table or a column is made: each attempt that begins may drop a staging table without a chunk, once."""


def create_table(connection: Connection, table: Any, writer: Writer) -> None:
    """Create a table in a transaction of its own, unless somebody else is faster."""
    schema = None if table.schema is None else str(table.schema)
    make_table(connection, str(table.name), schema, writer, lambda: table.create(connection, checkfirst=False))


def add_column(connection: Connection, shape: TableShape, name: str, sql_type: Any, writer: Writer) -> None:
    """Add a column in a transaction of its own, unless somebody else is faster.

    Nothing is done, and nothing said, when the table is gone: it may be a staging table that was dropped since it was
    looked at. Look at it again.

    :raises SinkError: when the database refuses the column.
    """
    import sqlalchemy as sa

    for _ in range(TRIES):
        try:
            writer.begin(connection)
            writer.add_column(connection, shape, name, sql_type)
            writer.commit(connection)
        except sa.exc.DBAPIError as error:
            there = _after(error, connection, shape.name, shape.schema, writer)
            if there is None or name in there.by_name:
                return
            if may_pass(error, writer):
                raise  # as below
            reason = writer.explain(error)  # or the table has been made anew since
        else:
            return
    raise SinkError(
        f"cannot add column {name!r} to table {shape.shown!r} ({reason}): check the rights of the login, or add it "
        "yourself"
    )


def make_table(
    connection: Connection, name: str, schema: str | None, writer: Writer, make: Callable[[], object]
) -> None:
    """Have a table made in a transaction of its own, unless somebody else is faster.

    :raises SinkError: when the database refuses it.
    """
    import sqlalchemy as sa

    for _ in range(TRIES):
        try:
            writer.begin(connection)
            make()
            writer.commit(connection)
        except sa.exc.DBAPIError as error:
            if _after(error, connection, name, schema, writer) is not None:
                return
            if may_pass(error, writer):
                raise  # whoever waits for this chunk may try again
            reason = writer.explain(error)  # or who was faster has dropped it again: a staging table without a chunk
        else:
            return
    raise SinkError(
        f"cannot create table {name!r} ({reason}): check the rights of the login and that the schema exists, or create "
        "the table beforehand"
    )


def _after(error: Any, connection: Connection, name: str, schema: str | None, writer: Writer) -> TableShape | None:
    """The table as it is after a statement that failed.

    :raises sqlalchemy.exc.DBAPIError: that error, when the connection is lost: to look would connect anew, in vain
        while the server is down.
    """
    if connection.invalidated:
        raise error
    connection.rollback()
    there = writer.reflect(connection, name, schema)
    connection.rollback()
    return there
