# SPDX-License-Identifier: Apache-2.0
"""Converts any value to plain JSON of a bounded size, for XCom."""

from __future__ import annotations

import json
import math
from typing import Any, Final

from airflow_parallel_provider.foreign.shown import text_of
from airflow_parallel_provider.foreign.text import LEAST, MOST, distinct

TEXT_LIMIT = 500
"""Most characters of one text."""

_DEEPEST: Final = 50


def to_json_value(value: Any, text_limit: int = TEXT_LIMIT) -> Any:
    """A copy of ``value`` made only of dicts with text keys, lists, clean texts, numbers, bools and None.

    What Airflow accepts in ``xcom_push`` and then fails the task with, after all work is done, does not pass: NaN and
    the infinities (JSON has none: they become None), whole numbers of more than 64 bits (the supervisor takes none:
    their digits as text), NUL and half surrogate pairs (PostgreSQL refuses them: see
    :func:`~airflow_parallel_provider.foreign.text.clean`). Any other value becomes its text. Long texts are cut. Keys
    that are the same as text are kept apart.
    """
    return _converted(value, text_limit, 0)


def _converted(value: Any, limit: int, depth: int) -> Any:
    kind = type(value)
    if value is None or kind is bool:
        return value
    if issubclass(kind, (int, float)):  # also NumPy's
        return _number(value, kind, limit)
    if depth < _DEEPEST:
        if issubclass(kind, dict):
            return _texts_as_keys(value, limit, depth)
        for base in (list, tuple, set, frozenset):
            if issubclass(kind, base):
                return [_converted(each, limit, depth + 1) for each in base.__iter__(value)]
    return text_of(value, limit)


def _number(value: Any, kind: type, limit: int) -> Any:
    if issubclass(kind, float):
        real = float.__float__(value)
        return real if math.isfinite(real) else None
    number = int.__int__(value)
    return number if LEAST <= number <= MOST else text_of(number, limit)


def _texts_as_keys(value: dict[Any, Any], limit: int, depth: int) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for key, each in dict.items(value):
        made[distinct(text_of(key, limit), made)] = _converted(each, limit, depth + 1)
    return made


def json_size(value: Any) -> int:
    """Bytes of ``value`` as JSON on the wire."""
    return len(json.dumps(value, allow_nan=False, ensure_ascii=False).encode())
