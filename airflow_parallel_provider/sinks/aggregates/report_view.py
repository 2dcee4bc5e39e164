"""Figures for a report: plain JSON, and small."""

from __future__ import annotations

import math
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

GROUPS_SHOWN = 20
GROUPS_IN_ALL = 200
"""Of all figures together: the report becomes an XCom."""
_TEXT = 60


def report_view(figures: Mapping[str, Any]) -> dict[str, Any]:
    """The figures with texts as keys, no NaN or infinity, and of each only some groups; the hook gives them all."""
    grouped = sum(1 for figure in figures.values() if isinstance(figure, Mapping))
    most = max(1, min(GROUPS_SHOWN, GROUPS_IN_ALL // max(1, grouped)))
    return {name: _view_of(figure, most) for name, figure in figures.items()}


def _view_of(figure: Any, most: int) -> Any:
    if isinstance(figure, Mapping):
        parts = {_text(key): _view_of(each, most) for key, each in list(figure.items())[:most]}
        if len(figure) > most:
            parts["(not shown)"] = len(figure) - most
        return parts
    if figure is None or isinstance(figure, (bool, int)):
        return figure
    if isinstance(figure, float):
        return figure if math.isfinite(figure) else None
    return _text(figure)


def _text(value: Any) -> str:
    text = format(value, "f") if isinstance(value, Decimal) and value.is_finite() else str(value)
    return text if len(text) <= _TEXT else text[: _TEXT - 1] + "…"
