"""Types of MySQL and MariaDB whose values SQLAlchemy changes when it reads or compares them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import time, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

if TYPE_CHECKING:
    from airflow_parallel_provider.values.table_shape import TableColumn, TableShape

DIALECTS = ("mysql", "mariadb")

_DAY = timedelta(days=1)


def with_exact_types(shape: TableShape, dialect: str) -> TableShape:
    """The table with types that read doubles, times and UUIDs as the database stores them."""
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
        return replace(column, sql_type=_type("TIME", read=_time))
    if isinstance(column.sql_type, sa.Uuid):
        return replace(column, sql_type=_type("UUID", read=_uuid, write=str))
    return column


def _type(name: str, *, read: Callable[[Any], Any], write: Callable[[Any], Any] | None = None) -> Any:
    from sqlalchemy.types import UserDefinedType

    body = {
        "cache_ok": True,
        "get_col_spec": lambda _self, **_options: name,
        "result_processor": lambda *_: read,
        "bind_processor": lambda *_: write,
    }
    return type(name.capitalize(), (UserDefinedType,), body)()


def _time(stored: Any) -> Any:
    """The value as a time of day if it is one; such a column holds -838 to 838 hours, and all others are durations."""
    if isinstance(stored, timedelta) and timedelta(0) <= stored < _DAY:
        seconds = stored.seconds
        return time(seconds // 3600, seconds // 60 % 60, seconds % 60, stored.microseconds)
    return stored


def _uuid(stored: Any) -> Any:
    return UUID(stored) if isinstance(stored, str) else stored
