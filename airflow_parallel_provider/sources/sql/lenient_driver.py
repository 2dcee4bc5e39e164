# SPDX-License-Identifier: Apache-2.0
"""Reading on where a driver cannot read a value: the value is marked, and the other rows are read.

A driver that makes a Python object of each value fails for the whole result when it cannot. That is rare, and a look at
each value takes time, so it is only done on a connection on which it has happened.

Psycopg 2, which Airflow 3.1 uses, does not fail: it makes 9999-12-31 of ``infinity``, and midnight of ``24:00:00``.
There :func:`prepare` has each date and time looked at from the beginning.
"""

from __future__ import annotations

from functools import partial
from typing import Any
from weakref import WeakSet

_TIMES = {1082: "date", 1083: "time", 1114: "timestamp", 1184: "timestamptz", 1186: "interval", 1266: "timetz"}
"""Types of PostgreSQL with values that Python does not have."""
_ARRAYS = {1182: "date[]", 1183: "time[]", 1115: "timestamp[]", 1185: "timestamptz[]", 1270: "timetz[]"}
_ARRAYS_OF = {1182: 1082, 1183: 1083, 1115: 1114, 1185: 1184, 1270: 1266}

_PREPARED: WeakSet[Any] = WeakSet()
_LENIENT: WeakSet[Any] = WeakSet()
"""Connections of psycopg 2, which take no attribute: whose types are ours, and on which a value could not be read."""

_NO_DATE = "a date or time that Python does not have, such as infinity or one after the year 9999"

_MARK = "airflow_parallel_is_lenient"
"""Attribute of a lenient connection of psycopg."""


class NotRead:
    """In the place of a value that the driver could not read."""

    __slots__ = ("reason", "source_type", "text")

    def __init__(self, reason: str, source_type: str | None = None, text: str = "") -> None:
        self.reason = reason
        self.source_type = source_type
        """The type whose text is known; None: no text."""
        self.text = text


def prepare(raw: Any) -> None:
    """Let a connection never read another value than the one that is kept."""
    if type(raw).__module__.partition(".")[0] != "psycopg2" or raw in _PREPARED:
        return
    from psycopg2 import extensions

    _PREPARED.add(raw)
    of_driver = {
        1082: extensions.PYDATE, 1083: extensions.PYTIME, 1266: extensions.PYTIME, 1114: extensions.PYDATETIME,
        1184: extensions.PYDATETIMETZ,
    }  # fmt: skip
    iso = _writes_iso(raw.get_parameter_status("DateStyle"))
    for oid, inner in of_driver.items():
        caster = partial(_psycopg2_time, inner, _TIMES[oid] if iso else None)
        extensions.register_type(extensions.new_type((oid,), f"PARALLEL_{oid}", caster), raw)
    for oid, of in _ARRAYS_OF.items():
        # Only the text of one element is known here, and not that of the array: such a value is not copied as text.
        element = extensions.new_type((of,), f"PARALLEL_IN_{oid}", partial(_psycopg2_time, of_driver[of], None))
        extensions.register_type(extensions.new_array_type((oid,), f"PARALLEL_{oid}", element), raw)


def _writes_iso(style: str | None) -> bool:
    """Whether texts of dates are read alike everywhere."""
    return (style or "").startswith("ISO")


def _psycopg2_time(inner: Any, name: str | None, text: str | None, cursor: Any) -> Any:
    from psycopg2 import Error

    if text is not None and not text.endswith("infinity") and not text.startswith("24:"):
        try:
            return inner(text, cursor)
        except (Error, ValueError, OverflowError):
            pass
    if text is None:
        return None
    _LENIENT.add(cursor.connection)
    return NotRead(_NO_DATE, name, text)


def make_lenient(raw: Any, error: Exception | None = None) -> bool:
    """Let a connection read on; False where that has been done already, or would not help.

    :param error: what has happened; None: nothing yet.
    """
    driver = type(raw).__module__.partition(".")[0]
    if is_lenient(raw):
        return False
    if driver == "psycopg" and (error is None or type(error).__name__ == "DataError"):
        _make_psycopg_lenient(raw)
    elif driver == "sqlite3" and (error is None or "decode" in str(error)):
        raw.text_factory = _text
    return is_lenient(raw)


def is_lenient(raw: Any) -> bool:
    """Whether a connection has been made lenient."""
    return getattr(raw, "text_factory", None) is _text or getattr(raw, _MARK, False) or raw in _LENIENT


def not_read_in(value: Any) -> NotRead | None:
    """What could not be read: a value, or one within an array; None: all could."""
    if type(value) is NotRead:
        return value
    if type(value) is list:
        return next(filter(None, map(not_read_in, value)), None)
    return None


def reason_in(value: Any) -> str | None:
    """Why a value, or one within an array, could not be read; None: it could."""
    found = not_read_in(value)
    return None if found is None else str(found.reason)


def _make_psycopg_lenient(raw: Any) -> None:
    from psycopg.pq import Format

    iso = _writes_iso(raw.info.parameter_status("DateStyle"))
    for oid, name in {**_TIMES, **_ARRAYS}.items():
        loader = raw.adapters.get_loader(oid, Format.TEXT)
        raw.adapters.register_loader(oid, _guarded(loader, name if iso else None))
    setattr(raw, _MARK, True)


def _guarded(loader: Any, name: str | None) -> Any:
    """A loader of psycopg that marks what another one cannot read.

    :param name: of the type; None: its texts are of no use.
    """
    from psycopg import Error
    from psycopg.adapt import Loader

    class Guarded(Loader):  # type: ignore[misc]  # untyped where psycopg is not installed
        def __init__(self, oid: int, context: Any = None) -> None:
            super().__init__(oid, context)
            self._inner = loader(oid, context)

        def load(self, data: Any) -> Any:
            try:
                found = self._inner.load(data)
            except (Error, ValueError, OverflowError):
                return self._not_read(data)
            return found if type(found) is not list or not_read_in(found) is None else self._not_read(data)

        def _not_read(self, data: Any) -> NotRead:
            return NotRead(_NO_DATE, name, bytes(data).decode())

    return Guarded


def _text(content: bytes) -> Any:
    try:
        return content.decode()
    except UnicodeDecodeError:
        return NotRead("a text that is not UTF-8")
