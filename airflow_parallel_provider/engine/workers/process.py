# SPDX-License-Identifier: Apache-2.0
"""A process worker: the thread in the task process that drives one worker process.

It keeps up to two messages in flight, so that the worker process never waits for the round trip, and always knows which
calls the process holds. When the process dies, hangs or sends something unreadable, only the call that it was running
fails and all others go back into the channel. The status page that both share says which call that is.
"""

from __future__ import annotations

import contextlib
import threading
import time
from array import array
from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from airflow_parallel_provider.engine.dataflow.channel import END, ChannelBroken, Dispatch
from airflow_parallel_provider.engine.functions.outcome import CallFailure, Outcome, describe_error
from airflow_parallel_provider.engine.ipc import wire
from airflow_parallel_provider.engine.workers.base import Stopwatch, Worker, WorkerSupervisor
from airflow_parallel_provider.engine.workers.connection import WorkerConnection, WorkerDied
from airflow_parallel_provider.engine.workers.lost_worker import AbandonedMessages, LostWorkerHandler, settle_abandoned
from airflow_parallel_provider.engine.workers.message import (
    Message,
    put_back_all,
    put_back_as_suspects,
    split_suspects,
)
from airflow_parallel_provider.engine.workers.work_stealing import (
    CHECK_SECONDS,
    STALLED_SECONDS,
    reclaim_calls,
    reconcile,
    worth_it,
)

if TYPE_CHECKING:
    from airflow_parallel_provider.engine.stages.stage_run import StageRun

WINDOW = 2
"""Messages in flight at most: the second one hides the round trip, a third gains little."""


