"""Writes values where Airflow shows them. Never fails the task: figures about the work are not the work."""

from __future__ import annotations

import contextlib
import contextvars
import logging
import queue
import threading
import time
from typing import TYPE_CHECKING, Any, Final

from airflow_parallel_provider.bridge import _compat

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from airflow.sdk import Context

    from airflow_parallel_provider.engine.interfaces.stop import StopToken

_PAUSE_AFTER_ERROR: Final = 30.0
PATIENCE: Final = 60.0
"""Seconds that the end of a run waits for the last writes; a report is worth that much."""
HURRY: Final = 1.5
"""The same for a run that was asked to stop: five seconds after the request Airflow kills, and the engine takes two."""

log = logging.getLogger(__name__)


class Publisher:
    """Pushes XCom values and, where Airflow has one, writes to the task state store.

    The line to Airflow answers one question after the other, and waiting for an answer cannot be interrupted: with an
    API server that takes five seconds the supervisor tries five times, and meanwhile whoever asks hears of no stop and
    no ``execution_timeout``. Inside :meth:`at_work` it is therefore a thread of its own that asks; outside the caller
    does.

    After an error it keeps silent for half a minute: an API server in trouble is not helped by more requests. What is
    the last of its kind is tried all the same: nothing comes after it that could say how the run ended.

    :param context: the context that ``execute`` was given.
    :param clock: seconds; only tests give another one.
    """

    def __init__(self, context: Context | Mapping[str, Any], clock: Callable[[], float] = time.monotonic) -> None:
        self._ti: Any = context["ti"]
        self._state_store = _compat.task_state_store(context)
        self._clock = clock
        self._silent_until: dict[str, float] = {}
        self._took: dict[str, float] = {}
        self._mail: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._given = self._done = 0
        self._given_up = False
        self.hurried = False
        """Set when ``execution_timeout`` has struck: it does so once, nothing else ends the wait for last writes."""
        self.cpu_seconds = 0.0
        """CPU time of the thread."""

    @property
    def idle(self) -> bool:
        """Whether all that was to be written has been: only then is there a point in a newer snapshot."""
        return self._done >= self._given

    @property
    def seconds(self) -> float:
        """How long the last writes took, one to each place."""
        return sum(self._took.values())

    def push(self, key: str, value: dict[str, Any], *, last: bool = False) -> None:
        """Push an XCom of this task instance; it can be seen at once, but the next try begins by deleting it."""
        self._write("XCom", lambda: self._ti.xcom_push(key=key, value=value), last=last)

    def store(self, key: str, value: dict[str, Any], *, last: bool = False) -> None:
        """Write to the task state store, which keeps it through retries; nothing happens where there is none."""
        store = self._state_store
        if store is not None:
            self._write("the task state store", lambda: store.set(key, value), last=last)

    @contextlib.contextmanager
    def at_work(self, stop: StopToken) -> Iterator[None]:
        """Write on a thread of its own inside the block; at its end wait for what is still to be written.

        For as long as :data:`PATIENCE` says; for :data:`HURRY` where the run was asked to stop, also while it waits
        here, or ``execution_timeout`` has struck. What could not be written by then is left out.

        The thread sees the caller's context variables: whose threads may ask Airflow, and which span they are in.
        """
        self._thread = threading.Thread(
            target=contextvars.copy_context().run, args=(self._work,), name="parallel-publisher", daemon=True
        )
        self._thread.start()
        try:
            yield
        except Exception:
            self._settle_in_time(stop)  # why the run failed, and whether a retry can help, is not lost in it
            raise
        except BaseException:  # execution_timeout, or the end of the process
            self._settle(stop, HURRY)
            raise
        self._settle_in_time(stop)

    def _settle_in_time(self, stop: StopToken) -> None:
        try:
            self._settle(stop, PATIENCE)
        except _compat.task_timeout():  # the run has ended in time; only its figures were not written
            log.warning("The last figures are not written: execution_timeout is over")

    def _settle(self, stop: StopToken, patience: float) -> None:
        thread = self._thread
        assert thread is not None, "set by at_work"
        self._mail.put(None)
        began = time.monotonic()
        try:
            while thread.is_alive():
                waited = time.monotonic() - began
                left = (HURRY if stop.is_set or self.hurried else patience) - waited
                if left <= 0:
                    log.warning("The last figures are not written: Airflow has not answered for %.1f s", waited)
                    break
                thread.join(min(0.1, left))
        finally:
            self._given_up = True
            self._thread = None

    def _work(self) -> None:
        while (write := self._mail.get()) is not None and not self._given_up:
            began = time.thread_time()
            write()
            self.cpu_seconds += time.thread_time() - began
            self._done += 1

    def _write(self, where: str, write: Callable[[], object], *, last: bool) -> None:
        if self._thread is None:
            self._try(where, write, last=last)
        else:
            self._given += 1
            self._mail.put(lambda: self._try(where, write, last=last))

    def _try(self, where: str, write: Callable[[], object], *, last: bool) -> None:
        began = self._clock()
        if began < self._silent_until.get(where, 0.0) and not last:
            return
        try:
            write()
        except Exception as error:  # noqa: BLE001 - see the module's first line; a time-out is no Exception and passes
            self._silent_until[where] = self._clock() + _PAUSE_AFTER_ERROR
            log.warning("Metrics could not be written to %s: %s: %s", where, type(error).__name__, error)
        finally:
            self._took[where] = self._clock() - began
