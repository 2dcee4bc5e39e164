# SPDX-License-Identifier: Apache-2.0
"""How many workers a stage has while it runs.

A stage grows when calls wait in its channel while its workers are busy, and shrinks when they starve. Whether growth
helped is decided by throughput: more threads on one interpreter lock, or more processes than CPUs, finish no more calls
per second, and then the stage steps back and stays there for a while (hill climbing with a hold, as in the thread pool
of .NET: Hellerstein, Morrison, Eilebrecht 2008, without its signal processing).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow_parallel_provider.engine.stages.stage_run import StageRun

DECIDE_SECONDS = 0.1
"""Seconds between two decisions: short, so that a stage of waiting threads has its size within a second."""

HOLD_SECONDS = 2.0
"""How long a stage that grew in vain does not grow again, seconds; doubles each time."""

MOST_DECISIONS = 200
"""Decisions kept for the report."""

_GAIN = 0.3  # a stage that grew by half must finish at least 15 % more calls per second
_CALLS_TO_JUDGE = 4  # per worker, so that a rate means something
_STARVED_LOOKS = 5
_SETTLING = 0.15  # seconds after growing that are not counted
_JUDGE_SECONDS = 0.2
_JUDGE_AT_LAST = 3.0


@dataclass(frozen=True, slots=True)
class Decision:
    """One change of a stage's number of workers."""

    at: float
    """Seconds since the workers began."""
    stage: str
    before: int
    after: int
    reason: str

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        return {
            "at": round(self.at, 3),
            "stage": self.stage,
            "before": self.before,
            "after": self.after,
            "reason": self.reason,
        }


class Autoscaler:
    """Decides on the number of workers of one stage.

    :param low: fewest workers.
    :param high: most workers.
    """

    def __init__(self, stage: StageRun, low: int, high: int) -> None:
        self.low = low
        self.high = high
        self.stage = stage
        self._last: tuple[float, int, float, float] | None = None
        self._trial: tuple[int, float] | None = None  # workers and calls per second before growing
        self._trial_calls = 0
        self._trial_began = 0.0
        self._judged_from = 0.0
        self._hold_until = 0.0
        self._hold = HOLD_SECONDS
        self._starved_looks = 0
        self._since: tuple[float, int] | None = None  # time and calls when the present workers began

    def decide(self, now: float, room: int) -> tuple[int, str] | None:
        """The number of workers the stage should have from now on, and the reason; None: no change.

        :param room: how many more workers there may be (limited by CPUs, for processes).
        """
        metrics, workers = self.stage.metrics, self.stage.workers
        with metrics.lock:
            calls, busy, starved = metrics.calls, metrics.busy, metrics.starved
        last, self._last = self._last, (now, calls, busy, starved)
        since = self._since = self._since or (now, calls)
        if last is None or now <= last[0] or not workers:
            return None
        seconds = (now - last[0]) * workers
        busy_share, starved_share = (busy - last[2]) / seconds, (starved - last[3]) / seconds
        if self._trial is not None:
            return self._evaluate(now, calls, workers)
        self._starved_looks = self._starved_looks + 1 if starved_share > 0.5 else 0
        if self._starved_looks >= _STARVED_LOOKS and workers > self.low:
            self._starved_looks, self._since = 0, None
            fewer = max(self.low, workers - max(1, math.floor(workers * starved_share / 2)))
            return fewer, f"its workers waited for items {min(1.0, starved_share):.0%} of the time"
        waiting = self.stage.channel.calls
        if waiting >= workers and busy_share > 0.6 and now >= self._hold_until and workers < self.high and room > 0:
            if calls - since[1] < 2 * workers:
                return None  # too few calls have ended to know the rate of these workers
            self._trial = (workers, (calls - since[1]) / (now - since[0]))
            self._since = None
            self._trial_calls, self._trial_began, self._judged_from = calls, now, now
            more = min(self.high, workers + room, workers * 2)
            return more, f"{waiting} calls waited while its workers were busy"
        return None

    def _evaluate(self, now: float, calls: int, workers: int) -> tuple[int, str] | None:
        """Decide whether growth has raised the throughput; step back if it has not."""
        assert self._trial is not None
        before, rate_before = self._trial
        if now - self._trial_began < _SETTLING:
            self._trial_calls, self._judged_from = calls, now  # new workers are still being set up
            return None
        done, passed = calls - self._trial_calls, now - self._judged_from
        if passed < _JUDGE_SECONDS or (done < _CALLS_TO_JUDGE * workers and passed < _JUDGE_AT_LAST):
            return None
        self._trial, self._since = None, None
        rate = done / passed
        wanted = rate_before * (1 + _GAIN * (workers / before - 1))
        if rate >= wanted or not self.stage.channel.calls:
            self._hold = HOLD_SECONDS
            return None
        self._hold_until = now + self._hold
        self._hold *= 2
        return before, f"{workers} workers finished {rate:,.0f} calls/s, {before} had finished {rate_before:,.0f}"
