# SPDX-License-Identifier: Apache-2.0
"""What the statements of ``SqlSource`` select from, with the types that its values are read with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from airflow_parallel_provider.errors import PlanError
from airflow_parallel_provider.sources.sql.queries.result_types import NAME, shapes_of_result
from airflow_parallel_provider.sources.sql.types.json_columns import with_json_texts
from airflow_parallel_provider.sources.sql.types.mysql_types import with_exact_types as with_exact_mysql_types
from airflow_parallel_provider.sources.sql.types.postgres_types import with_exact_types as with_exact_postgres_types
from airflow_parallel_provider.sources.sql.types.sqlite_types import with_loose_types
from airflow_parallel_provider.sql.backends.catalog import Catalog
from airflow_parallel_provider.sql.backends.core_tables import core_table_of, exact_name

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    from airflow_parallel_provider.sources.sql.table_query import TableQuery
    from airflow_parallel_provider.sources.sql.where_clause import WhereClause
    from airflow_parallel_provider.sql.backends.base import Backend
    from airflow_parallel_provider.values.table_shape import TableShape

_DUCKDB = (
    "DuckDB cannot be read in ranges: its driver changes intervals, infinity and nanoseconds. Give the operator a "
    "function instead that yields Arrow: hook.get_conn().sql('SELECT ...').to_arrow_table()"
)


@dataclass(frozen=True)
class Relation:
    """A table, view or query."""

    query: TableQuery
    """With the schema apart from the table, where ``schema.table`` was meant."""
    reflected: TableShape
    """As SQLAlchemy has it."""
    shape: TableShape
    """With the types that values are read with."""
    text: Any = None
    """The author's SELECT; None for a table."""

    def columns(self, names: Sequence[str]) -> tuple[Any, list[str]]:
        """Something with some columns to select from, and the keys of these columns in it."""
        import sqlalchemy as sa

        table, keys = core_table_of(self.shape, names)
        if self.text is None:
            return table, keys
        columns = [sa.Column(exact_name(column.name), column.type, key=column.key) for column in table.c]
        return self.text.columns(*columns).subquery(NAME), keys

    def require(self) -> None:
        """Check that each column which the author names is there.

        :raises PlanError: naming it, and the columns that are there.
        """
        query = self.query
        since = () if query.since is None else (query.since.column,)
        for field, names in (("key", query.key_columns), ("since", since), ("columns", query.columns or ())):
            for name in names:
                if name not in self.shape.by_name:
                    what = "the query" if query.query is not None else f"table {query.table!r}"
                    raise PlanError(f"SqlSource.{field}", name, f"{what} has no such column")


def found_relation(query: TableQuery, where: WhereClause, connection: Connection, backend: Backend) -> Relation:
    """What a source reads from.

    :raises PlanError: if there is no such table, or the query has two columns of one name.
    """
    text = None
    if connection.dialect.name in ("paralleldb", "duckdb"):
        raise PlanError("SqlSource.conn_id", query.conn_id, _DUCKDB)
    if query.query is None:
        query, reflected = _reflected(query, connection, backend)
        shape = with_loose_types(reflected, connection, backend)
    else:
        where.check()
        text = where.select_of_query(connection)
        reflected, shape = shapes_of_result(connection, text, backend)
    shape = with_json_texts(shape, connection, backend)
    dialect = connection.dialect.name
    shape = with_exact_postgres_types(with_exact_mysql_types(shape, dialect), dialect)
    return Relation(query, reflected, shape, text)


def _reflected(query: TableQuery, connection: Connection, backend: Backend) -> tuple[TableQuery, TableShape]:
    """The table, or, where there is none of that name and no schema is given, the one of ``schema.table``."""
    catalog = backend.catalog
    try:
        # The general reflection, not that of the backend: its types are those SQLAlchemy reads values with.
        shape = Catalog.reflect(catalog, connection, query.table, query.schema)
        schema, dot, table = query.table.partition(".")
        if shape is None and query.schema is None and dot:
            shape = Catalog.reflect(catalog, connection, table, schema)
            query = query if shape is None else replace(query, schema=schema, table=table)
    except NotImplementedError:
        cure = "SQLAlchemy cannot list the columns of a table there: give query='SELECT ...'"
        raise PlanError("SqlSource.conn_id", query.conn_id, cure) from None
    if shape is None:
        raise PlanError("SqlSource.table", query.table, f"connection {query.conn_id!r} has no such table")
    return query, shape
