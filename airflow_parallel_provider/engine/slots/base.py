"""What every worker slot is, and what it needs of the run."""

from __future__ import annotations

import contextvars
import threading
import time
from typing import TYPE_CHECKING, Protocol

from airflow_parallel_provider.engine.calls import CallFailure
from airflow_parallel_provider.engine.channel import ChannelBroken
from airflow_parallel_provider.engine.nursery.client import NurseryClient, NurseryLost
from airflow_parallel_provider.engine.stop import StopToken
from airflow_parallel_provider.errors import RunFailed, SetupFailed

if TYPE_CHECKING:
    from airflow_parallel_provider.engine.stage_run import StageRun

SETUP_ATTEMPTS = 3
"""How often a worker's ``setup`` is tried before the run fails: a service that just starts gets a second chance."""


SETUP_PAUSE = 0.1
"""Seconds, doubled with each attempt, before ``setup`` is tried again."""


class SlotContext(Protocol):
    """What a slot needs of its run."""

    stop: StopToken

    def fail(self, error: RunFailed) -> None:
        """End the run with this error."""

    def crashed(self, error: BaseException) -> None:
        """A slot met an error of the engine's own: end the run with it."""

    def warn(self, text: str) -> None:
        """Put a line into the report."""

    def nursery(self, broken: NurseryClient | None = None) -> NurseryClient:
        """The running nursery; a new one when ``broken`` is the current one. Blocks until it is there."""

    def replace(self, slot: Slot) -> None:
        """A slot was given up: start another one in its place."""

    def relieve(self, slot: Slot) -> None:
        """A slot's worker has served its time: start a successor, then let it end. From the slot's thread."""


class Slot:
    """One worker's thread in the task process. Subclasses implement :meth:`serve`."""

    def __init__(self, stage: StageRun, number: int, context: SlotContext) -> None:
        self.stage = stage
        self.number = number
        self.context = context
        self.tally = stage.new_tally()
        self.abandoned = False
        self.relieved = False  # another one has taken its place: finish what is in hand and end
        self.dismissed = False  # its place is no longer there: the same
        self.relieves: Slot | None = None  # the one whose place this one takes, once it is set up
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
        except NurseryLost as error:
            if not self.context.stop.is_set:  # else it went down with the run
                self.context.crashed(error)
        except BaseException as error:  # noqa: BLE001 - a slot that dies silently would hang the run
            self.context.crashed(error)
        finally:
            self.tally.ended = True

    def serve(self) -> None:
        """Take hands and settle them until the channel ends."""
        raise NotImplementedError

    def check(self, now: float) -> float | None:  # noqa: ARG002 - for subclasses
        """Called by the coordinating thread: enforce deadlines; return when to look again (monotonic), or None."""
        return None

    def interrupt(self) -> None:
        """The run is being torn down: stop waiting for the worker. Called from another thread, must not block."""

    def setup_failed(self, failure: CallFailure, attempt: int) -> None:
        """See :func:`setup_failed`."""
        setup_failed(self.stage.stage.name, failure, attempt, self.context)


def setup_failed(stage: str, failure: CallFailure, attempt: int, context: SlotContext) -> None:
    """Wait before ``setup`` is tried again, or fail the run after the last attempt.

    :raises ChannelBroken: when it will not be tried again.
    """
    if attempt >= SETUP_ATTEMPTS:
        where = f" ({failure.place})" if failure.place else ""
        text = f"stage {stage}: setup failed {attempt} times: {failure.error}: {failure.message}{where}"
        context.fail(SetupFailed(text))
        raise ChannelBroken
    if context.stop.wait(SETUP_PAUSE * 2**attempt):
        raise ChannelBroken


class Stopwatch:
    """Seconds since the last lap."""

    def __init__(self) -> None:
        self._last = time.monotonic()

    def lap(self) -> float:
        """Seconds since the last call."""
        now = time.monotonic()
        passed, self._last = now - self._last, now
        return passed
