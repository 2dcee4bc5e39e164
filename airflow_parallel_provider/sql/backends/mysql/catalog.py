# SPDX-License-Identifier: Apache-2.0
"""The catalog of MySQL and MariaDB."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from airflow_parallel_provider.errors import UnsafeTable
from airflow_parallel_provider.sql.backends.catalog import Catalog
from airflow_parallel_provider.sql.backends.mysql.quoting import quote
from airflow_parallel_provider.values.kinds import Kind

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    from airflow_parallel_provider.values.table_shape import TableShape


class MysqlCatalog(Catalog):
    """Read through SQLAlchemy, and in ``information_schema``."""

    def reflect(self, connection: Connection, table: str, schema: str | None) -> TableShape | None:
        """As SQLAlchemy says; but MariaDB's JSON is a LONGTEXT with a check."""
        import sqlalchemy as sa

        shape = super().reflect(connection, table, schema)
        if shape is None or not getattr(connection.dialect, "is_mariadb", False):
            return shape
        found = connection.execute(
            sa.text(
                "SELECT check_clause FROM information_schema.check_constraints "
                "WHERE constraint_schema = COALESCE(:schema, DATABASE()) AND table_name = :name"
            ),
            {"schema": schema, "name": table},
        )
        clauses = {str(clause).casefold() for (clause,) in found.fetchall()}
        columns = tuple(
            replace(column, kind=Kind.JSON, length=None)
            if f"json_valid({quote(column.name)})".casefold() in clauses
            else column
            for column in shape.columns
        )
        return replace(shape, columns=columns)

    def check_transactional(self, connection: Connection, table: str, schema: str | None) -> None:
        """Refuse a table whose engine ignores ROLLBACK."""
        import sqlalchemy as sa

        engine = connection.execute(
            sa.text(
                "SELECT t.engine FROM information_schema.tables t JOIN information_schema.engines e "
                "ON e.engine = t.engine WHERE t.table_schema = COALESCE(:schema, DATABASE()) AND t.table_name = :name "
                "AND COALESCE(e.transactions, 'NO') <> 'YES'"
            ),
            {"schema": schema, "name": table},
        ).scalar()
        if engine is not None:
            raise UnsafeTable(
                f"table {table!r} has the engine {engine}, which cannot roll back: "
                f"ALTER TABLE {quote(table)} ENGINE=InnoDB"
            )
