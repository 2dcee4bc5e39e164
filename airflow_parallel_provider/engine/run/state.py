"""The state of a run that its parts share: plan, clock, warnings, error, and the way to the calling thread."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from airflow_parallel_provider.engine.interfaces.stop import StopToken
from airflow_parallel_provider.engine.metrics.failure_causes import Causes
from airflow_parallel_provider.engine.metrics.tolerance_tracker import ToleranceTracker
from airflow_parallel_provider.engine.plan.pipeline_plan import PipelinePlan
from airflow_parallel_provider.errors import RunFailed, RunStopped

log = logging.getLogger("airflow_parallel_provider")


@dataclass(slots=True)
class RunClock:
    """When the phases of a run began and ended (monotonic), and the CPU time that was spent before."""

    began: float
    cpu_before: float
    working_since: float | None = None
    """When the workers were started."""
    ended: float | None = None
    cpu_reported: float = 0.0
    """CPU seconds of the last snapshot; the next one never shows less."""

    @classmethod
    def start(cls) -> RunClock:
        """A clock that begins now."""
        return cls(time.monotonic(), time.process_time())

    @property
    def seconds(self) -> float:
        """Seconds since the run began, until it ended."""
        return (self.ended or time.monotonic()) - self.began

    @property
    def working_seconds(self) -> float:
        """Seconds since the workers were started, until the run ended."""
        if self.working_since is None:
            return 0.0
        return max(1e-9, (self.ended or time.monotonic()) - self.working_since)


class RunState:
    """Implements :class:`.run_context.RunContext` and what the sink writer and the stages need beyond it.

    Safe from any thread. Messages in the mailbox are functions; the calling thread calls them one by one.
    """

    def __init__(self, plan: PipelinePlan, stop_requested: StopToken) -> None:
        self.plan = plan
        self.stop_requested = stop_requested
        self.stop = StopToken()  # set when the run is being torn down, for any reason
        self.mailbox: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self.clock = RunClock.start()
        self.causes = Causes()
        self.tolerance = ToleranceTracker(plan.tolerance)
        self.warnings: list[str] = []
        self.error: RunFailed | None = None
        self.over = False
        """Whether everything is committed: the run is a success."""
        self._lock = threading.Lock()

    def on_stop_requested(self) -> None:
        """Fail the run as stopped. May run in a signal handler, so it takes no lock."""
        self.mailbox.put(lambda: self.fail(self.stopped_error()))

    def stopped_error(self) -> RunStopped:
        """The error of a run that was asked to stop, with the reason."""
        return RunStopped(f"stopped: {self.stop_requested.reason}", None, self.stop_requested.reason)

    def fail(self, error: RunFailed) -> None:
        """End the run with this error, unless it is ending already."""
        with self._lock:
            if self.error is None and not self.over:
                self.error = error
        self.mailbox.put(lambda: None)

    def crashed(self, error: BaseException) -> None:
        """End the run with an error of the engine itself."""
        failed = RunFailed(f"internal error: {type(error).__name__}: {error}")
        failed.__cause__ = error
        log.error("internal error", exc_info=error)
        self.fail(failed)

    def warn(self, text: str) -> None:
        """Put a line into the report, once."""
        with self._lock:
            if text not in self.warnings:
                self.warnings.append(text)

    def record_failed_items(self, items: int) -> None:
        """Count items that a stage gave up on; fail the run when they are too many."""
        if (failed := self.tolerance.add(items)) is not None:
            self.fail(failed)

    def record_failed_part(self, share: float, *, first: bool) -> None:
        """Count one of several results of an item; fail the run when they are too many."""
        if (failed := self.tolerance.add_part(share, first=first)) is not None:
            self.fail(failed)

    def may_commit(self) -> bool:
        """False once the run is ending: then nothing more is committed."""
        return self.error is None and not self.stop_requested.is_set and not self.stop.is_set

    def may_finish(self) -> bool:
        """Check the tolerance for the last time, now that the number of items is known."""
        if (failed := self.tolerance.check(final=True)) is not None:
            self.fail(failed)
        return self.may_commit()

    def sink_done(self) -> None:
        """Everything is committed: the run is a success."""
        self.mailbox.put(self._finish)

    def _finish(self) -> None:
        with self._lock:
            self.over = True
