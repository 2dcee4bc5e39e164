# SPDX-License-Identifier: Apache-2.0
"""What all kinds of workers have in common, and what they need of the run."""

from __future__ import annotations

import contextvars
import threading
import time
from typing import TYPE_CHECKING, Protocol

from airflow_parallel_provider.engine.dataflow.channel import ChannelBroken
from airflow_parallel_provider.engine.functions.outcome import CallFailure
from airflow_parallel_provider.engine.functions.worker_info import WorkerInfo, enter_worker
from airflow_parallel_provider.engine.interfaces.run_context import RunContext
from airflow_parallel_provider.engine.processes.client import ForkServerClient, ForkServerLost
from airflow_parallel_provider.engine.processes.system import end_programs_of
from airflow_parallel_provider.engine.stages.setup_retry import setup_failed
from airflow_parallel_provider.errors import ItemTimeout

if TYPE_CHECKING:
    from airflow_parallel_provider.engine.stages.stage_run import StageRun


class WorkerSupervisor(Protocol):
    """Starts, replaces and recycles workers; see :class:`.run.worker_pool.WorkerPool`."""

    @property
    def context(self) -> RunContext:
        """The run that the workers belong to."""

    def fork_server(self, broken: ForkServerClient | None = None) -> ForkServerClient:
        """The running fork server; a new one when ``broken`` is the current one. Blocks until it runs."""

    def replace(self, worker: Worker) -> None:
        """Start another worker in place of one that was given up. From the coordinating thread."""

    def recycle(self, worker: Worker) -> None:
        """Start a successor of a worker that has made its share of calls; once ready it ends the old one."""


class Worker:
    """A thread in the task process that serves one stage. Subclasses implement :meth:`serve`."""

    def __init__(self, stage: StageRun, number: int, supervisor: WorkerSupervisor) -> None:
        self.stage = stage
        self.number = number
        self.supervisor = supervisor
        self.context = supervisor.context
        self.metrics = stage.new_worker_metrics()
        self.index: int | None = None  # among the stage's workers; None: takes one when it starts
        self.abandoned = False
        self.leftover: object = None  # when it was abandoned: the calls that its replacement takes over
        self.superseded = False  # its successor is set up: settle what is in flight and end
        self.retired = False  # the stage has fewer workers now: the same
        self.replaces: Worker | None = None  # the worker that this one supersedes once it is set up
        name = f"parallel-{stage.stage.name}-{number}"
        # A copy of the context: Airflow's log fields and the current OpenTelemetry span live in context variables.
        run = contextvars.copy_context().run
        self.thread = threading.Thread(target=lambda: run(self._run), name=name, daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self.thread.start()

    def _run(self) -> None:
        try:
            if self.index is None:
                self.index = self.stage.indexes.take()
            enter_worker(self.info(self.index))
            self.serve()
        except ChannelBroken:
            pass
        except ForkServerLost as error:
            if not self.context.stop.is_set:  # otherwise the run ended the fork server
                self.context.crashed(error)
        except BaseException as error:  # noqa: BLE001 - a worker that dies silently would hang the run
            self.context.crashed(error)
        finally:
            self.metrics.ended = True
            if self.index is not None:
                self.stage.indexes.give_back(self.index)

    def info(self, index: int) -> WorkerInfo:
        """What the stage's function sees of the worker, or coroutine, with this index."""
        return WorkerInfo(self.stage.stage.name, index, self.stage.indexes.count)

    def inherit(self, predecessor: Worker) -> None:
        """Take the index of the worker that this one stands in for. Before :meth:`start`."""
        if predecessor.index is not None:
            self.index = self.stage.indexes.share(predecessor.index)

    def serve(self) -> None:
        """Take dispatches and settle them until the channel ends."""
        raise NotImplementedError

    def check(self, now: float) -> float | None:  # noqa: ARG002 - for subclasses
        """Enforce deadlines; return when to call this again (monotonic time), or None. Coordinating thread only."""
        return None

    def interrupt(self) -> None:
        """The run is being torn down: end every wait. Called from another thread, must not block."""

    def end_programs(self) -> None:
        """Kill the programs that the stage's function has started on this thread. From another thread."""
        end_programs_of(self.thread)

    def setup_failed(self, failure: CallFailure, attempt: int) -> None:
        """See :func:`.stages.setup_retry.setup_failed`."""
        setup_failed(self.stage.stage.name, failure, attempt, self.context)


class Stopwatch:
    """Measures the seconds between two calls of :meth:`lap`."""

    def __init__(self) -> None:
        self._last = time.monotonic()

    def lap(self) -> float:
        """Seconds since the last call, or since the stopwatch was made."""
        now = time.monotonic()
        passed, self._last = now - self._last, now
        return passed


def timeout_failure(stage: StageRun, seconds: float) -> CallFailure:
    """The failure of a call that took longer than the stage's ``timeout``."""
    error = ItemTimeout(f"a call took longer than timeout={stage.stage.timeout:g} s (ended after {seconds:.1f} s)")
    message = f"a call took longer than timeout={stage.stage.timeout:g} s"
    return CallFailure("ItemTimeout", message, retryable=stage.stage.retry.accepts(error), kind="timeout")
