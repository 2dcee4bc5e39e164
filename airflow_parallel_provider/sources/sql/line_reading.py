# SPDX-License-Identifier: Apache-2.0
"""Reading a range as lines of COPY, where the rows go into a table of PostgreSQL with columns of the same types."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from airflow_parallel_provider.errors import SourceError
from airflow_parallel_provider.rows.texts.line_rows import SETTINGS, CopyLines
from airflow_parallel_provider.sql.backends.quoting import quote_table
from airflow_parallel_provider.sql.backends.session import driver_connection
from airflow_parallel_provider.sql.copy_lines import copied_types, driver_copies

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.engine import Connection

    from airflow_parallel_provider.sources.sql.table_query import TableQuery
    from airflow_parallel_provider.sql.database import Database


def line_fetcher(database: Database, query: TableQuery, names: Sequence[str], offer: CopyLines) -> Any:
    """A function that reads a range as lines, in place of ``fetch_dicts``; None where it has to be rows.

    :param names: the columns that are read.
    :param offer: of the table that receives the rows. Its ``names`` are set if there is such a function.
    """
    if query.query is not None:  # the catalog knows no types of a query
        return None
    with database.session() as connection:
        raw = driver_connection(connection)
        if connection.dialect.name != "postgresql" or not driver_copies(raw):
            return None
        table = quote_table(query.table, query.schema)
        types = copied_types(raw, table)
        if any(name not in types or offer.types.get(name) != types[name] for name in names):
            return None
    offer.names = tuple(names)
    return partial(_fetch_lines, table=table, types={name: types[name] for name in names})


def _fetch_lines(
    connection: Connection, statement: Any, names: Sequence[str], *, table: str, types: dict[str, str], **_: Any
) -> list[bytes]:
    """The rows of a SELECT of columns as lines of COPY, each with its end.

    :raises SourceError: if the table has changed since the types were compared.
    """
    import sqlalchemy as sa
    from psycopg import ClientCursor

    raw = driver_connection(connection)
    with connection.begin():
        found = copied_types(raw, table)
        changed = next((name for name in names if found.get(name) != types[name]), None)
        if changed is not None:
            raise SourceError(
                f"table {table}, column {changed!r} was {types[changed]} when the load began, and is "
                f"{found.get(changed, 'another type')} now. Run the task again"
            )
        # The columns themselves: in the statement some are wrapped, for what the driver cannot read.
        plain = statement.with_only_columns(*(sa.column(sa.sql.quoted_name(name, quote=True)) for name in names))
        compiled = plain.compile(dialect=connection.dialect, compile_kwargs={"render_postcompile": True})
        # COPY takes no parameters: the driver writes them into the text as literals.
        query = ClientCursor(raw).mogrify(str(compiled), compiled.construct_params())
        with raw.cursor() as cursor:
            cursor.execute(SETTINGS)
            with cursor.copy(f"COPY ({query}) TO STDOUT") as copy:
                return [bytes(line) for line in copy]
