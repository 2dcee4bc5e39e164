# SPDX-License-Identifier: Apache-2.0
"""When a service that refused a call may be asked again: what its error says."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from airflow_parallel_provider.foreign.calls import Conversion, convert

if TYPE_CHECKING:
    from datetime import datetime

HEADER = "Retry-After"

LONGEST = 86_400.0
"""Seconds; what asks for more is taken as a day."""


def retry_after_of(error: BaseException) -> float | None:
    """Seconds to wait: from the error's ``retry_after``, or the header ``Retry-After`` of its ``response``; else None.

    The attribute may be a number of seconds, a ``timedelta``, a ``datetime`` or a text as in the header. Never raises.
    """
    seconds = convert(lambda conversion: _said_by(error, conversion), None)
    return None if seconds is None else min(LONGEST, max(0.0, seconds))


def _said_by(error: BaseException, conversion: Conversion) -> float | None:
    own: dict[str, Any] = object.__getattribute__(error, "__dict__")
    if not any(name in place for place in (own, *(base.__dict__ for base in _MRO(type(error)))) for name in _NAMES):
        return None
    said: Any = own.get("retry_after")
    if type(said) not in (int, float):
        conversion.need_code()
        said = getattr(error, "retry_after", None)
    seconds = None if said is None or callable(said) else _seconds(said)
    if seconds is None:
        headers = getattr(getattr(error, "response", None), "headers", None)
        said = None if headers is None else headers.get(HEADER)
        seconds = None if said is None else _seconds(said)
    return seconds


_NAMES = ("retry_after", "response")

_MRO: Callable[[type], tuple[type, ...]] = type.__dict__["__mro__"].__get__


def _seconds(said: Any) -> float | None:
    from datetime import datetime, timedelta  # a worker process starts two milliseconds sooner without it

    if isinstance(said, bool):
        return None
    if isinstance(said, timedelta):
        return said.total_seconds()
    if isinstance(said, datetime):
        return _until(said)
    if isinstance(said, (bytes, str)):
        text = said.decode() if isinstance(said, bytes) else said
        try:
            said = float(text)
        except ValueError:
            from email.utils import parsedate_to_datetime  # only for a date: it takes milliseconds to import

            return _until(parsedate_to_datetime(text))
    seconds = float(said)
    return None if math.isnan(seconds) else seconds


def _until(moment: datetime) -> float:
    from datetime import UTC, datetime

    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return (moment - datetime.now(UTC)).total_seconds()
