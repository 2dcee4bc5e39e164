# SPDX-License-Identifier: Apache-2.0
"""The life of one worker process: set up, serve messages, tear down."""

from __future__ import annotations

import contextlib
import logging
import mmap
import os
import pickle
import resource
import socket
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from airflow_parallel_provider.engine.functions.calls import record_failure, rows_of_tables, run_calls
from airflow_parallel_provider.engine.functions.outcome import CallFailure, Outcome, describe_error
from airflow_parallel_provider.engine.functions.status_page import (
    BEGAN_NS,
    CALL,
    CPU_NS,
    DECODING,
    IDLE,
    MESSAGE,
    PEAK_RSS,
    RECLAIMED,
    RUNNING,
    SENDING,
    SETUP,
    STATE,
    TEARDOWN,
    Page,
)
from airflow_parallel_provider.engine.functions.worker_code import BoundFunction, StageFunction
from airflow_parallel_provider.engine.functions.worker_info import WorkerInfo, keep_worker_info
from airflow_parallel_provider.engine.ipc import wire
from airflow_parallel_provider.engine.ipc.arena import Receiver, Sender
from airflow_parallel_provider.engine.ipc.serialized import (
    SERIALIZE_FROM_BYTES,
    SerializedValue,
    deserialize_all,
    out_of_band,
)
from airflow_parallel_provider.engine.processes.system import RSS_UNIT
from airflow_parallel_provider.engine.processes.worker_log import SocketLogHandler
from airflow_parallel_provider.foreign.fork_guard import end_child, run_begins


