"""PostgreSQL's catalog, where SQLAlchemy's inspector would ask five times as much.

SQLAlchemy builds and compiles its queries anew for every engine, and each takes longer to compile than to run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_parallel_provider.sql.backends.catalog import Catalog

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.engine import Connection

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
SELECT i.indexrelid, i.indisprimary, a.attname {_FROM_CLASS}
JOIN pg_catalog.pg_index i ON i.indrelid = c.oid AND i.indisunique AND i.indpred IS NULL
CROSS JOIN LATERAL unnest(i.indkey) WITH ORDINALITY k (number, at)
LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.number AND k.number > 0
WHERE c.relname = %(table)s AND k.at <= i.indnkeyatts
ORDER BY i.indexrelid, k.at
"""
_OLD_KEYS = _KEYS.replace("indnkeyatts", "indnatts")
"""For servers before version 11, whose indexes have no columns outside the key."""


class PostgresCatalog(Catalog):
    """Columns and keys in one query each."""

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
        for index, is_primary, name in connection.exec_driver_sql(query, names).fetchall():
            if is_primary:
                primary.append(name)
            else:
                others.setdefault(index, []).append(name)
        return primary, list(others.values())
