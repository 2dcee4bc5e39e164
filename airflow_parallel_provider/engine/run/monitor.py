"""Looking at a running pipeline every now and then, and telling whoever wants to know. On the coordinating thread."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from airflow_parallel_provider.engine.run.report_builder import build_report
from airflow_parallel_provider.engine.run.stage_series import StageSeries

if TYPE_CHECKING:
    from airflow_parallel_provider.engine.run.run import Run
    from airflow_parallel_provider.report import State

log = logging.getLogger("airflow_parallel_provider")

Observer = Callable[[dict[str, Any]], object]


class Monitor:
    """Samples the channels and workers of a run, and gives its observer a snapshot now and then.

    :param observe: called with each snapshot; what it raises is logged, the run goes on.
    :param every: seconds between two snapshots.
    """

    def __init__(self, run: Run, observe: Observer | None, every: float) -> None:
        self.series = StageSeries(run.stages)
        self._run = run
        self._observe = observe
        self._every = every
        self._next = time.monotonic() + min(every, 0.5)

    @property
    def next_sample(self) -> float:
        """When to call :meth:`look` again (monotonic)."""
        return min(self._next, time.monotonic() + self.series.every)

    def sample(self) -> None:
        """Do what is due."""
        self.series.sample(self._run.clock.seconds)
        if time.monotonic() >= self._next:
            self.publish(final=False, state="running")

    def publish(self, *, final: bool, state: State) -> None:
        """Give the observer a snapshot now."""
        self._run.pool.sample_memory()
        self._next = time.monotonic() + self._every
        if self._observe is None:
            return
        report = build_report(self._run, state).as_dict()
        try:
            self._observe({**report, "items_total": self._run.tolerance.total, "final": final})
        except Exception:
            log.warning("the observer of the run failed; the run goes on", exc_info=True)