class WorkerMain:
    """Serves one stage over one socket. A *worker process* runs nothing else.

    :param load: returns the stage's function; it may import what it needs.
    :param place: index of the worker in its stage, and how many there are.
    """

    function: StageFunction

    def __init__(
        self,
        load: Callable[[], StageFunction],
        sock: socket.socket,
        page: Page,
        outgoing: mmap.mmap,
        incoming: mmap.mmap,
        *,
        place: tuple[int, int] = (0, 1),
    ) -> None:
        self._load = load
        self._place = place
        self.sock = sock
        self.page = page
        sender, receiver = Sender(outgoing), Receiver(incoming)
        self.inbox = wire.Inbox(sender, receiver)
        self.outbox = wire.Outbox(sender, receiver)
        self._returns_serialized = False
        self._pid = os.getpid()
        self._sending = threading.Lock()  # log records of the user's own threads share the socket

    def run(self) -> None:
        """Set up, answer messages until the task process closes its side of the socket, tear down."""
        self._reset_after_fork()
        bound = self._set_up()
        if bound is None:
            return
        self.send(wire.READY, 0, b"")
        while True:
            self.page[STATE] = IDLE
            try:
                frame = self.inbox.poll(self.sock)
            except (EOFError, OSError):
                break
            assert frame is not None  # the socket blocks
            self._serve(frame, bound.call)
        self.page[STATE] = TEARDOWN
        if bound.teardown is not None:
            self._tear_down(bound.teardown)
        self._log.report_dropped()
        _flush_streams()

    def _tear_down(self, teardown: Callable[[], Any]) -> None:
        try:
            teardown()
        except BaseException as error:  # noqa: BLE001 - the items are done; it is only reported
            self.send(wire.TEARDOWN_FAILED, 0, pickle.dumps(describe_error(error)))

    def _reset_after_fork(self) -> None:
        """Replace what a fork copies but each process needs for itself."""
        numpy = sys.modules.get("numpy")
        if numpy is not None:  # `random` reseeds itself after a fork, NumPy's global generator does not
            numpy.random.seed()
        run_begins()
        os.register_at_fork(before=_flush_streams, after_in_child=self._in_child)
        self._log = SocketLogHandler(lambda payload: self.send(wire.LOG, 0, payload))
        logging.basicConfig(handlers=[self._log], level=logging.INFO, format="%(message)s", force=True)

    def _in_child(self) -> None:
        """In a process that a function has forked: it must not write to the task process, nor keep the line open."""
        self.sock.close()
        self.page.release()

    def _set_up(self) -> BoundFunction | None:
        self.page[BEGAN_NS] = time.monotonic_ns()
        self.page[STATE] = SETUP
        try:
            self.function = self._load()
            keep_worker_info(WorkerInfo(self.function.stage, *self._place))
            return self.function.bind()
        except BaseException as error:  # noqa: BLE001 - whatever it is, the task process must know
            self.send(wire.SETUP_FAILED, 0, pickle.dumps(describe_error(error)))
            return None

    def _serve(self, frame: wire.Frame, call: Any) -> None:
        page, sequence = self.page, frame.sequence
        page[MESSAGE] = sequence
        page[BEGAN_NS] = time.monotonic_ns()  # pickling may hang, too
        page[STATE] = DECODING
        try:
            values: Sequence[Any] = frame.load()
            if self.function.receives_serialized:
                values = deserialize_all(values, batched=self.function.batched)
        except BaseException as error:  # noqa: BLE001
            self.send(wire.UNREADABLE, sequence, pickle.dumps(describe_error(error, kind="transport")))
            return
        del frame  # its buffers are free again once nothing refers to them
        page[CALL] = 0
        page[STATE] = RUNNING
        if sequence <= page[RECLAIMED]:  # reclaimed while it waited here
            values = []
        outcome = run_calls(
            call,
            values,
            batched=self.function.batched,
            retry=self.function.retry,
            page=page,
            sequence=sequence,
            own_values=True,
        )
        page[BEGAN_NS] = time.monotonic_ns()
        page[STATE] = SENDING
        usage = resource.getrusage(resource.RUSAGE_SELF)
        page[CPU_NS] = int((usage.ru_utime + usage.ru_stime) * 1e9)
        page[PEAK_RSS] = usage.ru_maxrss * RSS_UNIT
        payload, buffers = self._encode(outcome)
        del outcome, values
        self.send(wire.DONE, sequence, payload, buffers)

    def _encode(self, outcome: Outcome) -> tuple[wire.Part, list[memoryview]]:
        try:
            if self._returns_serialized:
                outcome.results = [serialized_result(result) for result in outcome.results]
            payload, buffers = _dump(outcome)
        except BaseException:  # noqa: BLE001 - some result cannot be pickled: find which
            self._drop_unpicklable(outcome)
            payload, buffers = _dump(outcome)
        if self.function.returns_serialized and outcome.results:
            size = len(payload) + sum(buffer.nbytes for buffer in buffers)
            self._returns_serialized = size / len(outcome.results) > SERIALIZE_FROM_BYTES  # from the next message on
        return payload, buffers

    def _drop_unpicklable(self, outcome: Outcome) -> None:
        """Fail exactly the calls whose results cannot be pickled."""
        old = Outcome(outcome.results, outcome.shapes, outcome.failures, outcome.nanoseconds)
        shapes = old.shapes if old.shapes is not None else [1] * len(old.nanoseconds)
        outcome.results, outcome.shapes, outcome.failures = [], [], {}
        at = 0
        for number, shape in enumerate(shapes):
            count = len(shape) if isinstance(shape, list) else abs(shape)
            results = old.results[at : at + count]
            at += count
            failure: CallFailure | None = old.failures.get(number)
            if failure is None:
                failure = _transport_failure(results)
            if failure is None:
                outcome.results.extend(results)
                outcome.shapes.append(shape)
            else:
                record_failure(outcome, number, failure)

    def send(self, kind: int, sequence: int, payload: wire.Part, buffers: Sequence[memoryview] = ()) -> None:
        """Send one frame, whole. Where the task process no longer reads, this process ends too."""
        end_child(self._pid)  # forked by code that runs no hook, such as a library in C
        try:
            with self._sending:
                for part in self.outbox.frame(kind, sequence, payload, buffers):
                    self.sock.sendall(part)
        except OSError:
            os._exit(1)


def _flush_streams() -> None:
    """Print what is buffered now: a forked child would print it again."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()


def serialized_result(result: Any) -> SerializedValue:
    """Pickle one result by itself, so that the task process can pass it on without unpickling it."""
    rows = rows_of_tables([result])
    try:
        return SerializedValue(*wire.dump(out_of_band([result])[0]), rows)
    except Exception:  # noqa: BLE001 - perhaps a class of the DAG file, which cannot be pickled by name
        return SerializedValue(*wire.dump(result, by_value=True), rows)


def _dump(outcome: Outcome) -> tuple[wire.Part, list[memoryview]]:
    plain = (out_of_band(outcome.results), outcome.shapes, outcome.failures, outcome.nanoseconds.tobytes())
    try:
        return wire.dump(plain)
    except Exception as first:  # noqa: BLE001 - raised again below
        try:  # perhaps only a class of the DAG file: by name, another process cannot import it
            return wire.dump(plain, by_value=True)
        except Exception:  # noqa: BLE001 - that was not the reason
            raise first from None


def _transport_failure(results: list[Any]) -> CallFailure | None:
    try:
        _dump(Outcome(results))
    except BaseException as error:  # noqa: BLE001
        failure = describe_error(error, kind="transport")
        failure.message = f"the result cannot be sent back to the task process: {failure.message}"
        failure.location = ""
        return failure
    return None
