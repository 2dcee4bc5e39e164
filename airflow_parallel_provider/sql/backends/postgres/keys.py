"""Which rows of a chunk that is merged have the same key, as the table's unique index sees it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow_parallel_provider.sql.backends.quoting import any_missing, column_list, place_of, quote

if TYPE_CHECKING:
    from airflow_parallel_provider.values.table_shape import TableShape

_NULLS_ARE_EQUAL = """
SELECT EXISTS (
  SELECT FROM pg_index i WHERE i.indrelid = CAST(%s AS regclass) AND i.indisunique
  AND CAST(to_jsonb(i) ->> 'indnullsnotdistinct' AS boolean)
  AND %s = (SELECT array_agg(CAST(a.attname AS text) ORDER BY CAST(a.attname AS text) COLLATE "C")
            FROM pg_attribute a WHERE a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey)))
"""
"""``UNIQUE NULLS NOT DISTINCT``, which servers before version 15 do not know."""


def nulls_are_equal_in(cursor: Any, shape: TableShape, key: Sequence[str], number: str) -> str:
    """What a key is compared by, as a list of SQL expressions.

    :param number: a column with another value in each row.
    """
    by = column_list(key)
    if not any(shape.by_name[name].nullable for name in key):
        return by
    cursor.execute(_NULLS_ARE_EQUAL, (place_of(shape), sorted(key)))
    if cursor.fetchone()[0]:
        return by
    return f"{by}, CASE WHEN {any_missing(list(map(quote, key)))} THEN {quote(number)} END"
