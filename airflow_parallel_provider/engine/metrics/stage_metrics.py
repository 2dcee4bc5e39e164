# SPDX-License-Identifier: Apache-2.0
"""The counters of a stage: the numbers behind its part of the report."""

from __future__ import annotations

import functools
import math
import threading
from array import array
from collections import Counter
from typing import Any

_EACH_ABOVE_NS = 20_000
_EACH_UP_TO = 64
_TOGETHER = 2000
_STEPS = 400
"""Steps of the duration's logarithm: an error of an eighth of a percent, where the sketch itself allows one percent."""


class StageMetrics:
    """Counters of one stage. One lock is enough: they change once per dispatch, not once per item."""

    def __init__(self) -> None:
        from ddsketch import DDSketch  # mergeable quantile sketch (Masson, Rim, Lee: VLDB 2019), 1 % relative error

        self.lock = threading.Lock()
        self.items_in = 0
        self.items_out = 0
        self.rows_out = 0
        self.failed = 0
        self.retried = 0
        self.halved = 0
        self.timed_out = 0
        self.workers_lost = 0
        self.calls = 0
        self.busy = 0.0
        self.starved = 0.0
        self.blocked = 0.0
        self.cpu = 0.0
        self.call_cpu = 0.0
        self._empty = functools.partial(DDSketch, 0.01)
        self._sketch: Any = self._empty()
        self._window: Any = self._empty()
        self._fresh: Any = self._empty()
        self._waiting = array("Q")

    def arrived(self, items: int) -> None:
        """Count items that reached the stage for the first time."""
        with self.lock:
            self.items_in += items

    def waited(self, *, starved: float = 0.0, blocked: float = 0.0) -> None:
        """Count seconds in which a worker waited for input (starved) or for room further down (blocked)."""
        with self.lock:
            self.starved += starved
            self.blocked += blocked

    def computed(self, seconds: float) -> None:
        """Count CPU seconds of calls in this process."""
        with self.lock:
            self.call_cpu += seconds

    def called(self, nanoseconds: array[int]) -> float:
        """Count the durations of calls that ended; return their sum in seconds."""
        seconds = sum(nanoseconds) / 1e9
        with self.lock:
            self.busy += seconds
            self.calls += len(nanoseconds)
            self._add_durations(nanoseconds, seconds)
        return seconds

    def _add_durations(self, nanoseconds: array[int], seconds: float) -> None:
        count = len(nanoseconds)
        if not count:
            return
        if count <= _EACH_UP_TO or seconds * 1e9 / count > _EACH_ABOVE_NS:
            self._waiting.extend(nanoseconds)
            if len(self._waiting) >= _TOGETHER:
                self._add_together()
            return
        # Thousands of calls of a microsecond: sixteen slices keep the shape at a hundredth of the cost.
        ordered = sorted(nanoseconds)
        step = max(1, count // 16)
        for at in range(0, count, step):
            part = ordered[at : at + step]
            self._fresh.add(sum(part) / len(part) / 1e6, len(part))

    def _add_together(self) -> None:
        """Put nearly equal durations into the sketch as one value: 0.3 us for each instead of 5 us."""
        alike = Counter(int(math.log(each or 1) * _STEPS) for each in self._waiting)
        for step, count in alike.items():
            self._fresh.add(math.exp((step + 0.5) / _STEPS) / 1e6, count)
        del self._waiting[:]

    def deciles(self) -> list[float]:
        """Milliseconds of one call at 0, 10, ..., 100 %; empty before the first call."""
        with self.lock:
            self._fold()
            if not self._sketch.count:
                return []
            return [round(self._sketch.get_quantile_value(at / 10), 4) for at in range(11)]

    def quantiles(self) -> tuple[float | None, float | None, float | None]:
        """Milliseconds of one call at 50, 95 and 99 %; None before the first call."""
        with self.lock:
            self._fold()
            return _three_of(self._sketch)

    def recent_quantiles(self) -> tuple[float | None, float | None, float | None]:
        """As :meth:`quantiles`, of the calls that ended since the last call of this method."""
        with self.lock:
            self._fold()
            window, self._window = self._window, self._empty()
            return _three_of(window)

    def _fold(self) -> None:
        """Merge the newest durations into the two sketches that are read."""
        self._add_together()
        if self._fresh.count:
            self._sketch.merge(self._fresh)
            self._window.merge(self._fresh)
            self._fresh = self._empty()


def _three_of(sketch: Any) -> tuple[float | None, float | None, float | None]:
    if not sketch.count:
        return None, None, None
    p50, p95, p99 = (sketch.get_quantile_value(at) for at in (0.5, 0.95, 0.99))
    return round(p50, 4), round(p95, 4), round(p99, 4)
