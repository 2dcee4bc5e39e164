"""The line between a process worker and its worker process: begin, send, receive within deadlines, end."""

from __future__ import annotations

import contextlib
import logging
import os
import pickle
import select
import signal
import socket
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from airflow_parallel_provider.engine.dataflow.channel import ChannelBroken
from airflow_parallel_provider.engine.functions.outcome import CallFailure
from airflow_parallel_provider.engine.functions.status_page import (
    BEGAN_NS,
    CALL,
    CPU_NS,
    DECODING,
    MESSAGE,
    PEAK_RSS,
    RUNNING,
    SENDING,
    STATE,
)
from airflow_parallel_provider.engine.ipc import wire
from airflow_parallel_provider.engine.ipc.serialized import out_of_band
from airflow_parallel_provider.engine.processes.client import Ended, ForkServerClient, ForkServerLost, WorkerProcess
from airflow_parallel_provider.engine.processes.system import exit_text, was_signalled
from airflow_parallel_provider.engine.resources.oom import kernel_kills
from airflow_parallel_provider.errors import SetupFailed

if TYPE_CHECKING:
    from airflow_parallel_provider.engine.stages.stage_run import StageRun
    from airflow_parallel_provider.engine.workers.base import WorkerSupervisor

TEARDOWN_SECONDS = 5.0
"""How long a worker may take for ``teardown`` at the normal end before it is ended."""


