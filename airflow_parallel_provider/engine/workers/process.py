"""A process worker: the thread in the task process that owns one worker process.

It keeps up to two messages with its worker, so that the worker never waits for the round trip, and always knows which
calls the worker holds: when the worker dies, hangs or sends something unreadable, exactly the call it was running is
charged and everything else goes back to the channel. The memory page shared with the worker says which call that is.
"""

from __future__ import annotations

import signal
import threading
from array import array
from collections import deque
from typing import TYPE_CHECKING, Any

from airflow_parallel_provider.engine.dataflow.channel import END, ChannelBroken, Dispatch
from airflow_parallel_provider.engine.functions.outcome import CallFailure, Outcome, describe_error
from airflow_parallel_provider.engine.functions.status_page import DECODING, RUNNING, SENDING
from airflow_parallel_provider.engine.ipc import wire
from airflow_parallel_provider.engine.processes.system import exit_text, was_signalled
from airflow_parallel_provider.engine.workers.base import Stopwatch, Worker, WorkerSupervisor, timeout_failure
from airflow_parallel_provider.engine.workers.connection import WorkerConnection, WorkerDied
from airflow_parallel_provider.engine.workers.work_stealing import (
    CHECK_SECONDS,
    STALLED_SECONDS,
    Message,
    answered,
    reclaim_calls,
    single_calls,
    worth_it,
)
from airflow_parallel_provider.errors import WorkerLost, WorkersExhausted

if TYPE_CHECKING:
    from airflow_parallel_provider.engine.stages.stage_run import StageRun

WINDOW = 2
"""Messages with the worker at once: the second one hides the round trip, a third gains little."""

IDLE_DEATHS = 5
"""Deaths in a row of workers that were doing nothing, before the run fails: something outside kills them."""

_SIGNAL_GRACE = 1.0


