"""Aggregates for a report: plain JSON, and small."""

from __future__ import annotations

import math
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

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
        parts = {_text(key): _view_of(each, most) for key, each in list(result.items())[:most]}
        if len(result) > most:
            parts["(not shown)"] = len(result) - most
        return parts
    if result is None or isinstance(result, (bool, int)):
        return result
    if isinstance(result, float):
        return result if math.isfinite(result) else None
    return _text(result)


def _text(value: Any) -> str:
    text = format(value, "f") if isinstance(value, Decimal) and value.is_finite() else str(value)
    return text if len(text) <= _TEXT else text[: _TEXT - 1] + "…"
