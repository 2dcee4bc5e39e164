# SPDX-License-Identifier: Apache-2.0
"""How psycopg 3 sends spans of time, part by part: its own way makes days of hours, and knows no months."""

from __future__ import annotations

from datetime import timedelta
from functools import cache
from struct import Struct
from typing import Any

from airflow_parallel_provider.values.intervals import DayTime, Interval, as_sql, parts

_PARTS = Struct(">qii")
_OID = 1186


def register(raw: Any) -> None:
    """Let a connection of psycopg send each :class:`timedelta` and :class:`Interval` as it is."""
    text, binary = _dumpers()
    for kind in (DayTime, Interval, timedelta):
        raw.adapters.register_dumper(kind, text)
        raw.adapters.register_dumper(kind, binary)


@cache
def _dumpers() -> tuple[type, type]:
    from psycopg.adapt import Dumper
    from psycopg.pq import Format

    class IntervalText(Dumper):  # type: ignore[misc]  # untyped where psycopg is not installed
        oid = _OID

        def dump(self, obj: Any) -> bytes:
            return as_sql(obj).encode()

    class IntervalBinary(Dumper):  # type: ignore[misc]  # as above
        format = Format.BINARY
        oid = _OID

        def dump(self, obj: Any) -> bytes:
            months, days, microseconds = parts(obj)
            return _PARTS.pack(microseconds, days, months)

    return IntervalText, IntervalBinary
