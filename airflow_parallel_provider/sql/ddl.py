"""Tables and columns are made in a transaction of their own, by whoever comes first."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_parallel_provider.errors import SinkError
from airflow_parallel_provider.sql.disk_full import is_transient

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.engine import Connection

    from airflow_parallel_provider.sql.backends.base import Backend
    from airflow_parallel_provider.values.table_shape import TableShape

TRIES = 10
"""How often a table or a column is made: each attempt that begins may drop a staging table without a chunk, once."""


def create_table(connection: Connection, table: Any, backend: Backend) -> None:
    """Create a table in a transaction of its own, unless somebody else is faster."""
    schema = None if table.schema is None else str(table.schema)
    make_table(connection, str(table.name), schema, backend, lambda: table.create(connection, checkfirst=False))


def add_column(connection: Connection, shape: TableShape, name: str, sql_type: Any, backend: Backend) -> None:
    """Add a column in a transaction of its own, unless somebody else is faster.

    Nothing is done, and nothing said, when the table is gone: it may be a staging table that was dropped since it was
    looked at. Look at it again.

    :raises SinkError: when the database refuses the column.
    """
    import sqlalchemy as sa

    for _ in range(TRIES):
        try:
            backend.session.begin(connection)
            backend.ddl.add_column(connection, shape, name, sql_type)
            backend.session.commit(connection)
        except sa.exc.DBAPIError as error:
            there = _after(error, connection, shape.name, shape.schema, backend)
            if there is None or name in there.by_name:
                return
            if is_transient(error, backend):
                raise  # as below
            reason = backend.errors.explain(error)  # or the table has been made anew since
        else:
            return
    raise SinkError(
        f"cannot add column {name!r} to table {shape.display_name!r} ({reason}): check the rights of the login, or add it "
        "yourself"
    )


def make_table(
    connection: Connection, name: str, schema: str | None, backend: Backend, make: Callable[[], object]
) -> None:
    """Have a table made in a transaction of its own, unless somebody else is faster.

    :raises SinkError: when the database refuses it.
    """
    import sqlalchemy as sa

    for _ in range(TRIES):
        try:
            backend.session.begin(connection)
            make()
            backend.session.commit(connection)
        except sa.exc.DBAPIError as error:
            if _after(error, connection, name, schema, backend) is not None:
                return
            if is_transient(error, backend):
                raise  # whoever waits for this chunk may try again
            reason = backend.errors.explain(
                error
            )  # or who was faster has dropped it again: a staging table without a chunk
        else:
            return
    raise SinkError(
        f"cannot create table {name!r} ({reason}): check the rights of the login and that the schema exists, or create "
        "the table beforehand"
    )


def _after(error: Any, connection: Connection, name: str, schema: str | None, backend: Backend) -> TableShape | None:
    """The table as it is after a statement that failed.

    :raises sqlalchemy.exc.DBAPIError: that error, when the connection is lost: to look would connect anew, in vain
        while the server is down.
    """
    if connection.invalidated:
        raise error
    connection.rollback()
    there = backend.catalog.reflect(connection, name, schema)
    connection.rollback()
    return there
