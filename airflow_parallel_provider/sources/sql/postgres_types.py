"""Intervals of PostgreSQL, of which drivers would make each month 30 days and each year 365 days."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from airflow_parallel_provider.sources.sql.column_readers import UnreadableValue, read_with

if TYPE_CHECKING:
    from airflow_parallel_provider.values.table_shape import TableShape


def with_exact_intervals(shape: TableShape, dialect: str) -> TableShape:
    """The table with a type for intervals that refuses months and years, which a timedelta cannot hold."""
    from sqlalchemy.dialects import postgresql

    if dialect != "postgresql":
        return shape
    columns = (
        replace(column, sql_type=read_with("INTERVAL", read=_read, select=_seconds))
        # The type of a domain is in its attribute data_type.
        if isinstance(getattr(column.sql_type, "data_type", column.sql_type), postgresql.INTERVAL)
        else column
        for column in shape.columns
    )
    return replace(shape, columns=tuple(columns))


def _seconds(column: Any) -> Any:
    """The length in seconds as a text; of an interval with months or years, an empty text."""
    import sqlalchemy as sa

    has_months = sa.or_(sa.func.date_part("year", column) != 0, sa.func.date_part("month", column) != 0)
    # Not date_part(), which returns a float: extract() is exact since PostgreSQL 14.
    seconds = sa.cast(sa.extract("epoch", column), sa.Text())
    return sa.case((has_months, ""), else_=seconds)


def _read(stored: Any) -> Any:
    if stored is None:
        return None
    if not stored:
        raise UnreadableValue("an interval with months or years, whose days are not known")
    try:
        return timedelta(microseconds=int(Decimal(stored).scaleb(6).to_integral_value()))
    except (ArithmeticError, ValueError):
        raise UnreadableValue("an interval beyond the range of a timedelta") from None
