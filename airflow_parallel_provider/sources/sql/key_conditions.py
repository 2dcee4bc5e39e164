"""Conditions on the key of a table: above one row's key, up to another's.

Keys of several columns have lexicographic order: by the first column, among equals by the second, and so on::

    row values   (day, shop, id) > (?, ?, ?)                      PostgreSQL, SQLite: uses the key's index
    expanded     day >= ? AND (day > ? OR (day = ? AND (shop > ? OR (shop = ? AND id > ?))))        all others

MySQL and MariaDB also accept row values, but scan the whole table for them; for the expanded form they use a range.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

KeyValues = tuple[Any, ...]
"""One row's key: a value for each of its columns."""

_WITH_ROW_VALUES = ("postgresql", "sqlite")


def above(columns: Sequence[Any], values: KeyValues, dialect: str) -> Any:
    """The condition that a row's key is greater than a key.

    :param columns: SQLAlchemy columns.
    :param dialect: name of the SQLAlchemy dialect.
    """
    return _compared(columns, values, dialect, upward=True)


def up_to(columns: Sequence[Any], values: KeyValues, dialect: str) -> Any:
    """The condition that a row's key is at most a key."""
    return _compared(columns, values, dialect, upward=False)


def _compared(columns: Sequence[Any], values: KeyValues, dialect: str, *, upward: bool) -> Any:
    import sqlalchemy as sa

    first, bound = columns[0], values[0]
    if len(columns) == 1:
        return first > bound if upward else first <= bound
    if dialect in _WITH_ROW_VALUES:
        row = sa.tuple_(*columns)
        key = sa.tuple_(*(sa.literal(value, column.type) for column, value in zip(columns, values, strict=True)))
        return row > key if upward else row <= key
    # The first comparison follows from the second; it lets the database use the index.
    indexed = first >= bound if upward else first <= bound
    return sa.and_(indexed, _expanded(columns, values, upward=upward))


def _expanded(columns: Sequence[Any], values: KeyValues, *, upward: bool) -> Any:
    import sqlalchemy as sa

    first, bound = columns[0], values[0]
    if len(columns) == 1:
        return first > bound if upward else first <= bound
    rest = _expanded(columns[1:], values[1:], upward=upward)
    return sa.or_(first > bound if upward else first < bound, sa.and_(first == bound, rest))
