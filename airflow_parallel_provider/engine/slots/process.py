"""A process slot: the thread in the task process that owns one worker process.

It keeps up to two messages with its worker, so that the worker never waits for the round trip, and always knows which
calls the worker holds: when the worker dies, hangs or sends something unreadable, exactly the call it was running is
charged and everything else goes back to the channel. The memory page shared with the worker says which call that is.
"""

from __future__ import annotations

import logging
import pickle
import select
import signal
import socket
import time
from array import array
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_parallel_provider.engine.calls import (
    BEGAN_NS,
    CALL,
    CPU_NS,
    DECODING,
    MESSAGE,
    PEAK_RSS,
    RUNNING,
    SENDING,
    STATE,
    CallFailure,
    Outcome,
    describe_error,
)
from airflow_parallel_provider.engine.channel import END, ChannelBroken, Hand
from airflow_parallel_provider.engine.nursery import wire
from airflow_parallel_provider.engine.nursery.client import NurseryClient, NurseryLost, WorkerProcess
from airflow_parallel_provider.engine.nursery.parent import exit_text, was_signalled
from airflow_parallel_provider.engine.slots.base import Slot, SlotContext, Stopwatch
from airflow_parallel_provider.engine.slots.thread import timeout_failure
from airflow_parallel_provider.errors import SetupFailed, WorkerLost, WorkersExhausted

if TYPE_CHECKING:
    from airflow_parallel_provider.engine.stage_run import StageRun

WINDOW = 2
"""Messages with the worker at once: the second one hides the round trip, a third gains nothing (facts, table e2)."""

IDLE_DEATHS = 5
"""Deaths in a row of workers that were doing nothing, before the run fails: something outside kills them."""

TEARDOWN_SECONDS = 5.0
"""How long a worker may take for ``teardown`` at the normal end before it is ended."""

_SIGNAL_GRACE = 1.0


@dataclass(slots=True)
class Message:
    """One message with the worker."""

    sequence: int
    hand: Hand
    calls: int


