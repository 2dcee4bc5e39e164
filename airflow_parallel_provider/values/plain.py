# SPDX-License-Identifier: Apache-2.0
"""Values of NumPy, pandas and other libraries as plain Python values."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID

from airflow_parallel_provider.values.intervals import span
from airflow_parallel_provider.values.json_text import JsonText
from airflow_parallel_provider.values.kinds import KIND_OF_TYPE


def plain(value: Any) -> Any:
    """Reduce a value to one of the plain types (:data:`~airflow_parallel_provider.values.kinds.KIND_OF_TYPE`).

    Enum members become their value, scalars of NumPy and pandas the Python value that they represent (NaT and NA:
    None), subclasses their base, tuples lists, mappings dicts, byte buffers bytes. Any other value is returned as
    it is.
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
    if kind.__name__ == "MonthDayNano" and hasattr(value, "nanoseconds"):  # of Arrow; its module is "builtins"
        microseconds = abs(value.nanoseconds) // 1000
        return span(value.months, value.days, microseconds if value.nanoseconds >= 0 else -microseconds)
    return _plain_subclass(value)


def _plain_numpy(value: Any) -> Any:
    name = type(value).__name__
    if name == "ndarray":
        return value.tolist()
    if name in ("datetime64", "timedelta64"):
        # .item() of nanoseconds is an int, of microseconds a datetime. NaT becomes None.
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
    for base, to_base in _BASES:
        if isinstance(value, base):
            return to_base(value)
    return value


def own_parts(value: Any) -> list[Any]:
    """The content of a list, a tuple or a subclass of them, whatever its own methods say: a length that lies would lose
    parts.
    """
    base: Any = list if isinstance(value, list) else tuple
    return list(base.__iter__(value))


def own_pairs(value: Mapping[Any, Any]) -> dict[Any, Any]:
    """The content of a mapping; of a subclass of ``dict`` what it holds as a dict, if it holds anything."""
    held = dict(dict.items(value)) if isinstance(value, dict) else None
    return held or dict(value)


def _plain_timedelta(value: timedelta) -> timedelta:
    # pendulum's Duration gives `days` and `seconds` another meaning for negative values: use the fields of the base.
    parts = (field.__get__(value) for field in (timedelta.days, timedelta.seconds, timedelta.microseconds))
    return timedelta(*parts)


def _plain_datetime(value: datetime) -> datetime:
    return datetime.combine(_plain_date(value), _plain_time(value.timetz()))


def _plain_date(value: date) -> date:
    return date(value.year, value.month, value.day)


def _plain_time(value: time) -> time:
    return time(value.hour, value.minute, value.second, value.microsecond, value.tzinfo, fold=value.fold)


_BASES: tuple[tuple[Any, Callable[[Any], Any]], ...] = (
    (datetime, _plain_datetime),  # before date, its base; Airflow's own times are pendulum.DateTime
    (date, _plain_date),
    (timedelta, _plain_timedelta),
    (time, _plain_time),
    (JsonText, JsonText),
    (str, str.__str__),  # the text itself, whatever the subclass's own __str__ says
    (int, int.__int__),  # likewise the number itself
    (float, float.__float__),
    ((bytes, bytearray, memoryview), lambda value: bytes(memoryview(value))),
    (Decimal, Decimal),
    (UUID, lambda value: UUID(int=value.int)),
    ((list, tuple), own_parts),
    (Mapping, own_pairs),
)
