# SPDX-License-Identifier: Apache-2.0
"""Kinds of values and the columns that hold them, independent of any database.

A *kind* is a class of values that each backend stores in one way. Values are first reduced to a few plain Python types
(:func:`~airflow_parallel_provider.values.plain.plain`), so that the rest of the code knows only those.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import StrEnum
from uuid import UUID

from airflow_parallel_provider.values.intervals import DayTime, Interval
from airflow_parallel_provider.values.json_text import JsonNumber, JsonText
from airflow_parallel_provider.values.unreadable import Unreadable

INT64_MIN, INT64_MAX = -(2**63), 2**63 - 1


class Kind(StrEnum):
    """What a column holds."""

    BOOL = "bool"
    INT = "int"
    """Integers of up to 64 bit."""
    HUGEINT = "hugeint"
    """Integers beyond 64 bit."""
    FLOAT = "float"
    DECIMAL = "decimal"
    TEXT = "text"
    BYTES = "bytes"
    DATE = "date"
    DATETIME = "datetime"
    """Without a time zone."""
    DATETIMETZ = "datetimetz"
    """An instant."""
    TIME = "time"
    TIMEDELTA = "timedelta"
    UUID = "uuid"
    JSON = "json"
    """A dict, a list or a :class:`~airflow_parallel_provider.values.json_text.JsonText`."""
    NULL = "null"
    """Only None so far."""
    OTHER = "other"
    """A column type of the database that none of the above describes; its values are not converted."""


KIND_OF_TYPE: Mapping[type, Kind] = {
    type(None): Kind.NULL,
    bool: Kind.BOOL,
    int: Kind.INT,
    float: Kind.FLOAT,
    JsonNumber: Kind.FLOAT,
    Decimal: Kind.DECIMAL,
    str: Kind.TEXT,
    bytes: Kind.BYTES,
    date: Kind.DATE,
    datetime: Kind.DATETIME,
    time: Kind.TIME,
    timedelta: Kind.TIMEDELTA,
    DayTime: Kind.TIMEDELTA,
    Interval: Kind.TIMEDELTA,
    Unreadable: Kind.NULL,
    UUID: Kind.UUID,
    JsonText: Kind.JSON,
    dict: Kind.JSON,
    list: Kind.JSON,
}
"""Plain type -> kind. A value of another type, after :func:`~airflow_parallel_provider.values.plain.plain`, cannot be
stored."""

_NUMBERS = frozenset({Kind.INT, Kind.HUGEINT, Kind.FLOAT, Kind.DECIMAL})

_TIMES = frozenset({Kind.DATE, Kind.DATETIME, Kind.DATETIMETZ})

SEQUENCE_KINDS = frozenset({*_NUMBERS, *_TIMES, Kind.TEXT})
"""Kinds whose values may say which of two rows is newer. A text counts as its database sorts it: ISO times do."""

_COMMON: tuple[tuple[Kind, frozenset[Kind]], ...] = (
    (Kind.INT, frozenset({Kind.BOOL, Kind.INT})),
    (Kind.HUGEINT, frozenset({Kind.BOOL, Kind.INT, Kind.HUGEINT})),
    (Kind.FLOAT, frozenset({Kind.INT, Kind.FLOAT})),
    (Kind.DECIMAL, _NUMBERS),
    (Kind.DATETIME, frozenset({Kind.DATE, Kind.DATETIME})),
    (Kind.DATETIMETZ, _TIMES),
    # Not bool: as text it could be 'True', 'true', 't' or '1'.
    (Kind.TEXT, _NUMBERS | _TIMES | {Kind.TEXT, Kind.UUID, Kind.TIME}),
)
"""Kind of column, and the kinds of values that it holds without loss; the first that holds all of them is chosen."""

_WITH_JSON = frozenset({Kind.JSON, Kind.TEXT, Kind.INT, Kind.HUGEINT, Kind.FLOAT, Kind.BOOL})


def common_kind(kinds: frozenset[Kind]) -> Kind | None:
    """The narrowest kind of column that takes values of all these kinds; None when there is none."""
    present = kinds - {Kind.NULL}
    if len(present) <= 1:
        return next(iter(present), Kind.NULL)
    if Kind.JSON in present and present <= _WITH_JSON:
        return Kind.JSON
    return next((kind for kind, accepted in _COMMON if present <= accepted), None)


@dataclass(frozen=True, slots=True)
class Column:
    """A column as an author declares it, or as it was inferred from rows."""

    name: str
    kind: Kind | None = None
    """None: to be inferred."""
    length: int | None = None
    """Characters or bytes, for text and bytes."""
    precision: int | None = None
    """Digits altogether, for decimals."""
    scale: int | None = None
    """Digits after the point, for decimals."""

    def type_name(self) -> str:
        """The type as an author writes it; empty when it is to be inferred."""
        if self.kind is None:
            return ""
        numbers = [str(n) for n in (self.length, self.precision, self.scale) if n is not None]
        return f"{self.kind}({','.join(numbers)})" if numbers else str(self.kind)
