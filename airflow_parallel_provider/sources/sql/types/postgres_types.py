# SPDX-License-Identifier: Apache-2.0
"""Types of PostgreSQL that are read by functions of our own: what drivers make of them cannot be written as it was."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from struct import Struct
from typing import TYPE_CHECKING, Any

from airflow_parallel_provider.sources.sql.types.column_readers import read_with
from airflow_parallel_provider.values.intervals import Interval, as_sql, span
from airflow_parallel_provider.values.unreadable import UnreadableValue

if TYPE_CHECKING:
    from airflow_parallel_provider.values.table_shape import TableColumn, TableShape

_PARTS = Struct(">qii")
"""How the server sends an interval: microseconds, days, months."""


def with_exact_types(shape: TableShape, dialect: str) -> TableShape:
    """The table with types for intervals, whose months a driver would make 30 days, and for what is read as a text.

    That is, as PostgreSQL writes it: ranges, and arrays of intervals and of JSON.
    """
    if dialect != "postgresql":
        return shape
    return replace(shape, columns=tuple(_exact(column) for column in shape.columns))


def _exact(column: TableColumn) -> TableColumn:
    from sqlalchemy.dialects import postgresql

    # The type of a domain is in its attribute data_type.
    sql_type = getattr(column.sql_type, "data_type", column.sql_type)
    if isinstance(sql_type, postgresql.INTERVAL):
        return replace(column, sql_type=read_with("INTERVAL", read=_read, write=_write, select=_sent))
    if _is_read_as_text(sql_type):
        return replace(column, sql_type=read_with("TEXT", select=_text))
    return column


def _is_read_as_text(sql_type: Any) -> bool:
    import sqlalchemy as sa
    from sqlalchemy.dialects import postgresql

    if isinstance(sql_type, sa.ARRAY):
        item = getattr(sql_type.item_type, "data_type", sql_type.item_type)
        return isinstance(item, (postgresql.INTERVAL, sa.JSON)) or _is_read_as_text(item)
    return type(sql_type).__name__.endswith(("RANGE", "MULTIRANGE"))


def _text(column: Any) -> Any:
    import sqlalchemy as sa

    return sa.cast(column, sa.Text())


def _sent(column: Any) -> Any:
    """The interval in the form in which the server sends it: no part is converted to another."""
    import sqlalchemy as sa

    return sa.func.interval_send(column)


def _read(stored: Any) -> Any:
    if stored is None:
        return None
    microseconds, days, months = _PARTS.unpack(stored)
    try:
        return span(months, days, microseconds)
    except OverflowError:
        raise UnreadableValue("an interval beyond the range of a timedelta") from None


def _write(bound: Any) -> Any:
    """A bound of a key, which is compared with the interval."""
    return as_sql(bound) if isinstance(bound, (timedelta, Interval)) else bound
