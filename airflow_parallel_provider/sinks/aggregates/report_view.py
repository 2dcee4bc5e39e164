# SPDX-License-Identifier: Apache-2.0
"""Aggregates for a report: plain JSON, and small."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from airflow_parallel_provider.foreign.shown import text_of
from airflow_parallel_provider.foreign.text import LEAST, MOST, clean, distinct

GROUPS_SHOWN = 20
GROUPS_IN_ALL = 200
"""Of all aggregates together: the report becomes an XCom."""
_TEXT = 60


def report_view(aggregates: Mapping[str, Any]) -> dict[str, Any]:
    """The aggregates with text keys, without NaN and infinity, and with only some groups of each.

    ``SinkTableHook.aggregates`` gives all of them.
    """
    grouped = sum(1 for each in aggregates.values() if isinstance(each, Mapping))
    most = max(1, min(GROUPS_SHOWN, GROUPS_IN_ALL // max(1, grouped)))
    return {name: _view_of(each, most) for name, each in aggregates.items()}


def _view_of(result: Any, most: int) -> Any:
    if isinstance(result, Mapping):
        parts: dict[str, Any] = {}
        for key, each in itertools.islice(result.items(), most):
            parts[distinct(_text(key), parts)] = _view_of(each, most)
        if len(result) > most:
            parts["(not shown)"] = len(result) - most
        return parts
    if result is None or isinstance(result, bool):
        return result
    if isinstance(result, int):
        return result if LEAST <= result <= MOST else _text(result)
    if isinstance(result, float):
        return result if math.isfinite(result) else None
    return _text(result)


def _text(value: Any) -> str:
    if isinstance(value, Decimal) and value.is_finite() and abs(value.adjusted()) < _TEXT:
        return clean(format(value, "f"), _TEXT)
    return text_of(value, _TEXT)
