"""A rate limit for calls to the outside, shared by all workers of a stage."""

from __future__ import annotations


class RateLimit:
    """Token bucket with debt: a batch larger than the bucket may go, and is paid for afterwards.

    :param per_second: items per second.
    """

    BURST_SECONDS = 0.05
    """How much unused allowance is kept: enough to even out scheduling, not enough to be felt as a burst."""

    def __init__(self, per_second: float) -> None:
        self.per_second = per_second
        self._most = max(1.0, per_second * self.BURST_SECONDS)
        self._tokens = self._most
        self._last: float | None = None

    def pause(self, now: float) -> float:
        """Seconds until something may go; 0: now."""
        if self._last is not None:
            self._tokens = min(self._most, self._tokens + (now - self._last) * self.per_second)
        self._last = now
        return 0.0 if self._tokens >= 1.0 - 1e-9 else (1.0 - self._tokens) / self.per_second

    @property
    def allowed(self) -> int:
        """Items that may go now, at least one once :meth:`pause` is 0."""
        return max(1, int(self._tokens))

    def spend(self, items: int) -> None:
        """Items have gone."""
        self._tokens -= items
