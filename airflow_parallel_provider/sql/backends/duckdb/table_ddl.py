# SPDX-License-Identifier: Apache-2.0
"""DuckDB's DDL."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_parallel_provider.sql.backends.quoting import quote_for_dialect
from airflow_parallel_provider.sql.backends.table_ddl import TableDdl, table_definition
from airflow_parallel_provider.sql.backends.types import declared_type
from airflow_parallel_provider.values.kinds import Column, Kind

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy.engine import Connection

    from airflow_parallel_provider.values.table_shape import TableColumn, TableShape

_WORD_OF_KIND: Mapping[Kind, str] = {
    Kind.BOOL: "BOOLEAN",
    Kind.INT: "BIGINT",
    Kind.HUGEINT: "HUGEINT",
    Kind.FLOAT: "DOUBLE",
    Kind.TEXT: "VARCHAR",
    Kind.BYTES: "BLOB",
    Kind.DATE: "DATE",
    Kind.DATETIME: "TIMESTAMP",
    Kind.DATETIMETZ: "TIMESTAMPTZ",
    Kind.TIME: "TIME",
    Kind.TIMEDELTA: "INTERVAL",
    Kind.UUID: "UUID",
    Kind.JSON: "JSON",
}


class DuckTableDdl(TableDdl):
    """DDL that is part of the transaction."""

    def sql_type(self, column: Column, *, in_key: bool) -> Any:  # noqa: ARG002  # keys need no length here
        """DuckDB's own types. It keeps no lengths of texts."""
        if column.kind is Kind.DECIMAL:
            return declared_type(f"DECIMAL({column.precision or 38},{column.scale if column.precision else 10})")
        return declared_type(_WORD_OF_KIND[column.kind or Kind.TEXT])

    def create_like(self, connection: Connection, name: str, shape: TableShape) -> None:
        """With types, defaults and the primary key; the other keys are checked when the rows are copied."""
        table = quote_for_dialect(connection, name, shape.schema)
        connection.exec_driver_sql(f"CREATE TABLE {table} ({table_definition(shape, _default_clause)})")

    def can_rename(self, connection: Connection, staging: TableShape, old: TableShape | None) -> bool:  # noqa: ARG002
        """Only to a name that is free: the indexes of the old table would be lost."""
        return old is None


def _default_clause(column: TableColumn) -> str:
    return "" if column.default is None else f" DEFAULT ({column.default})"
