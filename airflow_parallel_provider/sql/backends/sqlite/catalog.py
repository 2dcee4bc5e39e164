# SPDX-License-Identifier: Apache-2.0
"""SQLite's catalog: types are the words of the CREATE TABLE, and mean what SQLite's rules of affinity make of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_parallel_provider.errors import UnsafeTable
from airflow_parallel_provider.sql.backends.catalog import Catalog
from airflow_parallel_provider.sql.backends.quoting import quote
from airflow_parallel_provider.values.kinds import Kind
from airflow_parallel_provider.values.table_shape import TableColumn, TableShape

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy.engine import Connection

_KIND_OF_WORD: Mapping[str, Kind] = {
    "BOOLEAN": Kind.BOOL,
    "BOOL": Kind.BOOL,
    "DECIMAL_TEXT": Kind.DECIMAL,
    "DATE": Kind.DATE,
    "DATETIME": Kind.DATETIME,
    "TIMESTAMP": Kind.DATETIME,
    "TIMESTAMPTZ": Kind.DATETIMETZ,
    "TIMESTAMP WITH TIME ZONE": Kind.DATETIMETZ,
    "TIME": Kind.TIME,
    "UUID": Kind.UUID,
    "JSON": Kind.JSON,
    "JSON_TEXT": Kind.JSON,
}
_AFFINITY: tuple[tuple[str, Kind], ...] = (
    # In the order of SQLite's own rules (datatype3.html, section 3.1).
    ("INT", Kind.INT), ("CHAR", Kind.TEXT), ("CLOB", Kind.TEXT), ("TEXT", Kind.TEXT), ("BLOB", Kind.BYTES),
    ("REAL", Kind.FLOAT), ("FLOA", Kind.FLOAT), ("DOUB", Kind.FLOAT), ("DEC", Kind.DECIMAL), ("NUM", Kind.DECIMAL),
)  # fmt: skip
_EXACT_DIGITS = 15
"""Digits that SQLite keeps of a number in text when the column has NUMERIC affinity."""


class SqliteCatalog(Catalog):
    """Read with PRAGMAs."""

    def reflect(self, connection: Connection, table: str, schema: str | None) -> TableShape | None:
        """Reads the declared types themselves: SQLAlchemy would make numbers of our texts."""
        found = _listed_columns(connection, table, schema)
        if not found:
            return None
        prefix = f"{quote(schema)}." if schema else ""
        primary = [row[1] for row in sorted(found, key=lambda row: row[5]) if row[5]]
        columns = tuple(_table_column(row, primary) for row in found)
        keys = {frozenset(primary)} if primary else set()
        for _, index, unique, _, partial in connection.exec_driver_sql(
            f"PRAGMA {prefix}index_list({quote(table)})"
        ).fetchall():
            members = connection.exec_driver_sql(f"PRAGMA {prefix}index_info({quote(index)})").fetchall()
            if unique and not partial and all(name is not None for _, _, name in members):
                keys.add(frozenset(name for _, _, name in members))
        return TableShape(table, schema, columns, tuple(sorted(keys, key=sorted)), tuple(primary))

    def column_names(self, connection: Connection, table: str, schema: str | None) -> frozenset[str] | None:
        """One PRAGMA."""
        return frozenset(row[1] for row in _listed_columns(connection, table, schema)) or None

    def triggers(self, connection: Connection, shape: TableShape) -> list[str]:
        """One query."""
        prefix = f"{quote(shape.schema)}." if shape.schema else ""
        found = connection.exec_driver_sql(
            f"SELECT name FROM {prefix}sqlite_master WHERE type = 'trigger' AND lower(tbl_name) = lower(?) "  # noqa: S608
            "ORDER BY name",
            (shape.name,),
        )
        return [name for (name,) in found.fetchall()]

    def check_transactional(self, connection: Connection, table: str, schema: str | None) -> None:
        """Refuse a database in memory: it ends with its connection, and so does its ledger."""
        databases = connection.exec_driver_sql("PRAGMA database_list").fetchall()
        own = (schema or "main").casefold()
        if any(name.casefold() == own and not file for _, name, file in databases):
            raise UnsafeTable(
                f"table {table!r} would be in a SQLite database in memory, where nothing outlives the connection: "
                "give the connection a file as its host"
            )


def _listed_columns(connection: Connection, table: str, schema: str | None) -> list[Any]:
    """Rows of ``table_xinfo`` for the columns that are not hidden; none where there is no such table."""
    prefix = f"{quote(schema)}." if schema else ""
    found = connection.exec_driver_sql(f"PRAGMA {prefix}table_xinfo({quote(table)})").fetchall()
    return [row for row in found if row[6] in (0, 2, 3)]


def _table_column(row: Any, primary: list[str]) -> TableColumn:
    _, name, declared, not_null, default, in_key, hidden = row
    words = declared.upper().strip()
    word, _, numbers = words.partition("(")
    word = word.strip()
    kind = _kind_of(word)
    length = numbers.rstrip(") ")
    computed = hidden in (2, 3)
    # The only INTEGER PRIMARY KEY is the row id, which SQLite assigns itself.
    is_row_id = words == "INTEGER" and bool(in_key) and len(primary) == 1
    return TableColumn(
        name=name,
        kind=kind,
        sql_type=declared,
        nullable=not not_null,
        has_default=default is not None or computed or is_row_id,
        length=int(length) if kind is Kind.TEXT and length.isdigit() else None,
        digits=_EXACT_DIGITS if kind is Kind.DECIMAL and word != "DECIMAL_TEXT" else None,
        computed=computed,
        default=default,
    )


def _kind_of(word: str) -> Kind:
    if word in _KIND_OF_WORD:
        return _KIND_OF_WORD[word]
    return next((kind for part, kind in _AFFINITY if part in word), Kind.OTHER)
