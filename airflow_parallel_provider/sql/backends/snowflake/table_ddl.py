# SPDX-License-Identifier: Apache-2.0
"""Snowflake's DDL. Each statement commits, and commits what came before it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_parallel_provider.sql.backends.quoting import quote_table
from airflow_parallel_provider.sql.backends.table_ddl import TableDdl, table_definition
from airflow_parallel_provider.sql.backends.types import declared_type
from airflow_parallel_provider.values.kinds import Column, Kind

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy.engine import Connection

    from airflow_parallel_provider.values.table_shape import TableColumn, TableShape

_WORD_OF_KIND: Mapping[Kind, str] = {
    Kind.BOOL: "BOOLEAN",
    Kind.INT: "NUMBER(38,0)",
    Kind.HUGEINT: "NUMBER(38,0)",
    Kind.FLOAT: "FLOAT",
    Kind.BYTES: "BINARY",
    Kind.DATE: "DATE",
    Kind.DATETIME: "TIMESTAMP_NTZ",
    Kind.DATETIMETZ: "TIMESTAMP_TZ",
    Kind.TIME: "TIME",
    Kind.TIMEDELTA: "NUMBER(20,6)",
    Kind.UUID: "VARCHAR(36)",
    Kind.JSON: "VARIANT",
}


class SnowflakeTableDdl(TableDdl):
    """Standard tables."""

    def sql_type(self, column: Column, *, in_key: bool) -> Any:  # noqa: ARG002  # keys need no length here
        """Snowflake's own types; a duration is a number of seconds."""
        if column.kind is Kind.DECIMAL:
            return declared_type(f"NUMBER({column.precision or 38},{column.scale if column.precision else 10})")
        if column.kind in (Kind.TEXT, None):
            return declared_type(f"VARCHAR({column.length})" if column.length else "VARCHAR")
        return declared_type(_WORD_OF_KIND[column.kind])

    def create_like(self, connection: Connection, name: str, shape: TableShape) -> None:
        """With types, defaults and what may be NULL."""
        table = quote_table(name, shape.schema)
        connection.exec_driver_sql(f"CREATE TABLE {table} ({table_definition(shape, _default_clause)})")


def _default_clause(column: TableColumn) -> str:
    return "" if column.default is None or column.identity else f" DEFAULT {column.default}"
