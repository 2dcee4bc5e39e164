# SPDX-License-Identifier: Apache-2.0
"""The state of a run that its parts share: plan, clock, warnings, error, and the way to the calling thread."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from airflow_parallel_provider.engine.interfaces.source import place_text
from airflow_parallel_provider.engine.interfaces.stop import StopToken
from airflow_parallel_provider.engine.metrics.failure_causes import Causes
from airflow_parallel_provider.engine.metrics.tolerance_tracker import ToleranceTracker
from airflow_parallel_provider.engine.plan.pipeline_plan import PipelinePlan
from airflow_parallel_provider.engine.resources.limits import shortage
from airflow_parallel_provider.engine.resources.machine_load import MachineTimes, cpu_of_children
from airflow_parallel_provider.errors import (
    LoadMismatch,
    RunFailed,
    RunStopped,
    SinkFailed,
    SourceFailed,
    ToleranceExceeded,
    WorkersExhausted,
    WrongReturn,
)
from airflow_parallel_provider.foreign.errors import error_text, raisable
from airflow_parallel_provider.foreign.text import clean

log = logging.getLogger("airflow_parallel_provider")

_WARNING_LENGTH = 2000


@dataclass(slots=True)
class RunClock:
    """When the phases of a run began and ended (monotonic), and the CPU time that was spent before."""

    began: float
    cpu_before: float
    children_before: float = 0.0
    """CPU seconds that ended children of this process had used before."""
    machine_before: MachineTimes | None = None
    """CPU times of the whole machine when the run began."""
    working_since: float | None = None
    """When the workers were started."""
    ended: float | None = None
    cpu_reported: float = 0.0
    """CPU seconds of the last snapshot; the next one never shows less."""

    @classmethod
    def start(cls) -> RunClock:
        """A clock that begins now."""
        return cls(time.monotonic(), time.process_time(), cpu_of_children(), MachineTimes.now())

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
        self.help_failed = False
        """Whether the run is a success although it failed in a chunk of another shard."""
        self._own_part_done = False
        self._lock = threading.Lock()
        self._places: dict[int, str] = {}

    def place_of(self, position: int) -> str:
        """Where an item of a cause comes from; asked for once, though each snapshot shows it. Calling thread only."""
        if position not in self._places:
            self._places[position] = place_text(self.plan.source, position)
        return self._places[position]

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
        """End the run with an error of the engine itself, or of the system that refused it something."""
        cause, cure = raisable(error), shortage(error)
        failed = RunFailed(cure or f"internal error: {error_text(error)}")
        failed.__cause__ = cause
        if cure is None:
            log.error("internal error", exc_info=cause)
        self.fail(failed)

    def warn(self, text: str) -> None:
        """Put a line into the report, once."""
        text = clean(text, _WARNING_LENGTH)
        with self._lock:
            if text not in self.warnings:
                self.warnings.append(text)

    def record_dead_letter(self, share: float, *, items: int) -> None:
        """Count a dead letter; fail the run when there are too many. See :meth:`ToleranceTracker.add`."""
        if (failed := self.tolerance.add(share, items=items)) is not None:
            self.fail(failed)

    def may_commit(self) -> bool:
        """False once the run is ending: then nothing more is committed."""
        ended = self.error is not None or self.help_failed
        return not (ended or self.stop_requested.is_set or self.stop.is_set)

    def may_finish(self) -> bool:
        """Check the tolerance for the last time, now that the number of items is known."""
        if (failed := self.tolerance.check(final=True)) is not None:
            self.fail(failed)
        return self.may_commit()

    def own_part_done(self) -> None:
        """A shard has committed all of its own chunks; what follows is help for others."""
        self._own_part_done = True

    def forgive_help(self) -> None:
        """Take the error back if it came while the shard helped others: what fails there is theirs, and fails there."""
        with self._lock:
            error = self.error
            if not self._own_part_done or error is None or not _is_of_a_chunk(error):
                return
            self.help_failed = True  # first: the sink's thread may hold the chunk that failed, and takes no lock
            self.error, self.over = None, True
        self.warn(
            f"this shard has committed all of its own chunks, and then failed in one of another shard, which is left "
            f"to that shard: {type(error).__name__}: {error}"
        )

    def sink_done(self) -> None:
        """Everything is committed: the run is a success."""
        self.mailbox.put(self._finish)

    def _finish(self) -> None:
        with self._lock:
            self.over = True


_OF_A_CHUNK = (ToleranceExceeded, SinkFailed, SourceFailed, WorkersExhausted, WrongReturn)


def _is_of_a_chunk(error: RunFailed) -> bool:
    """Whether a chunk may have caused an error, and not a stop, the engine itself, or the load as a whole."""
    return isinstance(error, _OF_A_CHUNK) and not isinstance(error.__cause__, LoadMismatch)
