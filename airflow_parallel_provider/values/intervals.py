# SPDX-License-Identifier: Apache-2.0
"""Spans of time as PostgreSQL and DuckDB keep them: months, days and microseconds, none of which is made of another.

A month has no fixed number of days, and a day not always 24 hours. So a ``timedelta``, whose days have 24 hours, holds
only a part of what these databases do.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Self

_DAY = 86_400_000_000


@dataclass(frozen=True, slots=True)
class Interval:
    """A span of time with months, which have no fixed length.

    ``SqlSource`` yields it for an interval of PostgreSQL with months or years; a span without these is a ``timedelta``.
    Columns of PostgreSQL and DuckDB take it. Other databases have no such type, and refuse it.
    """

    months: int = 0
    """Twelve for a year."""
    days: int = 0
    microseconds: int = 0
    """Hours, minutes and seconds, too."""


class DayTime(timedelta):
    """A timedelta that knows how it was divided into days and time: ``36:00:00`` is not ``1 day 12:00:00``."""

    days_apart: int
    microseconds_apart: int

    def __new__(cls, days: int, microseconds: int) -> Self:
        """Make one of its two parts, which may have different signs."""
        self = super().__new__(cls, days=days, microseconds=microseconds)
        self.days_apart = days
        self.microseconds_apart = microseconds
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        """As its two parts."""
        return DayTime, (self.days_apart, self.microseconds_apart)


def span(months: int, days: int, microseconds: int) -> timedelta | Interval:
    """A span of time of its three parts, as a timedelta if there are no months.

    :raises OverflowError: if a timedelta cannot be so long.
    """
    if months:
        return Interval(months, days, microseconds)
    # A timedelta keeps the parts apart as long as the time is a part of a day.
    if 0 <= microseconds < _DAY:
        return timedelta(days, 0, microseconds)
    return DayTime(days, microseconds)


def parts(value: timedelta | Interval) -> tuple[int, int, int]:
    """Months, days and microseconds."""
    if isinstance(value, Interval):
        return value.months, value.days, value.microseconds
    if isinstance(value, DayTime):
        return 0, value.days_apart, value.microseconds_apart
    return 0, value.days, value.seconds * 1_000_000 + value.microseconds


def as_sql(value: timedelta | Interval) -> str:
    """The text of an interval as PostgreSQL and DuckDB read it."""
    months, days, microseconds = parts(value)
    return f"{months} months {days} days {microseconds} microseconds"
