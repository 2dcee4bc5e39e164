# SPDX-License-Identifier: Apache-2.0
"""PostgreSQL's catalog, where SQLAlchemy's inspector would ask five times as much.

SQLAlchemy builds and compiles its queries anew for every engine, and each takes longer to compile than to run.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from airflow_parallel_provider.sql.backends.catalog import Catalog
from airflow_parallel_provider.sql.backends.quoting import quote_shape

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.engine import Connection

    from airflow_parallel_provider.values.table_shape import TableColumn, TableShape

_FROM_CLASS = """
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  AND CASE WHEN CAST(%(schema)s AS text) IS NULL
      THEN pg_catalog.pg_table_is_visible(c.oid) AND n.nspname <> 'pg_catalog'
      ELSE n.nspname = %(schema)s END
"""
_COLUMNS = f"""
SELECT a.attname {_FROM_CLASS}
LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
WHERE c.relname = %(table)s AND c.relkind IN ('r', 'p', 'f', 'v', 'm')
"""
_KEYS = f"""
SELECT i.indexrelid, i.indisprimary, a.attname, c.relrowsecurity, c.relkind = 'v' AND EXISTS (
  SELECT FROM pg_catalog.pg_trigger t WHERE t.tgrelid = c.oid AND t.tgtype & 68 = 68) {_FROM_CLASS}
LEFT JOIN pg_catalog.pg_index i ON i.indrelid = c.oid AND i.indisunique AND i.indpred IS NULL
LEFT JOIN LATERAL unnest(i.indkey) WITH ORDINALITY k (number, at) ON k.at <= i.indnkeyatts
LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.number AND k.number > 0
WHERE c.relname = %(table)s
ORDER BY i.indexrelid, k.at
"""  # noqa: S608  # no value in it
_OLD_KEYS = _KEYS.replace("indnkeyatts", "indnatts")
"""For servers before version 11, whose indexes have no columns outside the key."""

_TRIGGERS = """
SELECT t.tgname FROM pg_catalog.pg_trigger t WHERE NOT t.tgisinternal AND t.tgtype & 66 <> 0 AND t.tgtype & 20 <> 0
AND (t.tgrelid = CAST(%(table)s AS regclass)
     OR t.tgrelid IN (SELECT inhrelid FROM pg_catalog.pg_inherits WHERE inhparent = CAST(%(table)s AS regclass)))
ORDER BY t.tgname
"""
"""BEFORE or INSTEAD OF an INSERT or UPDATE; of the table and of its partitions."""


class PostgresCatalog(Catalog):
    """Columns and keys in one query each."""

    def __init__(self) -> None:
        self._has_policies = self._has_instead_of = False
        """Of the table whose keys were read last."""

    def reflect(self, connection: Connection, table: str, schema: str | None) -> TableShape | None:
        """And whether COPY can be used: it refuses a table with policies, and miscounts a view with a trigger."""
        shape = super().reflect(connection, table, schema)
        if shape is None:
            return None
        shape = replace(shape, columns=tuple(_with_texts(column) for column in shape.columns))
        away = self._has_instead_of
        if self._has_policies:  # which hold not for the owner, among others
            query = "SELECT row_security_active(CAST(%(table)s AS regclass))"
            away = bool(connection.exec_driver_sql(query, {"table": quote_shape(shape)}).scalar())
        return replace(shape, takes_copy=False) if away else shape

    def triggers(self, connection: Connection, shape: TableShape) -> list[str]:
        """One query."""
        found = connection.exec_driver_sql(_TRIGGERS, {"table": quote_shape(shape)}).fetchall()
        return list(dict.fromkeys(name for (name,) in found))

    def column_names(self, connection: Connection, table: str, schema: str | None) -> frozenset[str] | None:
        """One query."""
        found = connection.exec_driver_sql(_COLUMNS, {"table": table, "schema": schema}).fetchall()
        return frozenset(name for (name,) in found if name is not None) if found else None

    def unique_keys(self, inspector: Any, table: str, schema: str | None) -> tuple[Sequence[str], list[Any]]:
        """One query; only indexes over all rows."""
        connection: Connection = inspector.bind
        primary: list[str] = []
        others: dict[int, list[str | None]] = {}
        query = _KEYS if (connection.dialect.server_version_info or ()) >= (11,) else _OLD_KEYS
        names = {"table": str(table), "schema": None if schema is None else str(schema)}
        for index, is_primary, name, policies, instead_of in connection.exec_driver_sql(query, names).fetchall():
            self._has_policies, self._has_instead_of = policies, instead_of
            if index is None:
                continue
            if is_primary:
                primary.append(name)
            else:
                others.setdefault(index, []).append(name)
        return primary, list(others.values())


def _with_texts(column: TableColumn) -> TableColumn:
    """The column with the type whose dates and times it takes as they are, also those that Python does not have."""
    import sqlalchemy as sa

    item, brackets = column.sql_type, ""
    if isinstance(item, sa.ARRAY):
        item, brackets = item.item_type, "[]"
    if isinstance(item, sa.DateTime):
        return replace(column, takes_texts_of=("timestamptz" if item.timezone else "timestamp") + brackets)
    if isinstance(item, sa.Time):
        return replace(column, takes_texts_of=("timetz" if item.timezone else "time") + brackets)
    return replace(column, takes_texts_of="date" + brackets) if isinstance(item, sa.Date) else column
