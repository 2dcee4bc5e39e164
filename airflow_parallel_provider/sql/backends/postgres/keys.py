# SPDX-License-Identifier: Apache-2.0
"""Which rows of a chunk have the same key in a merge, as the table's unique index sees it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow_parallel_provider.sql.backends.quoting import any_is_null, column_list, quote, quote_shape

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


def key_expressions(cursor: Any, shape: TableShape, key: Sequence[str], number: str) -> str:
    """What equal keys have in common, as a list of SQL expressions.

    :param number: a column with another value in each row: keys with a NULL are not equal, unless the index says so.
    """
    by = column_list(key)
    if not any(shape.by_name[name].nullable for name in key):
        return by
    cursor.execute(_NULLS_ARE_EQUAL, (quote_shape(shape), sorted(key)))
    if cursor.fetchone()[0]:
        return by
    return f"{by}, CASE WHEN {any_is_null(list(map(quote, key)))} THEN {quote(number)} END"
