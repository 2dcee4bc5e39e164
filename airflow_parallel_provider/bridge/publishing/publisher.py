# SPDX-License-Identifier: Apache-2.0
"""Writes values to XCom and the task state store. Never fails the task, which has done its work without them."""

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
LAST_WRITES_SECONDS: Final = 60.0
"""How long the end of a run waits for the last writes, which include the report."""
HURRIED_SECONDS: Final = 1.5
"""The same after a stop request: Airflow kills the task five seconds after the request, and the engine takes two."""

log = logging.getLogger(__name__)


class Publisher:
    """Pushes XCom values and, where Airflow has one, writes to the task state store.

    The supervisor serves one request after the other, and the wait for a response cannot be interrupted. With an API
    server that takes five seconds the supervisor tries five times, and meanwhile the thread that sent the request
    notices no stop and no ``execution_timeout``. Inside :meth:`at_work` a separate thread therefore sends the requests;
    outside it the caller does.

    After an error it skips writes for half a minute, since more requests do not help an API server in trouble. It
    always tries the last write of a kind: no later one could show how the run ended.

    :param context: the context of ``execute``.
    :param clock: returns seconds; only tests replace it.
    """

    def __init__(self, context: Context | Mapping[str, Any], clock: Callable[[], float] = time.monotonic) -> None:
        self._ti: Any = context["ti"]
        self._state_store = _compat.task_state_store(context)
        self._clock = clock
        self._skip_until: dict[str, float] = {}
        self._took: dict[str, float] = {}
        self._writes: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._queued = self._done = 0
        self._abandoned = False
        self.hurried = False
        """Set after ``execution_timeout``: Airflow raises it only once, so it cannot end the wait for last writes."""
        self.cpu_seconds = 0.0
        """CPU time of the thread."""

    @property
    def idle(self) -> bool:
        """Whether no write is queued or in progress; until then a newer snapshot would only wait."""
        return self._done >= self._queued

    @property
    def seconds(self) -> float:
        """How long the last writes took, summed over the places written to."""
        return sum(self._took.values())

    def push(self, key: str, value: dict[str, Any], *, last: bool = False) -> None:
        """Push an XCom of this task instance. It is visible at once; the next try begins by deleting it."""
        self._write("XCom", lambda: self._ti.xcom_push(key=key, value=value), last=last)

    def store(self, key: str, value: dict[str, Any], *, last: bool = False) -> None:
        """Write to the task state store, which keeps the value through retries; does nothing where there is none."""
        store = self._state_store
        if store is not None:
            self._write("the task state store", lambda: store.set(key, value), last=last)

    @contextlib.contextmanager
    def at_work(self, stop: StopToken) -> Iterator[None]:
        """Write on a separate thread inside the block; at its end wait for the writes that are still queued.

        It waits :data:`LAST_WRITES_SECONDS`, but only :data:`HURRIED_SECONDS` after a stop request, also one during the
        wait, or after ``execution_timeout``. Writes that are not done by then are dropped.

        The thread has the caller's context variables: they allow requests to Airflow and hold the current span.
        """
        self._thread = threading.Thread(
            target=contextvars.copy_context().run, args=(self._work,), name="parallel-publisher", daemon=True
        )
        self._thread.start()
        try:
            yield
        except Exception:
            self._finish_in_time(stop)  # must not replace the error, which says whether a retry can help
            raise
        except BaseException:  # execution_timeout, or the end of the process
            self._finish(stop, HURRIED_SECONDS)
            raise
        self._finish_in_time(stop)

    def _finish_in_time(self, stop: StopToken) -> None:
        try:
            self._finish(stop, LAST_WRITES_SECONDS)
        except _compat.task_timeout():  # the run itself ended in time
            log.warning("The last metrics are not written: execution_timeout has passed")

    def _finish(self, stop: StopToken, seconds: float) -> None:
        thread = self._thread
        assert thread is not None, "set by at_work"
        self._writes.put(None)
        began = time.monotonic()
        try:
            while thread.is_alive():
                waited = time.monotonic() - began
                left = (HURRIED_SECONDS if stop.is_set or self.hurried else seconds) - waited
                if left <= 0:
                    log.warning("The last metrics are not written: no response from Airflow for %.1f s", waited)
                    break
                thread.join(min(0.1, left))
        finally:
            self._abandoned = True
            self._thread = None

    def _work(self) -> None:
        while (write := self._writes.get()) is not None and not self._abandoned:
            began = time.thread_time()
            write()
            self.cpu_seconds += time.thread_time() - began
            self._done += 1

    def _write(self, where: str, write: Callable[[], object], *, last: bool) -> None:
        if self._thread is None:
            self._try(where, write, last=last)
        else:
            self._queued += 1
            self._writes.put(lambda: self._try(where, write, last=last))

    def _try(self, where: str, write: Callable[[], object], *, last: bool) -> None:
        began = self._clock()
        if began < self._skip_until.get(where, 0.0) and not last:
            return
        try:
            write()
        except Exception as error:  # noqa: BLE001 - writes never fail the task; a timeout is no Exception and passes
            self._skip_until[where] = self._clock() + _PAUSE_AFTER_ERROR
            log.warning("Metrics could not be written to %s: %s: %s", where, type(error).__name__, error)
        finally:
            self._took[where] = self._clock() - began
