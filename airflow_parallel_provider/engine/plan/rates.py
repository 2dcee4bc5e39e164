# SPDX-License-Identifier: Apache-2.0
"""Rates as an author writes them: a number per second, or a text with its unit, such as ``"600/minute"``."""

from __future__ import annotations

import re
from typing import Any, Final

from airflow_parallel_provider.errors import PlanError

SECONDS: Final = {"second": 1.0, "s": 1.0, "minute": 60.0, "min": 60.0, "hour": 3600.0, "h": 3600.0}

_RATE: Final = re.compile(r"\s*(?P<number>[0-9_.,eE+]+)\s*(?:/|per)\s*(?P<unit>[a-z]+?)\s*", re.IGNORECASE)

CURE: Final = 'give items per second, as a number, or a text such as "600/minute" (second, minute, hour)'


def is_rate(value: object) -> bool:
    """Whether this is a text with a number and a unit."""
    return isinstance(value, str) and _RATE.fullmatch(value) is not None


def per_second(field: str, rate: Any) -> Any:
    """The rate per second of such a text; any other value as it is.

    :raises PlanError: when the text is no rate.
    """
    if not isinstance(rate, str):
        return rate
    found = _RATE.fullmatch(rate)
    unit = found and SECONDS.get(found["unit"].lower())
    try:
        number = float(found["number"]) if found else 0.0
    except ValueError:
        number = 0.0
    if not unit or not 0 < number < float("inf"):
        raise PlanError(field, rate, CURE)
    return number / unit