class ProcessWorker(Worker):
    """Serves one stage through one worker process at a time."""

    def __init__(self, stage: StageRun, number: int, supervisor: WorkerSupervisor) -> None:
        super().__init__(stage, number, supervisor)
        self._connection = WorkerConnection(stage, number, supervisor)
        self._flight: deque[Message] = deque()
        self._sequence = 0
        self._idle_deaths = 0
        self._by_value = False
        self._calls = 0
        self._recycling_requested = False
        self.path = threading.Lock()  # whether it or its successor is to leave is decided once

    @property
    def pid(self) -> int | None:
        """Process id of the worker it has now."""
        return self._connection.pid

    def record_rss(self, rss: int) -> None:
        """The worker's resident memory was seen to be ``rss`` bytes."""
        self._connection.last_rss = rss

    def over_limit(self, rss: int, *, end_now: bool) -> None:
        """The worker is over its ``memory_limit``: replace it; end it at once when it is far over. Coordinator only."""
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
        """Keep the worker fed until the channel ends; replace it when it is lost."""
        try:
            while True:
                self._begin_worker()
                try:
                    self._feed()
                except WorkerDied as gone:
                    self._handle_lost_worker(gone)
                    continue
                self._connection.end()
                return
        finally:
            self._connection.drop()
            self.metrics.cpu, self.metrics.peak_rss = self._connection.cpu, self._connection.peak_rss

    def _begin_worker(self) -> None:
        attempt = 0
        while (failure := self._connection.begin()) is not None:
            attempt += 1
            self.setup_failed(failure, attempt)
        self._calls = 0
        predecessor, self.replaces = self.replaces, None
        if isinstance(predecessor, ProcessWorker):
            self._take_over(predecessor)

    def _take_over(self, predecessor: ProcessWorker) -> None:
        with predecessor.path:
            if predecessor.retired:
                self.retired = True
            elif not predecessor.metrics.ended:
                predecessor.superseded = True

    def _retire(self) -> None:
        """It is one of those to leave; where a successor has its place already, that has to be another one."""
        with self.path:
            self.retired = not self.superseded
        if self.superseded:
            self.stage.channel.retire_one(1)

    def _is_retiring(self) -> bool:
        if not self.superseded and not self.retired and self.stage.channel.try_retire():
            self._retire()
        return self.superseded or self.retired

    def _feed(self) -> None:
        watch = Stopwatch()
        while True:
            leaving = self._is_retiring()
            while len(self._flight) < WINDOW and not leaving:
                watch.lap()
                dispatch = self.stage.get(block=not self._flight)
                if not self._flight:
                    self.stage.waited_for_work(watch.lap(), self.metrics)
                if dispatch is END and not self._flight:
                    if not self.stage.channel.ended:
                        self._retire()
                    return
                if not dispatch:
                    break
                for message in _messages(dispatch):
                    self._send(message)
            if self._flight:
                self._receive_result(self._connection.receive(self._look_at_stall))
            elif leaving:
                return

    def _send(self, dispatch: Dispatch) -> None:
        values = dispatch[0].values if len(dispatch) == 1 else [value for bundle in dispatch for value in bundle.values]
        self._sequence += 1
        self._flight.append(Message(self._sequence, dispatch, len(values), len(values), self._by_value))
        try:
            self._connection.send(self._sequence, values, by_value=self._by_value)
        except WorkerDied:
            raise
        except Exception as error:  # noqa: BLE001 - an item that cannot travel: find which
            message = self._flight.pop()
            failure = describe_error(error, kind="transport")
            failure.message = f"the item cannot be sent to a worker process: {failure.message}"
            self._untransportable(message, failure)

    # -- answers ----------------------------------------------------------------------------------------------------

    def _receive_result(self, frame: wire.Frame) -> None:
        message = self._flight.popleft()
        assert frame.sequence == message.sequence, "a worker answers in order"
        self._idle_deaths = 0
        if frame.kind == wire.UNREADABLE:
            failure: CallFailure = frame.load()
            failure.message = f"the item cannot be read in the worker process: {failure.message}"
            self._untransportable(self._unfinished(message), failure)
            return
        try:
            outcome = _decode(frame)
        except BaseException as error:  # noqa: BLE001 - unpickling runs the objects' own code
            failure = describe_error(error, kind="transport")
            failure.message = f"the result cannot be read back in the task process: {failure.message}"
            self._untransportable(self._unfinished(message), failure)
            return
        dispatch, outcome = answered(self.stage, message, outcome)
        self._calls += len(outcome.nanoseconds)
        lifespan, limit = self.stage.stage.worker_lifespan, self.stage.stage.memory_limit
        if (lifespan is not None and self._calls >= lifespan) or (
            limit is not None and self._connection.rss_now > limit
        ):
            self._request_recycling()
        if dispatch:
            self.stage.settle(dispatch, outcome, self.metrics)

    def _look_at_stall(self, running: float) -> float | None:
        """The worker's call has been running for so long; return when to look again, in seconds."""
        if sum(message.remaining for message in self._flight) <= 1:
            return None
        if running >= STALLED_SECONDS and worth_it(self.stage, self._flight):
            reclaim_calls(self.stage, self._connection.worker, self._flight)
        return CHECK_SECONDS

    def _untransportable(self, message: Message, failure: CallFailure) -> None:
        """Some item or result of a message cannot travel: have its calls travel one by one, charge the one that fails.

        Before any is charged all are sent by value: perhaps it is only a class of the DAG file, which a worker process
        cannot import.
        """
        dispatch = message.dispatch
        if not dispatch:
            return  # all of it was taken back
        if not message.by_value:
            self._by_value = True
            self._return_all(dispatch)
        elif sum(len(bundle.values) for bundle in dispatch) > 1:
            self._return_alone(dispatch)
        else:
            failure.location = ""
            self.stage.call_failed(dispatch[0], 0, failure, self.metrics)

    def _return_all(self, dispatch: Dispatch) -> None:
        for bundle in dispatch:
            self.stage.put_back(bundle)

    def _return_alone(self, dispatch: Dispatch) -> None:
        for call in single_calls(dispatch, batched=self.stage.stage.batched):
            call.alone = True
            self.stage.put_back(call)

    # -- lost workers -----------------------------------------------------------------------------------------------

    def _handle_lost_worker(self, gone: WorkerDied) -> None:
        """A worker is dead or must be ended: find out why, charge the call it was running, return the others."""
        if gone.timed_out is None:
            self._drain()
        state, sequence, number = gone.position or self._connection.position()
        status = self._connection.drop()
        self._end_or_continue(status, ended_by_us=gone.timed_out is not None)
        messages, self._flight = [self._unfinished(message) for message in self._flight], deque()
        running = state in (RUNNING, SENDING, DECODING) and bool(messages) and messages[0].sequence == sequence
        for message in messages[1:] if running else messages:
            self._return_all(message.dispatch)
        if not running:
            self._handle_idle_death(status)
        elif status is None and self._connection.fork_server_died:
            self._return_all(messages[0].dispatch)  # no fault of the item's: all workers died at once
        else:
            self._fail_running_call(messages[0], state, number, self._lost_failure(gone, status))

    def _unfinished(self, message: Message) -> Message:
        """The message without the calls that were taken back."""
        if message.remaining == message.calls:
            return message
        dispatch = single_calls(message.dispatch, batched=self.stage.stage.batched)[: message.remaining]
        return Message(message.sequence, dispatch, message.remaining, message.remaining, message.by_value)

    def _drain(self) -> None:
        """Answers that were already on their way when the worker died are good."""
        try:
            while self._flight:
                frame = self._connection.poll()
                if frame is None:
                    return
                self._receive_result(frame)
        except WorkerDied:
            return

    def _end_or_continue(self, status: int | None, *, ended_by_us: bool) -> None:
        """Leave when the run is being torn down, or is about to be."""
        if self.context.stop.is_set:
            raise ChannelBroken
        by_signal = status is not None and was_signalled(status, signal.SIGTERM, signal.SIGINT)
        # Somebody ends the whole process group: wait for the stop that is on its way before blaming an item.
        if by_signal and not ended_by_us and self.context.stop.wait(_SIGNAL_GRACE):
            raise ChannelBroken

    def _fail_running_call(self, message: Message, state: int, number: int, failure: CallFailure) -> None:
        if state != RUNNING and message.calls > 1:
            # It died reading the message or sending the answer: which call it was shows when each travels alone.
            self._return_alone(message.dispatch)
            return
        guilty = number if state == RUNNING else 0
        for at, call in enumerate(single_calls(message.dispatch, batched=self.stage.stage.batched)):
            if at == guilty:
                self.stage.call_failed(call, 0, failure, self.metrics)
            else:
                self.stage.put_back(call)

    def _lost_failure(self, gone: WorkerDied, status: int | None) -> CallFailure:
        if gone.timed_out is not None:
            return timeout_failure(self.stage, gone.timed_out)
        how = self._connection.cause_of_death(status) or gone.reason
        message = f"the worker process died while it worked on this ({how})"
        retryable = self.stage.stage.retry.accepts(WorkerLost(message))
        return CallFailure("WorkerLost", message, retryable=retryable, kind="lost")

    def _handle_idle_death(self, status: int | None) -> None:
        self._idle_deaths += 1
        with self.stage.metrics.lock:
            self.stage.metrics.workers_lost += 1
        if self._idle_deaths > IDLE_DEATHS:
            how = exit_text(status) if status is not None else "unknown"
            text = f"stage {self.stage.stage.name}: workers keep dying while they have nothing to do (last one: {how})"
            self.context.fail(WorkersExhausted(text))
            raise ChannelBroken


def _messages(dispatch: Dispatch) -> list[Dispatch]:
    """A suspect travels in a message of its own."""
    if not any(bundle.alone for bundle in dispatch):
        return [dispatch]
    suspects: list[Dispatch] = [[bundle] for bundle in dispatch if bundle.alone]
    others = [bundle for bundle in dispatch if not bundle.alone]
    return [*suspects, others] if others else suspects


def _decode(frame: wire.Frame) -> Outcome:
    loaded: tuple[list[Any], Any, dict[int, CallFailure], bytes] = frame.load()
    results, shapes, failures, nanoseconds = loaded
    durations: array[int] = array("Q")
    durations.frombytes(nanoseconds)
    return Outcome(results, shapes, failures, durations)
