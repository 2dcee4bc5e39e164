# SPDX-License-Identifier: Apache-2.0
"""Visits to the sink of a load around its shards: on a thread of their own, so that the caller waits interruptibly."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Mapping
from typing import Literal

from airflow_parallel_provider.engine.interfaces.records import CommittedChunk
from airflow_parallel_provider.engine.interfaces.sink import Sink
from airflow_parallel_provider.engine.interfaces.stop import StopToken
from airflow_parallel_provider.engine.plan.pipeline_plan import PipelinePlan
from airflow_parallel_provider.errors import RunStopped, SinkFailed

log = logging.getLogger("airflow_parallel_provider")

_LOOK_EVERY = 0.2
"""Seconds between two looks at the stop token."""

_INTERRUPTED = 2.0
"""Seconds that a visit which was interrupted has for its end."""

Chunks = Mapping[str, CommittedChunk]


class SinkVisit:
    """Opens the sink, acts, closes it, all on one thread that it starts.

    :param act: gets the chunks that are committed.
    """

    def __init__(
        self, plan: PipelinePlan, sink: Sink, part: Literal["plan", "finish"], act: Callable[[Chunks], object]
    ) -> None:
        self._sink = sink
        self._act = act
        self.error: BaseException | None = None
        """Why it failed: a :class:`SinkFailed`, or an error of ``act`` that ends a run."""
        sink.prepare(plan.load_spec_of(part))
        self._thread = threading.Thread(target=self._run, name="parallel-sink", daemon=True)
        self._thread.start()

    def wait(self, seconds: float) -> bool:
        """Wait; return whether the visit has ended."""
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def interrupt(self) -> None:
        """Abort what the sink is doing."""
        self._sink.interrupt()

    def _run(self) -> None:
        try:
            try:
                self._act(self._sink.open())
            finally:
                self._sink.close()
        except BaseException as error:  # noqa: BLE001 - for the calling thread
            self.error = self._named(error)

    def _named(self, error: BaseException) -> BaseException:
        if not isinstance(error, Exception) or hasattr(error, "report"):
            return error
        failed = SinkFailed(f"the sink {self._sink.describe()} failed: {type(error).__name__}: {error}")
        failed.__cause__ = error
        return failed


def visit_sink(
    plan: PipelinePlan,
    sink: Sink,
    part: Literal["plan", "finish"],
    stop: StopToken,
    act: Callable[[Chunks], object],
) -> None:
    """Open the sink, act, close it.

    :raises SinkFailed: if the sink fails; the errors of ``act`` that end a run are raised as they are.
    :raises RunStopped: if the stop token is set.
    """
    visit = SinkVisit(plan, sink, part, act)
    try:
        while not visit.wait(_LOOK_EVERY):
            if stop.is_set:
                visit.interrupt()
                visit.wait(_INTERRUPTED)
                break
    except BaseException:  # execution_timeout
        visit.interrupt()
        raise
    if stop.is_set:
        raise RunStopped(f"stopped: {stop.reason}", None, stop.reason)
    if visit.error is not None:
        raise visit.error


class LoadWatch:
    """Keeps the sink open while shards work elsewhere: says what they have committed, and tells them to stop.

    :param on_look: called on the sink's thread with what is committed by then, or None if the sink cannot say, and the
        seconds that it took to ask.
    """

    def __init__(self, plan: PipelinePlan, sink: Sink, on_look: Callable[[Chunks | None, float], object]) -> None:
        self._sink = sink
        self._on_look = on_look
        self._requests: queue.SimpleQueue[Callable[[], object] | None] = queue.SimpleQueue()
        self._idle = threading.Event()
        self._visit = SinkVisit(plan, sink, "finish", self._serve)

    def look(self) -> None:
        """Have ``on_look`` called soon, unless the last look still goes on."""
        if self._idle.is_set():
            self._idle.clear()
            self._requests.put(self._look)

    def end(self, *, dismiss: bool) -> None:
        """Look once more, so that the report says what is in, and close the sink, within a few seconds.

        :param dismiss: tell the shards to stop first.
        """
        if dismiss:
            self._requests.put(self._sink.dismiss_shards)
        self._requests.put(self._look)
        self._requests.put(None)
        if not self._visit.wait(_INTERRUPTED):
            self._visit.interrupt()
            self._visit.wait(_INTERRUPTED / 2)
        if dismiss and self._visit.error is not None:
            log.warning("The shards could not be told to stop; they end with their work: %s", self._visit.error)

    def _look(self) -> None:
        began = time.monotonic()
        found = self._sink.committed_now()
        self._on_look(found, time.monotonic() - began)

    def _serve(self, _: Chunks) -> None:
        self._idle.set()
        while (act := self._requests.get()) is not None:
            try:
                act()
            except Exception:
                log.info("The ledger of the load could not be read or written", exc_info=True)
                if act == self._sink.dismiss_shards:
                    raise
            self._idle.set()
