"""What a value is and what a column holds, independent of any database.

A *kind* is a class of values that every backend stores in one way. Values are first reduced to a handful of plain
Python types (:func:`plain`), so that everything above has to know only those.
"""

from __future__ import annotations

import re
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum, StrEnum
from typing import Any
from uuid import UUID

from airflow_parallel_provider.errors import PlanError

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
    """A dict or a list."""
    NULL = "null"
    """Nothing but None so far."""
    OTHER = "other"
    """A column type of the database that none of the above describes; values go through as they are."""


KIND_OF_TYPE: Mapping[type, Kind] = {
    type(None): Kind.NULL,
    bool: Kind.BOOL,
    int: Kind.INT,
    float: Kind.FLOAT,
    Decimal: Kind.DECIMAL,
    str: Kind.TEXT,
    bytes: Kind.BYTES,
    date: Kind.DATE,
    datetime: Kind.DATETIME,
    time: Kind.TIME,
    timedelta: Kind.TIMEDELTA,
    UUID: Kind.UUID,
    dict: Kind.JSON,
    list: Kind.JSON,
}
"""The plain types. Everything :func:`plain` returns has one of these, or cannot be stored."""

_NUMBERS = frozenset({Kind.INT, Kind.HUGEINT, Kind.FLOAT, Kind.DECIMAL})
_TIMES = frozenset({Kind.DATE, Kind.DATETIME, Kind.DATETIMETZ})
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
"""Kinds found together in one column -> the first kind in this list that takes them all."""
_WITH_JSON = frozenset({Kind.JSON, Kind.TEXT, Kind.INT, Kind.HUGEINT, Kind.FLOAT, Kind.BOOL})


def common_kind(kinds: frozenset[Kind]) -> Kind | None:
    """The narrowest kind of column that takes values of all these kinds; None when there is none."""
    some = kinds - {Kind.NULL}
    if len(some) <= 1:
        return next(iter(some), Kind.NULL)
    if Kind.JSON in some and some <= _WITH_JSON:
        return Kind.JSON
    return next((kind for kind, takes in _COMMON if some <= takes), None)


_ALIASES = {
    "boolean": Kind.BOOL, "integer": Kind.INT, "bigint": Kind.INT, "double": Kind.FLOAT, "real": Kind.FLOAT,
    "numeric": Kind.DECIMAL, "str": Kind.TEXT, "string": Kind.TEXT, "varchar": Kind.TEXT, "blob": Kind.BYTES,
    "binary": Kind.BYTES, "timestamp": Kind.DATETIME, "timestamptz": Kind.DATETIMETZ, "interval": Kind.TIMEDELTA,
    "dict": Kind.JSON, "list": Kind.JSON,
}  # fmt: skip
_STORABLE = [kind.value for kind in Kind if kind not in (Kind.NULL, Kind.OTHER)]
_SPELLED = re.compile(r"([a-z]+)\s*(?:\(\s*(\d+)\s*(?:,\s*(\d+)\s*)?\))?")


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

    def spell(self) -> str:
        """The type as an author would write it; empty when it is to be inferred."""
        if self.kind is None:
            return ""
        numbers = [str(n) for n in (self.length, self.precision, self.scale) if n is not None]
        return f"{self.kind}({','.join(numbers)})" if numbers else str(self.kind)


def declared_columns(given: object, field: str) -> tuple[Column, ...] | None:
    """Read ``columns=``: a mapping of name to type, names alone, or a class whose fields are annotated.

    A type is a Python type (``int``, ``float | None``, ``Decimal``, ``datetime``, ``dict`` ...) or its name
    (``"int"``, ``"datetimetz"``, ``"decimal(18,4)"``, ``"text(20)"``).

    :raises PlanError: when it is none of those.
    """
    if given is None:
        return None
    if isinstance(given, type):
        from airflow_parallel_provider.sinks.annotations import declared_class

        return declared_class(given, field)
    if isinstance(given, str) or not isinstance(given, Iterable):
        raise PlanError(field, given, "give a mapping of column name to type, a class, or a list of column names")
    pairs: list[Column]
    if isinstance(given, Mapping):
        pairs = [_declared(name, spelled, field) for name, spelled in given.items()]
    else:
        pairs = [item if isinstance(item, Column) else _declared(item, None, field) for item in given]
    if not pairs:
        raise PlanError(field, given, "name at least one column, or leave it out to take the columns from the rows")
    seen: set[str] = set()
    for column in pairs:
        if column.name in seen:
            raise PlanError(field, column.name, "this column is named twice; name it once")
        seen.add(column.name)
    return tuple(pairs)


def _declared(name: object, spelled: object, field: str) -> Column:
    if not isinstance(name, str) or not name:
        raise PlanError(field, name, "a column's name is a text that is not empty")
    if spelled is None:
        return Column(name)
    try:
        return replace(parse_type(spelled), name=name)
    except ValueError as error:
        raise PlanError(f"{field}[{name!r}]", spelled, str(error)) from None