class WorkerGone(Exception):
    """The worker is dead, or has to be ended; ``timed_out`` says for how long its call had been running."""

    def __init__(self, reason: str, timed_out: float | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.timed_out = timed_out


class ProcessSlot(Slot):
    """Serves one stage through one worker process at a time."""

    def __init__(self, stage: StageRun, number: int, context: SlotContext) -> None:
        super().__init__(stage, number, context)
        self.worker: WorkerProcess | None = None
        self.peak_rss = 0
        self._nursery: NurseryClient | None = None
        self._flight: deque[Message] = deque()
        self._sequence = 0
        self._idle_deaths = 0
        self._by_value = False

    # -- the loop ---------------------------------------------------------------------------------------------------

    def serve(self) -> None:
        """Keep the worker fed until the channel ends; replace it when it is lost."""
        try:
            while True:
                worker = self._begin_worker()
                try:
                    self._feed(worker)
                except WorkerGone as gone:
                    self._bury(worker, gone)
                    continue
                self._end_worker(worker)
                return
        finally:
            self._drop_worker()

    def _feed(self, worker: WorkerProcess) -> None:
        watch = Stopwatch()
        while True:
            while len(self._flight) < WINDOW:
                watch.lap()
                hand = self.stage.take(block=not self._flight)
                if not self._flight:
                    self.stage.meter.waited(starved=watch.lap())
                if hand is END and not self._flight:
                    return
                if not hand:
                    break
                self._send(worker, hand)
            if self._flight:
                self._answer(worker, self._receive(worker))

    def _send(self, worker: WorkerProcess, hand: Hand) -> None:
        for each in _alone(hand):
            values = each[0].values if len(each) == 1 else [value for parcel in each for value in parcel.values]
            try:
                payload, buffers = wire.dump(values, by_value=self._by_value)
            except Exception as error:  # noqa: BLE001 - an item that cannot travel: find which
                self._untransportable(each, describe_error(error, kind="transport"))
                continue
            self._sequence += 1
            self._flight.append(Message(self._sequence, each, len(values)))
            worker.outbox.add(wire.parts_of(wire.WORK, self._sequence, payload, buffers))
        try:
            worker.outbox.flush(worker.sock)
        except OSError:
            raise WorkerGone("it closed its socket") from None

    def _receive(self, worker: WorkerProcess) -> wire.Frame:
        """Wait for the next answer, sending what is still to be sent, within the deadline of the running call."""
        while True:
            frame = self._poll(worker)
            if frame is not None:
                return frame
            writers = [worker.sock] if worker.outbox else []
            readable, writable, _ = select.select([worker.sock], writers, [], self._patience(worker))
            if self.context.stop.is_set:
                raise ChannelBroken
            if writable:
                try:
                    worker.outbox.flush(worker.sock)
                except OSError:
                    raise WorkerGone("it closed its socket") from None
            if not readable:
                self._check_deadline(worker)

    def _poll(self, worker: WorkerProcess) -> wire.Frame | None:
        while True:
            try:
                frame = worker.inbox.poll(worker.sock)
            except (EOFError, OSError):
                if self.context.stop.is_set:
                    raise ChannelBroken from None
                raise WorkerGone("it died") from None
            if frame is None or frame.kind != wire.LOG:
                return frame
            self._log(frame)

    def _patience(self, worker: WorkerProcess) -> float | None:
        timeout = self.stage.stage.timeout
        if timeout is None:
            return None
        return max(0.001, timeout - self._running_for(worker))

    def _running_for(self, worker: WorkerProcess) -> float:
        if worker.page[STATE] != RUNNING:
            return 0.0
        return time.monotonic() - worker.page[BEGAN_NS] / 1e9

    def _check_deadline(self, worker: WorkerProcess) -> None:
        timeout = self.stage.stage.timeout
        running = self._running_for(worker)
        if timeout is not None and running >= timeout:
            raise WorkerGone("timeout", timed_out=running)

    # -- answers ----------------------------------------------------------------------------------------------------

    def _answer(self, worker: WorkerProcess, frame: wire.Frame) -> None:
        message = self._flight.popleft()
        assert frame.sequence == message.sequence, "a worker answers in order"
        self._idle_deaths = 0
        self.peak_rss = max(self.peak_rss, worker.page[PEAK_RSS])
        if frame.kind == wire.UNREADABLE:
            self._unreadable(message, frame)
            return
        try:
            outcome = _decode(frame)
        except BaseException as error:  # noqa: BLE001 - unpickling runs the objects' own code
            failure = describe_error(error, kind="transport")
            failure.message = f"the result cannot be read back in the task process: {failure.message}"
            self._untransportable(message.hand, failure)
            return
        self.stage.settle(message.hand, outcome)

    def _unreadable(self, message: Message, frame: wire.Frame) -> None:
        failure: CallFailure = frame.load()
        if not self._by_value:
            # Perhaps only a class of the DAG file, which the worker cannot import: send such things by value.
            self._by_value = True
            for parcel in message.hand:
                self.stage.put_back(parcel)
            return
        failure.message = f"the item cannot be read in the worker process: {failure.message}"
        self._untransportable(message.hand, failure)

    def _untransportable(self, hand: Hand, failure: CallFailure) -> None:
        """Some item or result of a message cannot travel: send its calls one by one, and charge the one that fails."""
        calls = sum(len(parcel.values) for parcel in hand)
        if calls == 1:
            if not self._by_value and failure.kind == "transport":
                self._by_value = True
                self.stage.put_back(hand[0])
                return
            failure.place = ""
            self.stage.call_failed(hand[0], 0, failure)
            return
        self._put_back_alone(hand)

    def _put_back_alone(self, hand: Hand) -> None:
        for parcel in hand:
            for number in range(len(parcel.values)):
                call = parcel.one(number, batched=self.stage.stage.batched)
                call.alone = True
                self.stage.put_back(call)

    def _log(self, frame: wire.Frame) -> None:
        level, name, text, dropped = pickle.loads(frame.payload)  # noqa: S301 - our own worker
        logger = logging.getLogger(name)
        where = f"{self.stage.stage.name}/{self.number}"
        if dropped:
            logger.warning("[%s] %d log records were dropped (rate limit)", where, dropped)
        logger.log(level, "[%s] %s", where, text)

    # -- lost workers -----------------------------------------------------------------------------------------------

    def _bury(self, worker: WorkerProcess, gone: WorkerGone) -> None:
        """A worker is dead or must be ended: find out why, charge the call it was running, return the others."""
        if gone.timed_out is None:
            self._drain(worker)
        state, sequence, number = worker.page[STATE], worker.page[MESSAGE], worker.page[CALL]
        status = self._drop_worker()
        nursery_died = status is None and self._nursery is not None and self._nursery.lost
        if self.context.stop.is_set:
            raise ChannelBroken
        if gone.timed_out is None and status is not None and was_signalled(status, signal.SIGTERM, signal.SIGINT):
            # Somebody ends the whole process group: wait for the stop that is on its way before blaming an item.
            if self.context.stop.wait(_SIGNAL_GRACE):
                raise ChannelBroken
        messages, self._flight = list(self._flight), deque()
        running = state in (RUNNING, SENDING, DECODING) and messages and messages[0].sequence == sequence
        for message in messages[1:] if running else messages:
            self._return_all(message.hand)
        if not running:
            self._died_idle(status)
        elif nursery_died:
            self._return_all(messages[0].hand)
        else:
            self._charge(messages[0], state, number, self._lost_failure(gone, status))

    def _drain(self, worker: WorkerProcess) -> None:
        """Answers that were already on their way when the worker died are good."""
        try:
            while self._flight:
                frame = worker.inbox.poll(worker.sock)
                if frame is None:
                    return
                if frame.kind == wire.LOG:
                    self._log(frame)
                elif frame.kind in (wire.DONE, wire.UNREADABLE):
                    self._answer(worker, frame)
        except (EOFError, OSError):
            return

    def _charge(self, message: Message, state: int, number: int, failure: CallFailure) -> None:
        if state != RUNNING:
            # It died reading the message or sending the answer: which call it was shows when each travels alone.
            if message.calls == 1:
                self.stage.call_failed(message.hand[0], 0, failure)
            else:
                self._put_back_alone(message.hand)
            return
        at = 0
        for parcel in message.hand:
            for call in range(len(parcel.values)):
                one = parcel.one(call, batched=self.stage.stage.batched)
                if at == number:
                    self.stage.call_failed(one, 0, failure)
                else:
                    self.stage.put_back(one)
                at += 1

    def _return_all(self, hand: Hand) -> None:
        for parcel in hand:
            self.stage.put_back(parcel)

    def _lost_failure(self, gone: WorkerGone, status: int | None) -> CallFailure:
        if gone.timed_out is not None:
            return timeout_failure(self.stage, gone.timed_out)
        how = exit_text(status) if status is not None else gone.reason
        message = f"the worker process died while it worked on this ({how})"
        retryable = self.stage.stage.retry.accepts(WorkerLost(message))
        return CallFailure("WorkerLost", message, retryable=retryable, kind="lost")

    def _died_idle(self, status: int | None) -> None:
        self._idle_deaths += 1
        with self.stage.meter.lock:
            self.stage.meter.workers_lost += 1
        if self._idle_deaths > IDLE_DEATHS:
            how = exit_text(status) if status is not None else "unknown"
            text = f"stage {self.stage.stage.name}: workers keep dying while they have nothing to do (last one: {how})"
            self.context.fail(WorkersExhausted(text))
            raise ChannelBroken

    # -- beginning and end of a worker ------------------------------------------------------------------------------

    def _begin_worker(self) -> WorkerProcess:
        attempt = deaths = 0
        while True:
            try:
                self._nursery = self.context.nursery()
                self.worker = worker = self._nursery.spawn(self.stage.index, self.number)
            except NurseryLost:
                self.context.nursery(self._nursery)
                continue
            if self.context.stop.is_set:
                raise ChannelBroken
            try:
                failure = self._await_ready(worker)
            except WorkerGone as gone:
                status = self._drop_worker()
                deaths += self._nursery.lost is False
                how = exit_text(status) if status is not None else gone.reason
                failure = CallFailure("WorkerLost", f"the worker died in setup ({how})")
                if self._nursery.lost:
                    continue
            if failure is None:
                return worker
            self._drop_worker()
            attempt += 1
            self.setup_failed(failure, attempt)

    def _await_ready(self, worker: WorkerProcess) -> CallFailure | None:
        deadline = time.monotonic() + self.stage.stage.setup_timeout
        while True:
            frame = self._poll(worker)
            if frame is not None:
                return pickle.loads(frame.payload) if frame.kind == wire.SETUP_FAILED else None  # noqa: S301
            readable, _, _ = select.select([worker.sock], [], [], max(0.0, deadline - time.monotonic()))
            if self.context.stop.is_set:
                raise ChannelBroken
            if not readable:
                name, limit = self.stage.stage.name, self.stage.stage.setup_timeout
                self.context.fail(SetupFailed(f"stage {name}: setup took longer than setup_timeout={limit:g} s"))
                raise ChannelBroken

    def _end_worker(self, worker: WorkerProcess) -> None:
        """Let the worker run ``teardown`` and go."""
        worker.sock.shutdown(socket.SHUT_WR)
        deadline = time.monotonic() + TEARDOWN_SECONDS
        try:
            while True:
                self._poll(worker)
                left = deadline - time.monotonic()
                if left <= 0 or self.context.stop.is_set:
                    name = self.stage.stage.name
                    self.context.warn(f"stage {name}: teardown took longer than {TEARDOWN_SECONDS:g} s, worker ended")
                    return
                select.select([worker.sock], [], [], left)
        except (WorkerGone, ChannelBroken):
            self._drop_worker(kill=False)

    def _drop_worker(self, *, kill: bool = True) -> int | None:
        """End and collect the worker; return its wait status where it can be had."""
        worker, self.worker = self.worker, None
        if worker is None:
            return None
        self.peak_rss = max(self.peak_rss, worker.page[PEAK_RSS])
        cpu = worker.page[CPU_NS] / 1e9
        status = None
        if self._nursery is not None:
            status, used = self._nursery.reap(worker.pid, kill=kill)
            cpu = max(cpu, used)
        with self.stage.meter.lock:
            self.stage.meter.cpu += cpu
        worker.close()
        return status

    def interrupt(self) -> None:
        """Wake the thread up from waiting for its worker."""
        worker = self.worker
        if worker is not None:
            try:
                worker.sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                return


def _alone(hand: Hand) -> list[Hand]:
    """A suspect travels in a message of its own."""
    if len(hand) == 1 or not any(parcel.alone for parcel in hand):
        return [hand]
    suspects: list[Hand] = [[parcel] for parcel in hand if parcel.alone]
    others = [parcel for parcel in hand if not parcel.alone]
    return [*suspects, others] if others else suspects


def _decode(frame: wire.Frame) -> Outcome:
    loaded: tuple[list[Any], Any, dict[int, CallFailure], bytes] = frame.load()
    results, shapes, failures, nanoseconds = loaded
    durations: array[int] = array("Q")
    durations.frombytes(nanoseconds)
    return Outcome(results, shapes, failures, durations)
