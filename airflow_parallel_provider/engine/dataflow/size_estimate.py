"""A rough estimate of the bytes that values hold, so that a channel of large values does not fill the memory."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Sequence
from typing import Any

_SAMPLE = 16


def estimate_bytes(values: Sequence[Any]) -> int:
    """Bytes of a bundle's values, estimated from the first one: the values of a stage are alike."""
    try:
        return len(values) * _bytes_of(values[0], 2) if values else 0
    except Exception:  # noqa: BLE001 - the items' own code; an estimate is not worth a failed run
        return 64 * len(values)


def _bytes_of(value: Any, depth: int) -> int:
    size = getattr(value, "nbytes", None)
    if isinstance(size, int):
        return size
    own = sys.getsizeof(value, 64)
    if depth and isinstance(value, (list, tuple, dict, set)) and value:
        sample = list(itertools.islice(value.values() if isinstance(value, dict) else value, _SAMPLE))
        return own + sum(_bytes_of(each, depth - 1) for each in sample) * len(value) // len(sample)
    return own
