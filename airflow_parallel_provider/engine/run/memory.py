# SPDX-License-Identifier: Apache-2.0
"""The memory of a run's processes: measured, and kept below the limits.

The kernel's out-of-memory killer ends whole tasks without a message. So the source is slowed before that happens, and a
worker process over its stage's limit is replaced.
"""

from __future__ import annotations

import os
from collections.abc import Iterable

from airflow_parallel_provider.engine.dataflow.in_flight import InFlightLimit
from airflow_parallel_provider.engine.run.state import RunState
from airflow_parallel_provider.engine.workers.base import Worker
from airflow_parallel_provider.engine.workers.process import ProcessWorker

SAMPLE_SECONDS = 0.25
"""Seconds between two samples where a limit is set; without one, memory is only sampled for the report."""

SLOW_AT = 0.85
RESUME_AT = 0.75
"""Shares of the pipeline's limit at which the source pauses and goes on."""

HARD = 1.25
"""A worker process over this multiple of its limit is ended in the middle of a call; below, it is replaced after its
message."""


class MemoryMonitor:
    """Samples resident memory. Used on the coordinating thread only."""

    def __init__(self, state: RunState, in_flight: InFlightLimit) -> None:
        plan = state.plan
        self.peak = 0
        self.now = 0
        self.workers_cpu = 0.0  # of the worker processes that run; that of an ended one is in its stage's metrics
        self.limited = plan.memory_limit is not None or any(stage.memory_limit for stage in plan.stages)
        self._limit = plan.memory_limit
        self._state = state
        self._in_flight = in_flight
        self._slowed = False

    def sample(self, workers: Iterable[object]) -> None:
        """Take a sample; slow the source or replace workers where a limit is near."""
        total, cpu = _resident(os.getpid())[0], 0.0
        for worker in workers:
            if not isinstance(worker, ProcessWorker):
                continue
            rss, used = _resident(worker.pid)
            cpu += used
            worker.record_rss(rss)
            total += rss
            limit = worker.stage.stage.memory_limit
            if limit is not None and rss > limit:
                worker.over_limit(rss, end_now=rss > HARD * limit)
        self.now, self.workers_cpu = total, cpu
        self.peak = max(self.peak, total)
        if self._limit is not None:
            self._throttle(total, self._limit)

    def finish(self, workers: Iterable[Worker]) -> None:
        """Count the peak of each of the last workers, as the kernel measured it.

        A run can be over before the first sample, or between two samples. Workers that left since the last sample were
        not there at the same time as all the others and are not counted.
        """
        peaks = sum(worker.metrics.peak_rss for worker in workers if not (worker.superseded or worker.retired))
        self.peak = max(self.peak, _resident(os.getpid())[0] + peaks)

    def _throttle(self, total: int, limit: int) -> None:
        if not self._slowed and total > SLOW_AT * limit:
            self._slowed = True
            self._state.warn(
                f"memory came close to memory_limit={limit:,} bytes: the source was slowed. A smaller queue_size or "
                "chunk_size, or fewer workers, need less"
            )
        elif self._slowed and total < RESUME_AT * limit:
            self._slowed = False
        self._in_flight.pause(paused=self._slowed)


def _resident(pid: int | None) -> tuple[int, float]:
    """Resident bytes of a process and its CPU seconds; zeros when it does not exist any more, or cannot be read."""
    import psutil

    if pid is None:
        return 0, 0.0
    try:
        process = psutil.Process(pid)
        times = process.cpu_times()
        return int(process.memory_info().rss), times.user + times.system
    except (psutil.Error, OSError):  # without a descriptor left, nothing in /proc can be read
        return 0, 0.0
