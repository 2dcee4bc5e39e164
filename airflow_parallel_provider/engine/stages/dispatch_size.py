"""How many calls a worker takes at once.

Handing over one trivial call at a time costs more than the call; handing over a thousand long ones leaves the other
workers idle at the end. The size aims at a target duration, grows at most twofold per step and is capped (an uncapped
one runs away when durations are mixed: joblib issue 1220), and never exceeds a worker's fair share of what waits: the
guided self-scheduling of Polychronopoulos and Kuck (1987), which hands out smaller and smaller pieces towards the end.
"""

from __future__ import annotations

import math

CAP = 2000
"""Most calls in one hand: bounds what is lost with a worker, and the memory of one message."""

DISPATCH_BYTES = 8 << 20
"""Estimated bytes of one hand: what is larger gains nothing from travelling together, and fills caches and memory."""

_WEIGHT = 0.2  # of the newest observation


class DispatchSizer:
    """Chooses the number of calls of one hand for one stage. Called under the stage's and channel's locks.

    :param target: seconds one hand should take.
    :param workers: how many share the work.
    """

    def __init__(self, target: float, workers: int) -> None:
        self.target = target
        self.workers = workers
        self.size = 1
        self.largest_call_bytes = 1.0  # bytes of one call and its results
        self._mean: float | None = None
        self._square = 0.0

    def observe(self, calls: int, seconds: float) -> None:
        """A hand of ``calls`` calls took ``seconds``, its share of the hand-over included."""
        each = seconds / calls
        if self._mean is None:
            self._mean, self._square = each, each * each
        else:
            self._mean += _WEIGHT * (each - self._mean)
            self._square += _WEIGHT * (each * each - self._square)
        spread = math.sqrt(max(0.0, self._square - self._mean * self._mean))
        ideal = self.target / max(self._mean + spread, 1e-9)
        self.size = max(
            1, min(CAP, int(ideal), 2 * max(self.size, calls), int(DISPATCH_BYTES / self.largest_call_bytes))
        )

    def observe_bytes(self, calls: int, size: float) -> None:
        """``calls`` calls and their results hold an estimated ``size`` bytes together."""
        self.largest_call_bytes = max(self.largest_call_bytes, size / calls)

    def limit(self, waiting: int) -> int:
        """Calls to take now, when ``waiting`` wait in the channel."""
        return max(1, min(self.size, math.ceil(waiting / (2 * self.workers))))
