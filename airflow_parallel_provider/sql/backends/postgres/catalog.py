"""What PostgreSQL's catalogue says of a table, where SQLAlchemy would ask five times as much.

Its questions are built and compiled anew for every engine, and each takes longer to compile than to be answered.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

_THERE = """
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  AND CASE WHEN CAST(%(schema)s AS text) IS NULL
      THEN pg_catalog.pg_table_is_visible(c.oid) AND n.nspname <> 'pg_catalog'
      ELSE n.nspname = %(schema)s END
"""
_COLUMNS = f"""
SELECT a.attname {_THERE}
LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
WHERE c.relname = %(table)s AND c.relkind IN ('r', 'p', 'f', 'v', 'm')
"""
_KEYS = f"""
SELECT i.indexrelid, i.indisprimary, a.attname {_THERE}
JOIN pg_catalog.pg_index i ON i.indrelid = c.oid AND i.indisunique AND i.indpred IS NULL
CROSS JOIN LATERAL unnest(i.indkey) WITH ORDINALITY k (number, at)
LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.number AND k.number > 0
WHERE c.relname = %(table)s AND k.at <= i.indnkeyatts
ORDER BY i.indexrelid, k.at
"""
_OLD_KEYS = _KEYS.replace("indnkeyatts", "indnatts")
"""For servers before version 11, where an index carries no columns along that are not part of its key."""


def column_names(connection: Connection, table: str, schema: str | None) -> frozenset[str] | None:
    """What the columns of a table are called; None when it is not there."""
    found = connection.exec_driver_sql(_COLUMNS, {"table": table, "schema": schema}).fetchall()
    return frozenset(name for (name,) in found if name is not None) if found else None


def unique_keys(connection: Connection, table: str, schema: str | None) -> tuple[list[str], list[list[str | None]]]:
    """Columns of the primary key, and of each other unique index over all rows; None stands for an expression."""
    primary: list[str] = []
    others: dict[int, list[str | None]] = {}
    query = _KEYS if (connection.dialect.server_version_info or ()) >= (11,) else _OLD_KEYS
    for index, is_primary, name in connection.exec_driver_sql(query, {"table": table, "schema": schema}).fetchall():
        if is_primary:
            primary.append(name)
        else:
            others.setdefault(index, []).append(name)
    return primary, list(others.values())
