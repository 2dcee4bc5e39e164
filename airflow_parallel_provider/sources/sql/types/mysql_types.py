# SPDX-License-Identifier: Apache-2.0
"""Types of MySQL and MariaDB whose values SQLAlchemy changes when it reads or compares them."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, datetime, time, timedelta
from struct import Struct
from typing import TYPE_CHECKING, Any
from uuid import UUID

from airflow_parallel_provider.sources.sql.types.column_readers import read_with
from airflow_parallel_provider.values.intervals import DayTime
from airflow_parallel_provider.values.unreadable import UnreadableValue

if TYPE_CHECKING:
    from airflow_parallel_provider.values.table_shape import TableColumn, TableShape

DIALECTS = ("mysql", "mariadb")

_DAY = timedelta(days=1)

_FLOAT, _MOST = Struct("f"), 3.4028234663852886e38


def with_exact_types(shape: TableShape, dialect: str) -> TableShape:
    """The table with types that read doubles, dates, times and UUIDs as the database stores them."""
    if dialect not in DIALECTS:
        return shape
    return replace(shape, columns=tuple(_exact(column) for column in shape.columns))


def _exact(column: TableColumn) -> TableColumn:
    import sqlalchemy as sa
    from sqlalchemy.dialects import mysql

    if isinstance(column.sql_type, (mysql.DOUBLE, mysql.REAL)):
        # As decimals they would be rounded to ten places: 1e-12 would become 0.
        return replace(column, sql_type=mysql.DOUBLE(asdecimal=False))
    readers: tuple[tuple[type, dict[str, Any]], ...] = (
        (mysql.FLOAT, {"read": _four_bytes, "select": _as_double}),
        (mysql.SET, {"select": _text}),
        (mysql.TIME, {"read": _time}),
        (sa.Date, {"read": _date, "select": _text}),
        (sa.DateTime, {"read": _datetime, "select": _text}),
        (sa.Uuid, {"read": _uuid, "write": str}),
    )
    how = next((how for base, how in readers if isinstance(column.sql_type, base)), None)
    if how is None:
        return column
    return replace(column, sql_type=read_with(type(column.sql_type).__name__.upper(), **how))


def _as_double(column: Any) -> Any:
    """A float of four bytes as one of eight: the server shows the first six digits of the other only."""
    import sqlalchemy as sa

    return column + sa.literal_column("0e0")


def _four_bytes(stored: Any) -> Any:
    """The shortest number that is this float of four bytes: 0.1, not 0.10000000149011612."""
    if stored is None:
        return None
    shortest = (float(f"{stored:.{digits}g}") for digits in range(6, 10))
    return next(
        (each for each in shortest if abs(each) <= _MOST and _FLOAT.unpack(_FLOAT.pack(each))[0] == stored), stored
    )


def _time(stored: Any) -> Any:
    """The value as a time of day if it is one; such a column holds -838 to 838 hours, and all others are durations."""
    if isinstance(stored, timedelta) and timedelta(0) <= stored < _DAY:
        seconds = stored.seconds
        return time(seconds // 3600, seconds // 60 % 60, seconds % 60, stored.microseconds)
    return DayTime(0, stored // timedelta(microseconds=1)) if isinstance(stored, timedelta) else stored


def _uuid(stored: Any) -> Any:
    return UUID(stored) if isinstance(stored, str) else stored


def _text(column: Any) -> Any:
    """The text that the server writes.

    Drivers return NULL for a date that does not exist, such as 0000-00-00, and a Python set for a SET.
    """
    import sqlalchemy as sa

    return sa.cast(column, sa.CHAR())


def _date(stored: Any) -> Any:
    return _existing(date.fromisoformat, stored)


def _datetime(stored: Any) -> Any:
    return _existing(datetime.fromisoformat, stored)


def _existing(parse: Any, stored: Any) -> Any:
    if stored is None:
        return None
    try:
        return parse(stored if isinstance(stored, str) else bytes(stored).decode())
    except ValueError:
        raise UnreadableValue("a date that does not exist, such as 0000-00-00 or 2024-02-31") from None
