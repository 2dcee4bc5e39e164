# SPDX-License-Identifier: Apache-2.0
"""A rate limit, shared by all workers of a stage."""

from __future__ import annotations


class RateLimit:
    """Token bucket with debt: a batch larger than the bucket may pass, and the following items wait for it.

    :param per_second: items per second.
    """

    BURST_SECONDS = 0.05
    """How much unused allowance is kept: enough to even out scheduling, too little to be noticed as a burst."""

    def __init__(self, per_second: float) -> None:
        self.per_second = per_second
        self._capacity = max(1.0, per_second * self.BURST_SECONDS)
        self._tokens = self._capacity
        self._last: float | None = None

    def pause(self, now: float) -> float:
        """Seconds until an item may pass; 0: now."""
        if self._last is not None:
            self._tokens = min(self._capacity, self._tokens + (now - self._last) * self.per_second)
        self._last = now
        return 0.0 if self._tokens >= 1.0 - 1e-9 else (1.0 - self._tokens) / self.per_second

    @property
    def allowed(self) -> int:
        """Items that may pass now; at least one, for a caller that has seen :meth:`pause` return 0."""
        return max(1, int(self._tokens))

    def spend(self, items: float) -> None:
        """``items``, or their cost, have passed."""
        self._tokens -= items
