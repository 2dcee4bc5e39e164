# SPDX-License-Identifier: Apache-2.0
"""DuckDB's catalog, read through its own catalog functions."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from airflow_parallel_provider.errors import UnsafeTable
from airflow_parallel_provider.sql.backends.catalog import Catalog
from airflow_parallel_provider.sql.backends.duckdb.keys import compares_by_collation
from airflow_parallel_provider.values.kinds import Kind
from airflow_parallel_provider.values.table_shape import TableColumn, TableShape

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy.engine import Connection

_KIND_OF_WORD: Mapping[str, Kind] = {
    "BOOLEAN": Kind.BOOL, "FLOAT": Kind.FLOAT, "DOUBLE": Kind.FLOAT, "VARCHAR": Kind.TEXT, "BLOB": Kind.BYTES,
    "DATE": Kind.DATE, "TIMESTAMP": Kind.DATETIME, "TIMESTAMP WITH TIME ZONE": Kind.DATETIMETZ, "TIME": Kind.TIME,
    "INTERVAL": Kind.TIMEDELTA, "UUID": Kind.UUID, "JSON": Kind.JSON, "HUGEINT": Kind.HUGEINT,
}  # fmt: skip
_BITS: Mapping[str, int] = {"TINYINT": 8, "SMALLINT": 16, "INTEGER": 32, "BIGINT": 64}
_DECIMAL = re.compile(r"DECIMAL\((\d+),\s*(\d+)\)")
_NAME = re.compile(r'"((?:[^"]|"")+)"|(\w+)')
_OF_TABLE = (
    "WHERE database_name = current_database() AND lower(table_name) = lower(?) "
    "AND schema_name = coalesce(?, current_schema())"
)
"""Selects a table from one of DuckDB's catalog functions, by its name and its schema."""


class DuckCatalog(Catalog):
    """Types are DuckDB's own words."""

    _is_file = False  # known since the first table was checked: one connection has one database

    def reflect(self, connection: Connection, table: str, schema: str | None) -> TableShape | None:
        """The shape of a table; None when there is no such table."""
        found = _listed_columns(connection, table, schema)
        if not found:
            return None
        constraints = connection.exec_driver_sql(
            f"SELECT constraint_type, constraint_column_names FROM duckdb_constraints() {_OF_TABLE}",  # noqa: S608
            (table, schema),
        ).fetchall()
        indexes = connection.exec_driver_sql(
            f"SELECT expressions FROM duckdb_indexes() {_OF_TABLE} AND is_unique",  # noqa: S608
            (table, schema),
        ).fetchall()
        primary = next((tuple(names) for kind, names in constraints if kind == "PRIMARY KEY"), ())
        keys = {frozenset(names) for kind, names in constraints if kind in ("PRIMARY KEY", "UNIQUE")}
        names = {row[0] for row in found}
        for (expressions,) in indexes:
            members = frozenset(quoted.replace('""', '"') or bare for quoted, bare in _NAME.findall(str(expressions)))
            if members <= names:
                keys.add(members)
        computed = _computed_columns(connection, table, schema) if any(row[3] is not None for row in found) else set()
        by_collation = bool(keys) and compares_by_collation(connection, _OF_TABLE, (table, schema))
        columns = tuple(_table_column(row, computed=row[0] in computed, by_collation=by_collation) for row in found)
        return TableShape(table, schema, columns, tuple(sorted(keys, key=sorted)), primary)

    def column_names(self, connection: Connection, table: str, schema: str | None) -> frozenset[str] | None:
        """One query."""
        return frozenset(row[0] for row in _listed_columns(connection, table, schema)) or None

    def check_transactional(self, connection: Connection, table: str, schema: str | None) -> None:  # noqa: ARG002
        """Refuse a database in memory: it ends with its connection, and so does its ledger."""
        if self._is_file:
            return
        path = connection.exec_driver_sql(
            "SELECT path FROM duckdb_databases() WHERE database_name = current_database()"
        ).scalar()
        if not path:
            raise UnsafeTable(
                f"table {table!r} would be in a DuckDB database in memory, where nothing outlives the connection: "
                "give the connection a file as its host"
            )
        self._is_file = True


def _listed_columns(connection: Connection, table: str, schema: str | None) -> list[Any]:
    """Name, type, whether it takes NULL, and default of a table's columns; none where there is no such table."""
    query = (
        "SELECT column_name, data_type, is_nullable, column_default "  # noqa: S608  # no value in it
        f"FROM duckdb_columns() {_OF_TABLE} ORDER BY column_index"
    )
    return list(connection.exec_driver_sql(query, (table, schema)).fetchall())


def _computed_columns(connection: Connection, table: str, schema: str | None) -> set[str]:
    """Columns that DuckDB computes; their expressions are listed as their defaults."""
    found = connection.exec_driver_sql(
        "SELECT column_name FROM information_schema.columns WHERE table_catalog = current_database() "
        "AND lower(table_name) = lower(?) AND table_schema = coalesce(?, current_schema()) AND is_generated = 'ALWAYS'",
        (table, schema),
    )
    return {name for (name,) in found.fetchall()}


def _table_column(row: Any, *, computed: bool, by_collation: bool) -> TableColumn:
    name, declared, nullable, default = row
    decimal = _DECIMAL.fullmatch(declared)
    unsigned = declared.startswith("U") and declared[1:] in _BITS
    bits = _BITS.get(declared[1:] if unsigned else declared)
    kind = Kind.DECIMAL if decimal else Kind.INT if bits else _KIND_OF_WORD.get(declared, Kind.OTHER)
    return TableColumn(
        name=name,
        kind=kind,
        sql_type=declared,
        nullable=bool(nullable),
        has_default=default is not None,
        bits=bits or (32 if declared == "FLOAT" else 64),
        unsigned=unsigned,
        precision=int(decimal.group(1)) if decimal else None,
        scale=int(decimal.group(2)) if decimal else None,
        computed=computed,
        default=default,
        case_insensitive=by_collation and kind is Kind.TEXT,
    )
