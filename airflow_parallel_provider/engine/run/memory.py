"""What a run's processes hold in memory, and what is done about it.

The kernel's out-of-memory killer ends whole tasks and says nothing. So the source is slowed before it comes to that, a
worker process over its stage's limit is replaced, and a worker the kernel did end is named as such.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from airflow_parallel_provider.engine.workers.process import ProcessSlot

if TYPE_CHECKING:
    from airflow_parallel_provider.engine.run.run import Run
    from airflow_parallel_provider.engine.workers.base import Slot

LOOK_SECONDS = 0.25
"""Seconds between two looks where a limit is set; else memory is only looked at for the report."""

SLOW_AT = 0.85
RESUME_AT = 0.75
"""Shares of the pipeline's limit at which the source is stopped and goes on."""

HARD = 1.25
"""A worker this much over its limit is ended in the middle of a call; below it is replaced after its message."""


class MemoryWatch:
    """Samples resident memory. Used on the coordinating thread only."""

    def __init__(self, run: Run) -> None:
        self.peak = 0
        self.now = 0
        self.workers_cpu = 0.0  # of the worker processes that run; an ended one is in its stage's meter
        self.limited = run.plan.memory_limit is not None or any(stage.memory_limit for stage in run.plan.stages)
        self._run = run
        self._slowed = False

    def look(self, slots: Iterable[object]) -> None:
        """Take a sample, act on it."""
        import psutil

        total, cpu = psutil.Process().memory_info().rss, 0.0
        for slot in slots:
            if not isinstance(slot, ProcessSlot):
                continue
            rss, used = _resident(slot.pid)
            cpu += used
            slot.noted(rss)
            total += rss
            limit = slot.stage.stage.memory_limit
            if limit is not None and rss > limit:
                slot.over_limit(rss, end_now=rss > HARD * limit)
        self.now, self.workers_cpu = total, cpu
        self.peak = max(self.peak, total)
        if self._run.plan.memory_limit is not None:
            self._throttle(total, self._run.plan.memory_limit)

    def settle(self, slots: Iterable[Slot]) -> None:
        """The workers of these slots were there at the end: count what each of them held at most, by the kernel.

        A run can be over before the first look at its workers, or between two looks. Those that left since the last
        look were not there at the same time as all the others.
        """
        import psutil

        workers = sum(slot.tally.peak_rss for slot in slots if not (slot.relieved or slot.dismissed))
        self.peak = max(self.peak, psutil.Process().memory_info().rss + workers)

    def _throttle(self, total: int, limit: int) -> None:
        if not self._slowed and total > SLOW_AT * limit:
            self._slowed = True
            self._run.warn(
                f"memory came close to memory_limit={limit:,} bytes: the source was slowed; smaller queue_size, "
                "chunk_size or fewer workers would need less"
            )
        elif self._slowed and total < RESUME_AT * limit:
            self._slowed = False
        self._run.budget.pause(paused=self._slowed)


def _resident(pid: int | None) -> tuple[int, float]:
    """Resident bytes of a process and its CPU seconds; zeros when it is gone."""
    import psutil

    if pid is None:
        return 0, 0.0
    try:
        process = psutil.Process(pid)
        times = process.cpu_times()
        return int(process.memory_info().rss), times.user + times.system
    except psutil.Error:
        return 0, 0.0
