# SPDX-License-Identifier: Apache-2.0
"""The key of a table: what it must be, and conditions: above one row's key, up to another's.

Keys of several columns have lexicographic order: by the first column, among equals by the second, and so on::

    row values   (day, shop, id) > (?, ?, ?)                      PostgreSQL, SQLite: uses the key's index
    expanded     day >= ? AND (day > ? OR (day = ? AND (shop > ? OR (shop = ? AND id > ?))))        all others

MySQL and MariaDB also accept row values, but scan the whole table for them; for the expanded form they use a range.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow_parallel_provider.errors import PlanError
from airflow_parallel_provider.sources.sql.lenient_driver import reason_in
from airflow_parallel_provider.sources.sql.types.mysql_types import DIALECTS as MYSQL_DIALECTS
from airflow_parallel_provider.sql.backends.types import is_four_byte_float
from airflow_parallel_provider.values.unreadable import UnreadableValue

if TYPE_CHECKING:
    from airflow_parallel_provider.sources.sql.table_query import TableQuery
    from airflow_parallel_provider.values.table_shape import TableShape

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


def in_full_order(columns: Sequence[Any], dialect: str) -> list[Any]:
    """The order of all columns, in which only equal rows are beside each other in any order.

    By bytes: a collation may take two texts for one, and not every type has an order of its own.
    """
    import sqlalchemy as sa

    if dialect == "postgresql":
        return [sa.cast(column, sa.Text()).collate("C") for column in columns]
    if dialect in MYSQL_DIALECTS:
        return [sa.cast(column, sa.LargeBinary()) for column in columns]
    if dialect == "sqlite":
        return [sa.collate(sa.type_coerce(column, sa.Text()), "BINARY") for column in columns]
    return list(columns)


def is_unique(shape: TableShape, query: TableQuery) -> bool:
    """Whether the key's columns, or some of them, are a unique key of the table."""
    columns = frozenset(query.key_columns)
    return any(unique <= columns for unique in shape.unique_keys)


def require_unique(shape: TableShape, query: TableQuery) -> None:
    """Refuse a key that the table does not declare as unique.

    :raises PlanError: naming the unique keys of the table.
    """
    if is_unique(shape, query):
        return
    existing = [", ".join(sorted(unique)) for unique in shape.unique_keys]
    hint = f"; unique here: {' and '.join(map(repr, existing))}" if existing else ""
    alone = "this column alone" if len(query.key_columns) == 1 else "these columns alone"
    cure = f"no primary key or unique index consists of {alone}, so a range could separate equal keys{hint}"
    raise PlanError("SqlSource.key", query.key, cure)


def require_comparable(shape: TableShape, field: str, names: Sequence[str], dialect: str) -> None:
    """Refuse a column whose values do not equal themselves when they are read and compared.

    :param field: the argument that names the columns.
    :raises PlanError: naming the column.
    """
    for name in names:
        sql_type = shape.by_name[name].sql_type
        type_name = str(getattr(sql_type, "__visit_name__", "")).upper()
        if is_four_byte_float(sql_type, dialect):
            cure = "a four-byte float is read as another number than it is compared as; use another column"
            raise PlanError(f"SqlSource.{field}", name, cure)
        if type_name in ("ENUM", "SET") and dialect in MYSQL_DIALECTS:
            cure = f"this database sorts {type_name} by number and compares it as text; use another column"
            raise PlanError(f"SqlSource.{field}", name, cure)


def is_view(connection: Any, query: TableQuery) -> bool:
    """Whether a name is that of a view, materialized or not."""
    import sqlalchemy as sa

    inspector, found = sa.inspect(connection), set[str]()
    for names in ("get_view_names", "get_materialized_view_names"):  # the latter not in SQLAlchemy 1.4
        with contextlib.suppress(NotImplementedError, AttributeError):
            found.update(getattr(inspector, names)(schema=query.schema))
    return query.table in found


def readable_key(found: Sequence[Any]) -> KeyValues:
    """A key as it was read.

    :raises UnreadableValue: if Python cannot hold a value of it.
    """
    reason = next(filter(None, map(reason_in, found)), None)
    if reason is not None:
        raise UnreadableValue(reason)
    return tuple(found)
