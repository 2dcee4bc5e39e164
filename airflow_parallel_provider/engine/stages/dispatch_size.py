# SPDX-License-Identifier: Apache-2.0
"""How many calls a worker takes at once: the size of a dispatch.

A dispatch of one trivial call costs more than the call; one of a thousand long calls leaves the other workers idle at
the end. The size aims at a target duration, grows at most twofold per step and is capped (without a cap it runs away
when durations are mixed: joblib issue 1220). It never exceeds a worker's fair share of the waiting calls: the guided
self-scheduling of Polychronopoulos and Kuck (1987), whose pieces become smaller towards the end.
"""

from __future__ import annotations

import math

CAP = 2000
"""Most calls in one dispatch: bounds what is lost with a worker, and the memory of one message."""

DISPATCH_BYTES = 8 << 20
"""Most estimated bytes of one dispatch: a larger one gains nothing, and fills caches and memory."""

_WEIGHT = 0.2  # of the newest observation


class DispatchSizer:
    """Chooses the number of calls of one dispatch for one stage. Called under the locks of the stage and the channel.

    :param target: seconds one dispatch should take.
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
        """Note that a dispatch of ``calls`` calls took ``seconds`` seconds."""
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
        """Note that ``calls`` calls and their results hold an estimated ``size`` bytes together."""
        self.largest_call_bytes = max(self.largest_call_bytes, size / calls)

    def limit(self, waiting: int) -> int:
        """Most calls to take now, when ``waiting`` calls wait in the channel."""
        return max(1, min(self.size, math.ceil(waiting / (2 * self.workers))))
