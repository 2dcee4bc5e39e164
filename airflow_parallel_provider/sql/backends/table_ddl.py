# SPDX-License-Identifier: Apache-2.0
"""Creating, altering, renaming, emptying and dropping tables."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_parallel_provider.sql.backends.core_tables import core_table, exact_name
from airflow_parallel_provider.sql.backends.quoting import column_list, quote, quote_for_dialect
from airflow_parallel_provider.sql.backends.types import declared_type, generic_type

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.engine import Connection

    from airflow_parallel_provider.sql.backends.catalog import Catalog
    from airflow_parallel_provider.values.kinds import Column
    from airflow_parallel_provider.values.table_shape import TableColumn, TableShape

_NO_IF_EXISTS = frozenset({"oracle"})
"""Dialects of databases of which only new versions know ``DROP TABLE IF EXISTS``."""
_NO_COLUMN_WORD = frozenset({"oracle", "mssql"})
"""Dialects of databases that say ``ALTER TABLE ... ADD``, not ``ADD COLUMN``."""


def temporary_name(staging: str) -> str:
    """Name of a replaced table until it is dropped, where the rename and the drop are two statements."""
    return f"{staging}_old"


class TableDdl:
    """The DDL of one database.

    :param catalog: the catalog of the same database.
    """

    overriding = ""
    """The clause that lets an INSERT fill identity columns."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog

    def sql_type(self, column: Column, *, in_key: bool) -> Any:
        """SQLAlchemy type for a column of a new table."""
        return generic_type(column, in_key=in_key)

    def table_options(self) -> dict[str, Any]:
        """Keyword arguments for a new ``sqlalchemy.Table``."""
        return {}

    def create_like(self, connection: Connection, name: str, shape: TableShape) -> None:
        """Create a table with the columns, their defaults and the primary key of another, in the same schema.

        An identity column may stay empty, and its key is left out: the table itself numbers it later.
        """
        import sqlalchemy as sa

        key = () if any(shape.by_name[name].identity for name in shape.primary_key) else shape.primary_key
        columns = [
            sa.Column(
                exact_name(column.name),
                column.sql_type,
                primary_key=column.name in key,
                nullable=column.nullable or column.identity,
                autoincrement=False,
                # Literal: in sa.text() a colon would begin a parameter.
                server_default=None if column.default is None else sa.literal_column(column.default),
            )
            for column in shape.columns
            if not column.computed
        ]
        core_table(name, shape.schema, *columns, **self.table_options()).create(connection, checkfirst=False)

    def add_column(self, connection: Connection, shape: TableShape, name: str, sql_type: Any) -> None:
        """Add a nullable column to a table.

        :param sql_type: a SQLAlchemy type, or the type as SQL where the catalog gives that.
        """
        import sqlalchemy as sa

        sql_type = declared_type(sql_type) if isinstance(sql_type, str) else sql_type
        column = sa.Column(exact_name(name), sql_type, nullable=True)
        core_table(shape.name, shape.schema, column)  # a column of no table has no DDL
        definition = sa.schema.CreateColumn(column).compile(dialect=connection.dialect)
        table = quote_for_dialect(connection, shape.name, shape.schema)
        word = "" if connection.dialect.name in _NO_COLUMN_WORD else "COLUMN "
        connection.exec_driver_sql(f"ALTER TABLE {table} ADD {word}{definition}")

    def can_rename(self, connection: Connection, staging: TableShape, old: TableShape | None) -> bool:  # noqa: ARG002
        """Whether a staging table replaces a table by being renamed; else its rows are copied.

        :param old: the table it replaces, if there is one.
        """
        return False

    def rename_into(
        self, connection: Connection, staging: str, table: str, schema: str | None, *, exists: bool
    ) -> None:
        """Give a staging table the name of a table, in the transaction that is open.

        :param exists: a table of that name still exists, and is renamed to ``temporary_name(staging)``: only where DDL
            commits.
        """
        assert not exists, "dropped in the same transaction"
        source, name = quote_for_dialect(connection, staging, schema), quote_for_dialect(connection, table, None)
        connection.exec_driver_sql(f"ALTER TABLE {source} RENAME TO {name}")

    def empty(self, connection: Connection, table: TableShape) -> None:
        """Delete all rows of a table, in the transaction that is open."""
        connection.exec_driver_sql(f"DELETE FROM {quote_for_dialect(connection, table.name, table.schema)}")  # noqa: S608  # quoted

    def copy_into(self, connection: Connection, staging: TableShape, table: TableShape) -> int:
        """Insert the rows of a staging table into the table it was created like, in the transaction that is open.

        :return: how many the server has written; negative where it does not say.
        """
        preparer = connection.dialect.identifier_preparer
        target, source = (quote_for_dialect(connection, shape.name, shape.schema) for shape in (table, staging))
        names = [column.name for column in staging.columns if column.name in table.by_name and not column.computed]
        for name in names[:]:
            if table.by_name[name].identity and not staging.by_name[name].identity:
                filled = f"SELECT COUNT({preparer.quote_identifier(name)}) FROM {source}"  # noqa: S608  # quoted
                if not connection.exec_driver_sql(filled).scalar():
                    names.remove(name)
        columns = ", ".join(preparer.quote_identifier(name) for name in names)
        insert = f"INSERT INTO {target} ({columns}) {self.overriding}SELECT {columns} FROM {source}"  # noqa: S608  # quoted
        return int(connection.exec_driver_sql(insert).rowcount)

    def drop(self, connection: Connection, name: str, schema: str | None) -> None:
        """Drop a table, if it exists; another attempt may be dropping it at the same time."""
        if self._catalog.reflect(connection, name, schema) is not None:
            guard = "" if connection.dialect.name in _NO_IF_EXISTS else "IF EXISTS "
            connection.exec_driver_sql(f"DROP TABLE {guard}{quote_for_dialect(connection, name, schema)}")


def table_definition(shape: TableShape, default_clause: Callable[[TableColumn], str]) -> str:
    """The columns and the primary key of a table, as in a CREATE TABLE; types are the catalog's own words.

    :param default_clause: the end of a column's definition.
    """
    parts = [
        f"{quote(column.name)} {column.sql_type}{'' if column.nullable else ' NOT NULL'}{default_clause(column)}"
        for column in shape.columns
        if not column.computed
    ]
    if shape.primary_key:
        parts.append(f"PRIMARY KEY ({column_list(shape.primary_key)})")
    return ", ".join(parts)