def parse_type(spelled: object) -> Column:
    """A nameless column of the type an author wrote.

    :raises ValueError: its text is the cure.
    """
    if isinstance(spelled, str):
        return _parse_spelled(spelled)
    bare = _without_none(spelled)
    if isinstance(bare, type) and bare is not type(None) and bare in KIND_OF_TYPE:
        return Column("", KIND_OF_TYPE[bare])
    raise ValueError(f"write one of the types {', '.join(t.__name__ for t in KIND_OF_TYPE if t is not type(None))}"
                     f", or a name such as 'datetimetz' or 'decimal(18,4)'")  # fmt: skip


def _without_none(annotation: Any) -> Any:
    """``X | None`` -> ``X``, ``dict[str, int]`` -> ``dict``."""
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        rest = [arg for arg in typing.get_args(annotation) if arg is not type(None)]
        annotation = rest[0] if len(rest) == 1 else annotation
    return typing.get_origin(annotation) or annotation


def _parse_spelled(spelled: str) -> Column:
    match = _SPELLED.fullmatch(spelled.strip().lower())
    name = match.group(1) if match else ""
    kind = _ALIASES.get(name) or (Kind(name) if name in _STORABLE else None)
    if match is None or kind is None:
        raise ValueError(f"write one of {', '.join(_STORABLE)}; decimal(18,4) and text(20) take numbers")
    first, second = (int(number) if number else None for number in match.group(2, 3))
    if first is None:
        return Column("", kind)
    if kind is Kind.DECIMAL and first > 0 and (second or 0) <= first:
        return Column("", kind, precision=first, scale=second or 0)
    if kind in (Kind.TEXT, Kind.BYTES) and first > 0 and second is None:
        return Column("", kind, length=first)
    raise ValueError("only decimal(digits,digits after the point), text(length) and bytes(length) take numbers")


def plain(value: Any) -> Any:
    """Reduce a value to one of the plain types; a value that is none of them comes back as it is.

    Enum members become their value, NumPy and pandas scalars what they stand for (NaT and NA: None), subclasses their
    base, tuples lists, mappings dicts, byte buffers bytes.
    """
    kind = type(value)
    if kind in KIND_OF_TYPE:
        return value
    if isinstance(value, Enum):
        return plain(value.value)
    root = kind.__module__.partition(".")[0]
    if root == "numpy":
        return _plain_numpy(value)
    if root == "pandas":
        return _plain_pandas(value)
    return _plain_subclass(value)


def _plain_numpy(value: Any) -> Any:
    name = type(value).__name__
    if name == "ndarray":
        return value.tolist()
    if name in ("datetime64", "timedelta64"):
        # .item() of nanoseconds is an int: through microseconds it is a datetime. NaT becomes None.
        value = value.astype(f"{name}[us]")
    item = value.item() if hasattr(value, "item") else value
    return item if type(item) is type(value) else plain(item)  # a longdouble stays a longdouble


def _plain_pandas(value: Any) -> Any:
    name = type(value).__name__
    if name in ("NaTType", "NAType"):
        return None
    if name == "Timestamp":
        return value.to_pydatetime(warn=False)
    if name == "Timedelta":
        return value.to_pytimedelta()
    return value


def _plain_subclass(value: Any) -> Any:
    for base, rebased in _REBASED:
        if isinstance(value, base):
            return rebased(value)
    return value


def _plain_timedelta(value: timedelta) -> timedelta:
    # pendulum's Duration gives `days` and `seconds` another meaning for negative values; the base's own do not lie.
    parts = (field.__get__(value) for field in (timedelta.days, timedelta.seconds, timedelta.microseconds))
    return timedelta(*parts)


def _plain_datetime(value: datetime) -> datetime:
    return datetime.combine(_plain_date(value), _plain_time(value.timetz()))


def _plain_date(value: date) -> date:
    return date(value.year, value.month, value.day)


def _plain_time(value: time) -> time:
    return time(value.hour, value.minute, value.second, value.microsecond, value.tzinfo, fold=value.fold)


_REBASED: tuple[tuple[Any, Callable[[Any], Any]], ...] = (
    (datetime, _plain_datetime),  # before date, its base; pendulum.DateTime is what Airflow hands out
    (date, _plain_date),
    (timedelta, _plain_timedelta),
    (time, _plain_time),
    (str, str.__str__),  # the text itself, whatever the subclass shows of it
    (int, int),
    (float, float),
    ((bytes, bytearray, memoryview), bytes),
    (Decimal, Decimal),
    (UUID, lambda value: UUID(int=value.int)),
    ((list, tuple), list),
    (Mapping, dict),
)
