"""Tables and columns are made in a transaction of their own, by whoever comes first."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_parallel_provider.errors import SinkError
from airflow_parallel_provider.sinks.writers.room import may_pass

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.engine import Connection

    from airflow_parallel_provider.sinks.shape import TableShape
    from airflow_parallel_provider.sinks.writers.base import Writer


def create_table(connection: Connection, table: Any, writer: Writer) -> None:
    """Create a table in a transaction of its own, unless somebody else is faster."""
    schema = None if table.schema is None else str(table.schema)
    make_table(connection, str(table.name), schema, writer, lambda: table.create(connection, checkfirst=False))


def add_column(connection: Connection, shape: TableShape, name: str, sql_type: Any, writer: Writer) -> None:
    """Add a column in a transaction of its own, unless somebody else is faster."""
    import sqlalchemy as sa

    try:
        writer.begin(connection)
        writer.add_column(connection, shape, name, sql_type)
        writer.commit(connection)
    except sa.exc.DBAPIError as error:
        if connection.invalidated:
            raise  # it is lost, and to look would connect anew, in vain while the server is down
        connection.rollback()
        there = writer.reflect(connection, shape.name, shape.schema)
        connection.rollback()
        if there is None or name not in there.by_name:
            if may_pass(error, writer):
                raise  # as below
            raise SinkError(
                f"cannot add column {name!r} to table {shape.shown!r} ({writer.explain(error)}): check the "
                "rights of the login, or add it yourself"
            ) from None


def make_table(
    connection: Connection, name: str, schema: str | None, writer: Writer, make: Callable[[], object]
) -> None:
    """Have a table made in a transaction of its own, unless somebody else is faster."""
    import sqlalchemy as sa

    for last in (False, True):
        try:
            writer.begin(connection)
            make()
            writer.commit(connection)
        except sa.exc.DBAPIError as error:
            if connection.invalidated:
                raise  # it is lost, and to look would connect anew, in vain while the server is down
            connection.rollback()
            there = writer.reflect(connection, name, schema)
            connection.rollback()
            if there is not None:
                return
            if may_pass(error, writer):
                raise  # whoever waits for this chunk may try again
            if last:  # or who was faster has dropped it again: a staging table without a chunk
                raise SinkError(
                    f"cannot create table {name!r} ({writer.explain(error)}): check the rights of the login and "
                    "that the schema exists, or create the table beforehand"
                ) from None
        else:
            return
