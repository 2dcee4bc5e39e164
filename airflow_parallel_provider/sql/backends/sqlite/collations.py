# SPDX-License-Identifier: Apache-2.0
"""How values compare that SQLite holds as texts: numbers by value, times by the moment they mean.

SQLite itself compares their characters: '9.5' would be more than '10.0', and '2026-11-02 10:00' less than
'2026-11-02T09:00'.
"""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any

from airflow_parallel_provider.values.kinds import Kind

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Mapping

    from airflow_parallel_provider.values.table_shape import TableShape

_NUMBER, _TIME = "parallel_number", "parallel_time"
_COLLATION_OF_KIND: Mapping[Kind, str] = {
    Kind.DECIMAL: _NUMBER,
    Kind.DATE: _TIME,
    Kind.DATETIME: _TIME,
    Kind.DATETIMETZ: _TIME,
}


def create_collations(raw: sqlite3.Connection) -> None:
    """Make the collations known to a connection. They are used in statements only, never in a table."""
    raw.create_collation(_NUMBER, _compare_numbers)
    raw.create_collation(_TIME, _compare_times)


def collation_clause(shape: TableShape, name: str | None) -> str:
    """What makes a comparison with a column one of values; empty where SQLite's own is."""
    column = shape.by_name.get(name or "")
    found = None if column is None else _COLLATION_OF_KIND.get(column.kind)
    return "" if found is None else f" COLLATE {found}"


def _compare_numbers(first: str, second: str) -> int:
    return _compare(first, second, Decimal)


def _compare_times(first: str, second: str) -> int:
    return _compare(first, second, _moment)


def _moment(text: str) -> datetime:
    found = datetime.fromisoformat(text)
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)


def _compare(first: str, second: str, read: Callable[[str], Any]) -> int:
    try:
        one, two = read(first), read(second)
        return int(one > two) - int(one < two)
    except (ValueError, InvalidOperation):  # not what the type of the column says: as SQLite compares texts
        return int(first > second) - int(first < second)