class WorkerDied(Exception):
    """The worker is dead, or has to be ended.

    :param timed_out: for how many seconds its call had been running.
    :param position: which call that was; the worker may go on to the next one before it is ended.
    """

    def __init__(
        self, reason: str, timed_out: float | None = None, position: tuple[int, int, int] | None = None
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.timed_out = timed_out
        self.position = position


class WorkerConnection:
    """One worker process at a time, for one worker. Every wait ends at once when the run is being torn down."""

    def __init__(self, stage: StageRun, number: int, supervisor: WorkerSupervisor) -> None:
        self.peak_rss = 0
        self.last_rss = 0
        self._last_peak = 0
        self.cpu = 0.0
        self._ended_at_rss = 0
        self._kernel_kills = 0
        self._stage = stage
        self._number = number
        self._supervisor = supervisor
        self._context = supervisor.context
        self._fork_server: ForkServerClient | None = None
        self._worker: WorkerProcess | None = None

    @property
    def worker(self) -> WorkerProcess:
        """The worker; there is one between :meth:`begin` and :meth:`drop`."""
        assert self._worker is not None
        return self._worker

    @property
    def pid(self) -> int | None:
        """Process id of the worker, None between two of them."""
        worker = self._worker
        return worker.pid if worker else None

    @property
    def rss_now(self) -> int:
        """Largest resident memory the present worker has told of, bytes."""
        return int(self.worker.page[PEAK_RSS])

    def end_over_limit(self, rss: int) -> None:
        """End the worker in the middle of a call: it is far over its memory limit. From the coordinating thread."""
        worker = self._worker
        if worker is not None and worker.page[STATE] == RUNNING:
            self._ended_at_rss = rss
            with contextlib.suppress(ProcessLookupError):
                os.kill(worker.pid, signal.SIGKILL)

    def cause_of_death(self, status: int | None) -> str:
        """In words, the memory it held included where that is why."""
        if self._ended_at_rss:
            limit = self._stage.stage.memory_limit or 0
            return f"ended at {self._ended_at_rss:,} bytes of memory, memory_limit={limit:,}"
        if status is None:
            return ""
        if was_signalled(status, signal.SIGKILL) and kernel_kills() > self._kernel_kills:
            return f"killed by the kernel for lack of memory; it held {self._last_peak:,} bytes"
        return exit_text(status)

    @property
    def fork_server_died(self) -> bool:
        """Whether the worker died with its fork server."""
        return self._fork_server is not None and self._fork_server.lost

    def begin(self) -> CallFailure | None:
        """Start a worker and wait until it is set up; return why ``setup`` failed, if it did (the worker is gone then).

        :raises ChannelBroken: when the run is being torn down.
        """
        while True:
            try:
                self._fork_server = self._supervisor.fork_server()
                self._worker = self._fork_server.spawn(self._stage.index)
            except ForkServerLost:
                if self._context.stop.is_set:
                    raise ChannelBroken from None
                self._supervisor.fork_server(self._fork_server)
                continue
            self._ended_at_rss, self.last_rss, self._kernel_kills = 0, 0, kernel_kills()
            if self._context.stop.is_set:
                raise ChannelBroken
            try:
                failure = self._await_ready()
            except WorkerDied as gone:
                status = self.drop()
                if self.fork_server_died:
                    continue
                how = self.cause_of_death(status) or gone.reason
                return CallFailure("WorkerLost", f"the worker died in setup ({how})")
            if failure is not None:
                self.drop()
            return failure

    def _await_ready(self) -> CallFailure | None:
        limit = self._stage.stage.setup_timeout
        deadline = time.monotonic() + limit
        while True:
            frame = self.poll()
            if frame is not None:
                return pickle.loads(frame.payload) if frame.kind == wire.SETUP_FAILED else None  # noqa: S301
            if not self._wait(max(0.0, deadline - time.monotonic())):
                name = self._stage.stage.name
                self._context.fail(SetupFailed(f"stage {name}: setup took longer than setup_timeout={limit:g} s"))
                raise ChannelBroken

    def send(self, sequence: int, values: list[Any], *, by_value: bool) -> None:
        """Send one message, as far as it can be sent without waiting; :meth:`receive` sends the rest.

        :raises WorkerDied: when the worker has closed its socket.
        """
        if not self._stage.stage.batched:
            values = out_of_band(values)
        payload, buffers = wire.dump(values, by_value=by_value)
        outbox = self.worker.outbox
        outbox.add(outbox.frame(wire.WORK, sequence, payload, buffers))
        self.flush()

    def flush(self) -> None:
        """Send what can be sent without waiting."""
        try:
            self.worker.outbox.flush(self.worker.sock)
        except OSError:
            raise WorkerDied("it closed its socket") from None

    def receive(self, idle: Callable[[float], float | None]) -> wire.Frame:
        """Wait for the next answer, sending what is still to be sent, within the deadline of the running call.

        :param idle: called while nothing comes, with the seconds the running call has taken; says when to call again.
        :raises WorkerDied: when the worker died, or its call passed the deadline.
        :raises ChannelBroken: when the run is being torn down.
        """
        worker = self.worker
        while True:
            frame = self.poll()
            if frame is not None:
                return frame
            look, left = idle(self._running_for()), self._wait_seconds()
            if not self._wait(look if left is None else left if look is None else min(look, left)):
                self._check_deadline()
            if worker.outbox:
                self.flush()

    def _wait(self, seconds: float | None) -> bool:
        """Wait until the worker has said something, takes more, or is dead; False when the time is over.

        :raises WorkerDied: when it is dead and has nothing more to say.
        """
        worker = self.worker
        poller = select.poll()  # select() knows only the first 1 024 descriptors
        poller.register(worker.sock, select.POLLIN | (select.POLLOUT if worker.outbox else 0))
        if worker.death is not None:
            poller.register(worker.death, select.POLLIN)
        ready = dict(poller.poll(None if seconds is None else max(0.0, seconds) * 1000))
        if worker.death in ready and worker.sock.fileno() not in ready:
            raise WorkerDied("it died")
        return bool(ready)

    def poll(self) -> wire.Frame | None:
        """The next answer if it is there; log records on the way are passed on."""
        worker = self.worker
        while True:
            try:
                frame = worker.inbox.poll(worker.sock)
            except (EOFError, OSError):
                if self._context.stop.is_set:
                    raise ChannelBroken from None
                raise WorkerDied("it died") from None
            if frame is None or frame.kind != wire.LOG:
                return frame
            self._log(frame)

    def _wait_seconds(self) -> float | None:
        timeout = self._stage.stage.timeout
        return None if timeout is None else max(0.001, timeout - self._running_for())

    def _running_for(self) -> float:
        page = self.worker.page
        return time.monotonic() - page[BEGAN_NS] / 1e9 if page[STATE] in (DECODING, RUNNING, SENDING) else 0.0

    def _check_deadline(self) -> None:
        if self._context.stop.is_set:
            raise ChannelBroken
        timeout, position = self._stage.stage.timeout, self.position()
        running = self._running_for()
        if timeout is not None and running >= timeout and self.position() == position:
            raise WorkerDied("timeout", timed_out=running, position=position)

    def position(self) -> tuple[int, int, int]:
        """What the worker says it is doing: state, sequence number of the message, number of the call."""
        page = self.worker.page
        return page[STATE], page[MESSAGE], page[CALL]

    def _log(self, frame: wire.Frame) -> None:
        level, name, text, dropped = pickle.loads(frame.payload)  # noqa: S301 - our own worker
        logger = logging.getLogger(name)
        where = f"{self._stage.stage.name}/{self._number}"
        if dropped:
            logger.warning("[%s] %d log records were dropped (rate limit)", where, dropped)
        if text or not dropped:
            logger.log(level, "[%s] %s", where, text if self._fork_server is None else self._fork_server.redact(text))

    def end(self) -> None:
        """Let the worker run ``teardown`` and go."""
        worker = self.worker
        worker.sock.shutdown(socket.SHUT_WR)
        deadline = time.monotonic() + TEARDOWN_SECONDS
        try:
            while True:
                frame = self.poll()
                if frame is not None and frame.kind == wire.TEARDOWN_FAILED:
                    failure: CallFailure = frame.load()
                    text = f"stage {self._stage.stage.name}: teardown failed: {failure.error}: {failure.message}"
                    self._context.warn(text)
                left = deadline - time.monotonic()
                if left <= 0:
                    name = self._stage.stage.name
                    self._context.warn(f"stage {name}: teardown took longer than {TEARDOWN_SECONDS:g} s, worker ended")
                    return
                self._wait(left)
        except (WorkerDied, ChannelBroken):
            self._report_end(self.drop(kill=False))

    def _report_end(self, status: int | None) -> None:
        if status and not self._context.stop.is_set:
            self._context.warn(f"stage {self._stage.stage.name}: teardown failed in a worker ({exit_text(status)})")

    def drop(self, *, kill: bool = True) -> int | None:
        """End and collect the worker; return its wait status where it can be had."""
        worker, self._worker = self._worker, None
        if worker is None:
            return None
        ended = Ended() if self._fork_server is None else self._fork_server.reap(worker.pid, kill=kill)
        cpu = max(worker.page[CPU_NS] / 1e9, ended.cpu)
        self._last_peak = max(self.last_rss, worker.page[PEAK_RSS], ended.peak_rss)
        self.peak_rss = max(self.peak_rss, self._last_peak)
        with self._stage.metrics.lock:
            self._stage.metrics.cpu += cpu
        self.cpu += cpu
        worker.close()
        return ended.status

    def interrupt(self) -> None:
        """Wake the worker's thread up from waiting for its worker. From another thread."""
        worker = self._worker
        if worker is not None:
            try:
                worker.sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                return