class ProcessWorker(Worker):
    """Serves one stage through one worker process at a time.

    :param takes_over: what the abandoned worker held that this one replaces.
    """

    leftover: AbandonedMessages | None

    def __init__(
        self,
        stage: StageRun,
        number: int,
        supervisor: WorkerSupervisor,
        takes_over: AbandonedMessages | None = None,
    ) -> None:
        super().__init__(stage, number, supervisor)
        self._connection = WorkerConnection(stage, number, supervisor, lambda: self.index or 0)
        self._lost_worker = LostWorkerHandler(stage, self._connection, supervisor, self.metrics)
        self._in_flight: deque[Message] = deque()
        self._sequence = 0
        self._by_value = False
        self._calls = 0
        self._answered = False
        self._recycling_requested = False
        self._takes_over = takes_over
        self._lock = threading.Lock()
        self._converting: tuple[float, Dispatch] | None = None  # since when, and whose items or results
        self.leave_lock = threading.Lock()  # held while it is decided why this worker leaves: retired or superseded

    @property
    def pid(self) -> int | None:
        """Process id of the present worker process; None while there is none."""
        return self._connection.pid

    def record_rss(self, rss: int) -> None:
        """The process was seen to hold ``rss`` bytes of resident memory. Coordinating thread only."""
        self._connection.last_rss = rss

    def over_limit(self, rss: int, *, end_now: bool) -> None:
        """The process is over the stage's ``memory_limit``: replace it. Coordinating thread only.

        :param end_now: end it in the middle of a call, because it is far over the limit.
        """
        if end_now:
            self._connection.end_over_limit(rss)
        else:
            self._request_recycling()

    def _request_recycling(self) -> None:
        if not self._recycling_requested:
            self._recycling_requested = True
            self.supervisor.recycle(self)

    def interrupt(self) -> None:
        """The run is being torn down."""
        self._connection.interrupt()

    def serve(self) -> None:
        """Send calls to a worker process until the channel ends; start another process when one is lost."""
        if self._takes_over is not None:
            settle_abandoned(self._takes_over, self.stage, self.metrics)
        try:
            while True:
                self._begin_process()
                try:
                    self._exchange_messages()
                except WorkerDied as died:
                    self._handle_lost_worker(died)
                    continue
                self._connection.end()
                return
        finally:
            self._connection.drop()
            self.metrics.cpu, self.metrics.peak_rss = self._connection.cpu, self._connection.peak_rss

    def _begin_process(self) -> None:
        attempt = 0
        while (failure := self._connection.begin()) is not None:
            attempt += 1
            self.setup_failed(failure, attempt)
        self._calls, self._answered = 0, False
        predecessor, self.replaces = self.replaces, None
        if isinstance(predecessor, ProcessWorker):
            _supersede(predecessor, self)

    # -- leaving ----------------------------------------------------------------------------------------------------

    def _retire(self) -> None:
        """Leave, because the stage has fewer workers now. A worker that has a successor leaves anyway: pass it on."""
        with self.leave_lock:
            self.retired = not self.superseded
        if self.superseded:
            self.stage.channel.retire(1)

    def _is_leaving(self) -> bool:
        if not self.superseded and not self.retired and self.stage.channel.take_retirements():
            self._retire()
        return self.superseded or self.retired

    # -- messages ---------------------------------------------------------------------------------------------------

    def _exchange_messages(self) -> None:
        watch = Stopwatch()
        while True:
            leaving = self._is_leaving()
            while len(self._in_flight) < WINDOW and not leaving:
                watch.lap()
                dispatch = self.stage.get(block=not self._in_flight)
                if not self._in_flight:
                    self.stage.waited_for_work(watch.lap(), self.metrics)
                if dispatch is END and not self._in_flight:
                    if not self.stage.channel.ended:
                        self._retire()
                    return
                if not dispatch:
                    break
                for part in split_suspects(dispatch):
                    self._send(part)
            if self._in_flight:
                self._receive_result(self._connection.receive(self._reclaim_if_stalled))
            elif leaving:
                return

    def _send(self, dispatch: Dispatch) -> None:
        values = dispatch[0].values if len(dispatch) == 1 else [value for bundle in dispatch for value in bundle.values]
        self._sequence += 1
        self._in_flight.append(Message(self._sequence, dispatch, len(values), len(values), self._by_value))
        try:
            with self._deadline_holds(dispatch):
                self._connection.send(self._sequence, values, by_value=self._by_value)
        except (WorkerDied, ChannelBroken):
            raise
        except BaseException as error:  # noqa: BLE001 - an item that cannot be pickled: find which
            message = self._in_flight.pop()
            failure = describe_error(error, kind="transport")
            failure.message = f"the item cannot be sent to a worker process: {failure.message}"
            self._untransportable(message, failure)

    def _receive_result(self, frame: wire.Frame) -> None:
        message = self._in_flight.popleft()
        assert frame.sequence == message.sequence, "a worker process answers in order"
        self._answered = True
        if frame.kind == wire.UNREADABLE:
            failure: CallFailure = frame.load()
            failure.message = f"the item cannot be read in the worker process: {failure.message}"
            self._untransportable(message.without_reclaimed(batched=self.stage.stage.batched), failure)
            return
        try:
            with self._deadline_holds(message.without_reclaimed(batched=self.stage.stage.batched).dispatch):
                outcome = _decode(frame)
        except ChannelBroken:
            raise
        except BaseException as error:  # noqa: BLE001 - unpickling runs the objects' own code
            failure = describe_error(error, kind="transport")
            failure.message = f"the result cannot be read back in the task process: {failure.message}"
            self._untransportable(message.without_reclaimed(batched=self.stage.stage.batched), failure)
            return
        dispatch, outcome = reconcile(self.stage, message, outcome)
        self._calls += len(outcome.nanoseconds)
        lifespan, limit = self.stage.stage.worker_lifespan, self.stage.stage.memory_limit
        if (lifespan is not None and self._calls >= lifespan) or (
            limit is not None and self._connection.rss_now > limit
        ):
            self._request_recycling()
        if dispatch:
            self.stage.settle(dispatch, outcome, self.metrics)

    def _reclaim_if_stalled(self, running: float) -> float | None:
        """The present call has been running for so many seconds; return in how many to call this again."""
        if sum(message.remaining for message in self._in_flight) <= 1:
            return None
        if running >= STALLED_SECONDS and worth_it(self.stage, self._in_flight):
            reclaim_calls(self.stage, self._connection.process, self._in_flight)
        return CHECK_SECONDS

    def _untransportable(self, message: Message, failure: CallFailure) -> None:
        """An item or a result of the message cannot be sent: send its calls one by one, and fail the one that cannot.

        Before any call fails, all are sent by value: the reason may be only a class of the DAG file, which a worker
        process cannot import.
        """
        dispatch = message.dispatch
        if not dispatch:
            return  # all of it was reclaimed
        if not message.by_value:
            self._by_value = True
            put_back_all(self.stage, dispatch)
        elif sum(len(bundle.values) for bundle in dispatch) > 1:
            put_back_as_suspects(self.stage, dispatch)
        else:
            failure.location = ""
            self.stage.call_failed(dispatch[0], 0, failure, self.metrics)

    # -- items and results whose code hangs ---------------------------------------------------------------------------

    @contextlib.contextmanager
    def _deadline_holds(self, dispatch: Dispatch) -> Iterator[None]:
        """The block runs code of these items or their results on this thread: their classes say how they are pickled.

        :raises ChannelBroken: when it took too long, and a replacement has taken over.
        """
        with self._lock:
            self._converting = (time.monotonic(), dispatch)
        try:
            yield
        finally:
            with self._lock:
                self._converting = None
                if self.abandoned:
                    raise ChannelBroken

    def check(self, now: float) -> float | None:
        """Abandon the worker when an item or a result takes longer to be pickled or unpickled than a call may take."""
        timeout = self.stage.stage.timeout
        if timeout is None or self.abandoned:
            return None
        with self._lock:
            since, dispatch = self._converting or (now, [])
            if now - since < timeout:
                return since + timeout
            self.abandoned = True
            others = [message for message in self._in_flight if message.dispatch is not dispatch]
            self.leftover = AbandonedMessages(dispatch, others, now - since, self._connection)
        self.supervisor.replace(self)
        return None

    # -- lost worker processes --------------------------------------------------------------------------------------

    def _handle_lost_worker(self, died: WorkerDied) -> None:
        if died.timed_out is None:
            self._receive_last_results()
        in_flight = list(self._in_flight)
        self._in_flight.clear()
        self._lost_worker.handle(died, in_flight, answered=self._answered)

    def _receive_last_results(self) -> None:
        """Results that the process sent before it died count."""
        try:
            while self._in_flight:
                frame = self._connection.poll()
                if frame is None:
                    return
                self._receive_result(frame)
        except WorkerDied:
            return


def _decode(frame: wire.Frame) -> Outcome:
    loaded: tuple[list[Any], Any, dict[int, CallFailure], bytes] = frame.load()
    results, shapes, failures, nanoseconds = loaded
    durations: array[int] = array("Q")
    durations.frombytes(nanoseconds)
    return Outcome(results, shapes, failures, durations)


def _supersede(predecessor: ProcessWorker, successor: ProcessWorker) -> None:
    """Let the worker leave that is replaced; if it was retired meanwhile, its successor leaves too."""
    with predecessor.leave_lock:
        if predecessor.retired:
            successor.retired = True
        elif not predecessor.metrics.ended:
            predecessor.superseded = True
