# SPDX-License-Identifier: Apache-2.0
"""Snowflake's catalog, read in its information schema.

Not through SQLAlchemy, whose dialect gives names in upper case back in lower case. That suits the control tables only,
whose columns it creates without quotes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_parallel_provider.sql.backends.catalog import Catalog
from airflow_parallel_provider.values.kinds import Kind
from airflow_parallel_provider.values.table_shape import TableColumn, TableShape

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy.engine import Connection

_KIND_OF_WORD: Mapping[str, Kind] = {
    "BOOLEAN": Kind.BOOL, "FLOAT": Kind.FLOAT, "TEXT": Kind.TEXT, "BINARY": Kind.BYTES, "DATE": Kind.DATE,
    "TIME": Kind.TIME, "TIMESTAMP_NTZ": Kind.DATETIME, "TIMESTAMP_TZ": Kind.DATETIMETZ,
    "TIMESTAMP_LTZ": Kind.DATETIMETZ, "VARIANT": Kind.JSON,
}  # fmt: skip
_COLUMNS = (
    "SELECT column_name, data_type, is_nullable, column_default, character_maximum_length, numeric_precision, "
    "numeric_scale, is_identity FROM information_schema.columns "
    "WHERE table_schema = COALESCE(%s, CURRENT_SCHEMA()) AND table_name = %s ORDER BY ordinal_position"
)
_MOST_DIGITS = 38


class SnowflakeCatalog(Catalog):
    """Names are those of the catalog: ``"id"`` and ``ID`` are two columns, and the second is found as ``ID``."""

    def reflect(self, connection: Connection, table: str, schema: str | None) -> TableShape | None:
        """The shape of a table, without keys: none is enforced, so none is of use."""
        found = _listed_columns(connection, table, schema)
        if not found:
            return None
        return TableShape(table, schema, tuple(map(_table_column, found)))


def _listed_columns(connection: Connection, table: str, schema: str | None) -> list[Any]:
    return list(connection.exec_driver_sql(_COLUMNS, (schema, table)).fetchall())


def _table_column(row: Any) -> TableColumn:
    name, word, nullable, default, length, precision, scale, identity = row
    word = str(word).upper()
    number = word == "NUMBER"
    huge = number and not scale and precision == _MOST_DIGITS
    kind = Kind.HUGEINT if huge else Kind.DECIMAL if number else _KIND_OF_WORD.get(word, Kind.OTHER)
    return TableColumn(
        name=str(name),
        kind=kind,
        sql_type=_sql_type(word, kind, length, precision, scale),
        nullable=nullable == "YES",
        has_default=default is not None or identity == "YES",
        length=None if length is None or kind is not Kind.TEXT else int(length),
        precision=int(precision) if kind is Kind.DECIMAL else None,
        scale=int(scale or 0) if kind is Kind.DECIMAL else None,
        identity=identity == "YES",
        default=None if default is None else str(default),
        unique_keys=kind is Kind.JSON,
    )


def _sql_type(word: str, kind: Kind, length: Any, precision: Any, scale: Any) -> str:
    """A type as SQL. The precision of times is not in every catalog: they keep all digits that there are."""
    if word == "NUMBER":
        return f"NUMBER({int(precision)},{int(scale or 0)})"
    if kind is Kind.TEXT:
        return f"VARCHAR({int(length)})" if length is not None else "VARCHAR"
    return word
