"""One page of shared memory per worker: what the worker does right now."""

from __future__ import annotations

from typing import Any

Page = Any
"""A sequence of numbers, one per name below: a memory page shared with the task process, or a list inside it."""

MESSAGE, CALL, BEGAN_NS, STATE, CPU_NS, PEAK_RSS, LIMIT, RECLAIMED = range(8)

PAGE_SLOTS = 8

IDLE, SETUP, DECODING, RUNNING, SENDING, TEARDOWN = range(6)


def limit_word(sequence: int, calls: int) -> int:
    """What the task process writes at LIMIT: of message ``sequence`` only the first ``calls`` calls may be made."""
    return sequence << 32 | calls
