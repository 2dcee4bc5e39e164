# SPDX-License-Identifier: Apache-2.0
"""Samples a running pipeline and gives snapshots to the observer. On the coordinating thread."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

from airflow_parallel_provider.engine.run.report_builder import RunParts, build_report
from airflow_parallel_provider.report import State

log = logging.getLogger("airflow_parallel_provider")

Observer = Callable[[dict[str, Any]], object]


class Monitor:
    """Samples the channels and workers of a run, and gives its observer a snapshot at intervals.

    :param parts: of the run.
    :param sample_memory: called before each snapshot, so that its memory numbers are new.
    :param observe: called with each snapshot; an error that it raises is logged, and the run goes on.
    :param every: seconds between two snapshots.
    """

    def __init__(
        self, parts: RunParts, sample_memory: Callable[[], None], observe: Observer | None, every: float
    ) -> None:
        self._parts = parts
        self._sample_memory = sample_memory
        self._observe = observe
        self._every = every
        self._next = time.monotonic() + min(every, 0.5)

    @property
    def next_sample(self) -> float:
        """When to call :meth:`sample` again (monotonic)."""
        return min(self._next, time.monotonic() + self._parts.series.every)

    def sample(self) -> None:
        """Take the samples that are due; publish a snapshot when its time has come."""
        self._parts.series.sample(self._parts.state.clock.seconds)
        if time.monotonic() >= self._next:
            self.publish(final=False, state="running")

    def publish(self, *, final: bool, state: State) -> None:
        """Give the observer a snapshot now."""
        self._sample_memory()
        self._next = time.monotonic() + self._every
        if self._observe is None:
            return
        report = build_report(self._parts, state).as_dict()
        try:
            self._observe({**report, "items_total": self._parts.items_total, "final": final})
        except Exception:
            log.warning("the observer of the run failed; the run goes on", exc_info=True)
