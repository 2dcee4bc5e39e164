"""Types of MySQL and MariaDB whose values SQLAlchemy changes when it reads or compares them."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, datetime, time, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

from airflow_parallel_provider.sources.sql.column_readers import UnreadableValue, read_with

if TYPE_CHECKING:
    from airflow_parallel_provider.values.table_shape import TableColumn, TableShape

DIALECTS = ("mysql", "mariadb")

_DAY = timedelta(days=1)


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
    if isinstance(column.sql_type, mysql.TIME):
        return replace(column, sql_type=read_with("TIME", read=_time))
    if isinstance(column.sql_type, sa.Date):
        return replace(column, sql_type=read_with("DATE", read=_date, select=_text))
    if isinstance(column.sql_type, sa.DateTime):
        return replace(column, sql_type=read_with("DATETIME", read=_datetime, select=_text))
    if isinstance(column.sql_type, sa.Uuid):
        return replace(column, sql_type=read_with("UUID", read=_uuid, write=str))
    return column


def _time(stored: Any) -> Any:
    """The value as a time of day if it is one; such a column holds -838 to 838 hours, and all others are durations."""
    if isinstance(stored, timedelta) and timedelta(0) <= stored < _DAY:
        seconds = stored.seconds
        return time(seconds // 3600, seconds // 60 % 60, seconds % 60, stored.microseconds)
    return stored


def _uuid(stored: Any) -> Any:
    return UUID(stored) if isinstance(stored, str) else stored


def _text(column: Any) -> Any:
    """A date as text: drivers return NULL for a date that does not exist, such as 0000-00-00."""
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
