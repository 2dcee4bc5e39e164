# SPDX-License-Identifier: Apache-2.0
"""The status page: one page of shared memory per worker process, saying what it does right now."""

from __future__ import annotations

from typing import Any

Page = Any
"""A sequence of whole numbers, one per name below. A thread worker uses a list instead of shared memory."""

MESSAGE, CALL, BEGAN_NS, STATE, CPU_NS, PEAK_RSS, LIMIT, RECLAIMED = range(8)

PAGE_WORDS = 8

IDLE, SETUP, DECODING, RUNNING, SENDING, TEARDOWN = range(6)


def limit_word(sequence: int, calls: int) -> int:
    """The value for LIMIT that allows only the first ``calls`` calls of message ``sequence``."""
    return sequence << 32 | calls
