"""What all kinds of workers have in common, and what they need of the run."""

from __future__ import annotations

import contextvars
import threading
import time
from typing import TYPE_CHECKING, Protocol

from airflow_parallel_provider.engine.dataflow.channel import ChannelBroken
from airflow_parallel_provider.engine.functions.outcome import CallFailure
from airflow_parallel_provider.engine.interfaces.stop import StopToken
from airflow_parallel_provider.engine.processes.client import ForkServerClient, ForkServerLost
from airflow_parallel_provider.engine.stages.setup_retry import setup_failed
from airflow_parallel_provider.errors import ItemTimeout, RunFailed

if TYPE_CHECKING:
    from airflow_parallel_provider.engine.stages.stage_run import StageRun


class WorkerSupervisor(Protocol):
    """What a worker needs of its run."""

    stop: StopToken

    def fail(self, error: RunFailed) -> None:
        """End the run with this error."""

    def crashed(self, error: BaseException) -> None:
        """A worker met an error of the engine's own: end the run with it."""

    def warn(self, text: str) -> None:
        """Put a line into the report."""

    def fork_server(self, broken: ForkServerClient | None = None) -> ForkServerClient:
        """The running fork server; a new one when ``broken`` is the current one. Blocks until it is there."""

    def replace(self, worker: Worker) -> None:
        """A worker was given up: start another one in its place."""

    def recycle(self, worker: Worker) -> None:
        """A worker's worker has served its time: start a successor, then let it end. From the worker's thread."""


class Worker:
    """A thread in the task process that serves one stage. Subclasses implement :meth:`serve`."""

    def __init__(self, stage: StageRun, number: int, context: WorkerSupervisor) -> None:
        self.stage = stage
        self.number = number
        self.context = context
        self.metrics = stage.new_worker_metrics()
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

    def serve(self) -> None:
        """Take dispatches and settle them until the channel ends."""
        raise NotImplementedError

    def check(self, now: float) -> float | None:  # noqa: ARG002 - for subclasses
        """Enforce deadlines; return when to call this again (monotonic time), or None. Coordinating thread only."""
        return None

    def interrupt(self) -> None:
        """The run is being torn down: end every wait. Called from another thread, must not block."""

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
