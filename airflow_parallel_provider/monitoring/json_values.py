"""Converts any value to plain JSON of a bounded size, for XCom."""

from __future__ import annotations

import json
import math
from typing import Any

TEXT_LIMIT = 500
"""Most characters of one text."""


def to_json_value(value: Any, text_limit: int = TEXT_LIMIT) -> Any:
    """A copy of ``value`` made only of dicts with text keys, lists, texts, numbers, bools and None.

    NaN and the infinities become None: Airflow accepts them in ``xcom_push`` and then fails the task when its HTTP
    client writes the JSON, after all work is done. Any other value becomes its text. Long texts are cut.
    """
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, dict):
        return {cut(str(key), text_limit): to_json_value(each, text_limit) for key, each in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [to_json_value(each, text_limit) for each in value]
    return cut(str(value), text_limit)


def cut(text: str, limit: int) -> str:
    """At most ``limit`` characters; replaces characters that UTF-8 cannot encode, which a file name may contain."""
    text = text if len(text) <= limit else text[: limit - 1] + "…"
    return text.encode("utf-8", "replace").decode("utf-8")


def json_size(value: Any) -> int:
    """Bytes of ``value`` as JSON on the wire."""
    return len(json.dumps(value, allow_nan=False, ensure_ascii=False).encode())
