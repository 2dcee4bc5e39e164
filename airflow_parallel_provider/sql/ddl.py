# SPDX-License-Identifier: Apache-2.0
"""Creating tables and adding columns while other attempts may do the same: the first one creates, the others go on.

Each statement has a transaction of its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_parallel_provider.errors import SinkError
from airflow_parallel_provider.sql.backends.error_classifier import cure_of_ddl
from airflow_parallel_provider.sql.disk_full import is_transient

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.engine import Connection

    from airflow_parallel_provider.sql.backends.base import Backend
    from airflow_parallel_provider.values.table_shape import TableShape

MAX_TRIES = 10
"""Each new attempt of a load may drop a staging table that has no chunk, once: then the table is created again."""


def create_table(connection: Connection, table: Any, backend: Backend) -> None:
    """Create a table, unless another attempt has.

    :param table: a ``sqlalchemy.Table``.
    """
    schema = None if table.schema is None else str(table.schema)
    make_table(connection, str(table.name), schema, backend, lambda: table.create(connection, checkfirst=False))


def add_column(connection: Connection, shape: TableShape, name: str, sql_type: Any, backend: Backend) -> None:
    """Add a column, unless another attempt has.

    Does nothing when the table no longer exists: a staging table may have been dropped since it was reflected. The
    caller reflects it again.

    :raises SinkError: when the database refuses the column.
    """
    import sqlalchemy as sa

    for _ in range(MAX_TRIES):
        try:
            backend.session.begin(connection)
            backend.ddl.add_column(connection, shape, name, sql_type)
            backend.session.commit(connection)
        except sa.exc.DBAPIError as error:
            current = _reflect_after(error, connection, shape.name, shape.schema, backend)
            if current is None or name in current.by_name:
                return
            if is_transient(error, backend):
                raise  # the caller tries the chunk again
            # Another try: the table may have been dropped and created in between.
            reason, cure = backend.errors.explain(error), cure_of_ddl(backend.errors.refusal(error))
        else:
            return
    raise SinkError(f"cannot add column {name!r} to table {shape.display_name!r} ({reason}): {cure}")


def make_table(
    connection: Connection, name: str, schema: str | None, backend: Backend, create: Callable[[], object]
) -> None:
    """Create a table by calling a function, unless another attempt has created it.

    :param create: creates the table, on the connection.
    :raises SinkError: when the database refuses the table.
    """
    import sqlalchemy as sa

    for _ in range(MAX_TRIES):
        try:
            backend.session.begin(connection)
            create()
            backend.session.commit(connection)
        except sa.exc.DBAPIError as error:
            if _reflect_after(error, connection, name, schema, backend) is not None:
                return
            if is_transient(error, backend):
                raise  # the caller tries the chunk again
            # Another try: another attempt may have created the table and dropped it.
            reason, cure = backend.errors.explain(error), cure_of_ddl(backend.errors.refusal(error))
        else:
            return
    raise SinkError(f"cannot create table {name!r} ({reason}): {cure}")


def _reflect_after(
    error: Any, connection: Connection, name: str, schema: str | None, backend: Backend
) -> TableShape | None:
    """The table as it is after a statement that failed; None when it does not exist.

    :raises sqlalchemy.exc.DBAPIError: that error, when the connection is lost: reflection would connect again, in vain
        while the server is down.
    """
    if connection.invalidated:
        raise error
    connection.rollback()
    current = backend.catalog.reflect(connection, name, schema)
    connection.rollback()
    return current
