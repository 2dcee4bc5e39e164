# SPDX-License-Identifier: Apache-2.0
"""DDL of MySQL and MariaDB."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_parallel_provider.sql.backends.quoting import quote_for_dialect
from airflow_parallel_provider.sql.backends.table_ddl import TableDdl, temporary_name
from airflow_parallel_provider.sql.backends.types import KEY_LENGTH, generic_type
from airflow_parallel_provider.values.kinds import Column, Kind

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy.engine import Connection

    from airflow_parallel_provider.sql.backends.mysql.session import MysqlSession
    from airflow_parallel_provider.values.table_shape import TableShape

_COUNT_ATTACHED = """
SELECT (SELECT COUNT(*) FROM information_schema.triggers
        WHERE event_object_table = :name AND event_object_schema = COALESCE(:schema, DATABASE()))
     + (SELECT COUNT(*) FROM information_schema.key_column_usage WHERE referenced_table_name IS NOT NULL
        AND ((table_name = :name AND table_schema = COALESCE(:schema, DATABASE()))
          OR (referenced_table_name = :name AND referenced_table_schema = COALESCE(:schema, DATABASE()))))
"""
"""Triggers and foreign keys of a table, which stay with it when it is renamed."""


class MysqlTableDdl(TableDdl):
    """InnoDB tables; each statement commits."""

    session: MysqlSession
    """Of the same backend: it knows the server."""

    def sql_type(self, column: Column, *, in_key: bool) -> Any:
        """The widest type of each kind; a column in a key must have a length."""
        from sqlalchemy.dialects import mysql

        if column.kind is Kind.TEXT:
            length = column.length or (KEY_LENGTH if in_key else None)
            return mysql.VARCHAR(length) if length else mysql.LONGTEXT()
        if column.kind is Kind.BYTES:
            length = column.length or (KEY_LENGTH if in_key else None)
            return mysql.VARBINARY(length) if length else mysql.LONGBLOB()
        if column.kind is Kind.DECIMAL:
            return mysql.DECIMAL(column.precision or 65, column.scale if column.precision else 30)
        own: Mapping[Kind, Any] = {
            Kind.BOOL: mysql.TINYINT(1),
            Kind.HUGEINT: mysql.DECIMAL(65, 0),
            Kind.FLOAT: mysql.DOUBLE(asdecimal=False),
            Kind.DATETIME: mysql.DATETIME(fsp=6),
            Kind.DATETIMETZ: mysql.DATETIME(fsp=6),
            Kind.TIME: mysql.TIME(fsp=6),
            Kind.TIMEDELTA: mysql.DECIMAL(20, 6),
            Kind.UUID: mysql.CHAR(36),
            Kind.JSON: mysql.JSON(),
        }
        return own.get(column.kind or Kind.TEXT) or generic_type(column, in_key=in_key)

    def table_options(self) -> dict[str, Any]:
        """A transactional engine, all of Unicode, and keys that differ when their characters differ, also in spaces."""
        options = {"engine": "InnoDB", "charset": "utf8mb4", "collate": self.session.collation}
        return {f"{dialect}_{name}": value for dialect in ("mysql", "mariadb") for name, value in options.items()}

    def create_like(self, connection: Connection, name: str, shape: TableShape) -> None:
        """With defaults, keys and indexes, but without foreign keys."""
        created = quote_for_dialect(connection, name, shape.schema)
        like = quote_for_dialect(connection, shape.name, shape.schema)
        connection.exec_driver_sql(f"CREATE TABLE {created} LIKE {like}")

    def can_rename(self, connection: Connection, staging: TableShape, old: TableShape | None) -> bool:  # noqa: ARG002
        """Where the old table has neither triggers nor foreign keys, which would stay with it."""
        if old is None:
            return True
        import sqlalchemy as sa

        names = {"name": old.name, "schema": old.schema}
        return not connection.execute(sa.text(_COUNT_ATTACHED), names).scalar()

    def rename_into(
        self, connection: Connection, staging: str, table: str, schema: str | None, *, exists: bool
    ) -> None:
        """One RENAME TABLE, which is atomic and commits by itself; the old table gets a temporary name."""
        source, target = quote_for_dialect(connection, staging, schema), quote_for_dialect(connection, table, schema)
        old = f"{target} TO {quote_for_dialect(connection, temporary_name(staging), schema)}, " if exists else ""
        connection.exec_driver_sql(f"RENAME TABLE {old}{source} TO {target}")
