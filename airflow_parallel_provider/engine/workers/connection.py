# SPDX-License-Identifier: Apache-2.0
"""The connection between a process worker and its worker process: start, send, receive within deadlines, end."""

from __future__ import annotations

import contextlib
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
from airflow_parallel_provider.engine.functions.status_page import CPU_NS, PEAK_RSS, RUNNING, STATE
from airflow_parallel_provider.engine.ipc import wire
from airflow_parallel_provider.engine.ipc.serialized import out_of_band
from airflow_parallel_provider.engine.processes.client import ForkServerClient, ForkServerLost
from airflow_parallel_provider.engine.processes.system import exit_text
from airflow_parallel_provider.engine.processes.worker_log import log_record
from airflow_parallel_provider.engine.processes.worker_process import WorkerExit, WorkerProcess
from airflow_parallel_provider.engine.workers.exit_cause import ExitCause
from airflow_parallel_provider.errors import SetupFailed

if TYPE_CHECKING:
    from airflow_parallel_provider.engine.stages.stage_run import StageRun
    from airflow_parallel_provider.engine.workers.base import WorkerSupervisor

TEARDOWN_SECONDS = 5.0
"""How long a worker process may take for ``teardown`` at the normal end before it is ended."""


class WorkerDied(Exception):
    """The worker process is dead, or has to be ended.

    :param timed_out: how long its call had been running, in seconds; None: it did not time out.
    :param position: which call that was; the process may go on to the next one before it is ended.
    """

    def __init__(
        self, reason: str, timed_out: float | None = None, position: tuple[int, int, int] | None = None
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.timed_out = timed_out
        self.position = position


class WorkerConnection:
    """One worker process at a time, for one worker. Every wait ends at once when the run is being torn down.

    :param index: the worker's index in its stage, once it has started.
    """

    def __init__(
        self, stage: StageRun, number: int, supervisor: WorkerSupervisor, index: Callable[[], int] = lambda: 0
    ) -> None:
        self.peak_rss = 0
        self.last_rss = 0
        self.cpu = 0.0
        self.exit_cause = ExitCause(stage.stage.memory_limit)
        self._stage = stage
        self._number = number
        self._index = index
        self._supervisor = supervisor
        self._context = supervisor.context
        self._fork_server: ForkServerClient | None = None
        self._process: WorkerProcess | None = None

    @property
    def process(self) -> WorkerProcess:
        """The worker process; there is one between :meth:`begin` and :meth:`drop`."""
        assert self._process is not None
        return self._process

    @property
    def pid(self) -> int | None:
        """Process id of the worker process; None while there is none."""
        process = self._process
        return process.pid if process else None

    @property
    def rss_now(self) -> int:
        """Most resident memory that the present process has reported, in bytes."""
        return int(self.process.page[PEAK_RSS])

    def end_over_limit(self, rss: int) -> None:
        """Kill the process in the middle of a call, because it is far over its memory limit.

        Called from the coordinating thread.
        """
        process = self._process
        if process is not None and process.page[STATE] == RUNNING:
            self.exit_cause.ended_over_limit(rss)
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGKILL)

    @property
    def fork_server_died(self) -> bool:
        """Whether the process died with its fork server."""
        return self._fork_server is not None and self._fork_server.lost

    def begin(self) -> CallFailure | None:
        """Start a worker process and wait until it is set up.

        :return: why ``setup`` failed, if it did; then the process has been ended.
        :raises ChannelBroken: when the run is being torn down.
        """
        while True:
            try:
                self._fork_server = self._supervisor.fork_server()
                self._process = self._fork_server.spawn(self._stage.index, self._index(), self._stage.indexes.count)
            except ForkServerLost:
                if self._context.stop.is_set:
                    raise ChannelBroken from None
                self._supervisor.fork_server(self._fork_server)
                continue
            self.last_rss = 0
            self.exit_cause.reset()
            if self._context.stop.is_set:
                raise ChannelBroken
            try:
                failure = self._await_ready()
            except WorkerDied as died:
                status = self.drop()
                if self.fork_server_died:
                    continue
                how = self.exit_cause.describe(status) or died.reason
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
        """Send one message, as far as possible without waiting; :meth:`receive` sends the rest.

        :raises WorkerDied: when the process has closed its socket.
        """
        if not self._stage.stage.batched:
            values = out_of_band(values)
        payload, buffers = wire.dump(values, by_value=by_value)
        outbox = self.process.outbox
        outbox.add(outbox.frame(wire.WORK, sequence, payload, buffers))
        self.flush()

    def flush(self) -> None:
        """Send what can be sent without waiting.

        :raises WorkerDied: when the process has closed its socket.
        """
        try:
            self.process.outbox.flush(self.process.sock)
        except OSError:
            raise WorkerDied("it closed its socket") from None

    def receive(self, on_wait: Callable[[float], float | None]) -> wire.Frame:
        """Wait for the next answer within the deadline of the running call; meanwhile send what is left to send.

        :param on_wait: called before each wait with the seconds that the running call has taken; returns in how many
            seconds to call it again, or None.
        :raises WorkerDied: when the process died, or its call passed the deadline.
        :raises ChannelBroken: when the run is being torn down.
        """
        process = self.process
        while True:
            frame = self.poll()
            if frame is not None:
                return frame
            again, remaining = on_wait(process.running_seconds()), self._remaining_seconds(process)
            if not self._wait(again if remaining is None else remaining if again is None else min(again, remaining)):
                self._check_deadline(process)
            if process.outbox:
                self.flush()

    def _wait(self, seconds: float | None) -> bool:
        """Wait until the process has sent something, takes more, or is dead; False when the time is over.

        :raises WorkerDied: when it is dead and everything it sent has been read.
        """
        process = self.process
        poller = select.poll()  # select() accepts only the first 1 024 descriptors
        poller.register(process.sock, select.POLLIN | (select.POLLOUT if process.outbox else 0))
        if process.death is not None:
            poller.register(process.death, select.POLLIN)
        ready = dict(poller.poll(None if seconds is None else max(0.0, seconds) * 1000))
        if process.death in ready and process.sock.fileno() not in ready:
            raise WorkerDied("it died")
        return bool(ready)

    def poll(self) -> wire.Frame | None:
        """The next answer, or None when it has not arrived; log records before it are logged.

        :raises WorkerDied: when the process is dead and everything it sent has been read.
        :raises ChannelBroken: when the run is being torn down.
        """
        process = self.process
        while True:
            try:
                frame = process.inbox.poll(process.sock)
            except (EOFError, OSError):
                if self._context.stop.is_set:
                    raise ChannelBroken from None
                raise WorkerDied("it died") from None
            if frame is None or frame.kind != wire.LOG:
                return frame
            redact = str if self._fork_server is None else self._fork_server.redact
            log_record(frame.payload, f"{self._stage.stage.name}/{self._number}", redact)

    def _remaining_seconds(self, process: WorkerProcess) -> float | None:
        timeout = self._stage.stage.timeout
        return None if timeout is None else max(0.001, timeout - process.running_seconds())

    def _check_deadline(self, process: WorkerProcess) -> None:
        if self._context.stop.is_set:
            raise ChannelBroken
        timeout, position = self._stage.stage.timeout, process.position()
        running = process.running_seconds()
        if timeout is not None and running >= timeout and process.position() == position:
            raise WorkerDied("timeout", timed_out=running, position=position)

    def end(self) -> None:
        """Let the process run ``teardown`` and end."""
        self.process.sock.shutdown(socket.SHUT_WR)
        deadline = time.monotonic() + TEARDOWN_SECONDS
        name = self._stage.stage.name
        try:
            while True:
                frame = self.poll()
                if frame is not None and frame.kind == wire.TEARDOWN_FAILED:
                    failure: CallFailure = frame.load()
                    self._context.warn(f"stage {name}: teardown failed: {failure.error}: {failure.message}")
                remaining = deadline - time.monotonic()
                if remaining <= 0:
                    self._context.warn(f"stage {name}: teardown took longer than {TEARDOWN_SECONDS:g} s, worker ended")
                    return
                self._wait(remaining)
        except (WorkerDied, ChannelBroken):
            status = self.drop(kill=False)
            if status and not self._context.stop.is_set:
                self._context.warn(f"stage {name}: teardown failed in a worker ({exit_text(status)})")

    def drop(self, *, kill: bool = True) -> int | None:
        """Collect the process, killed before unless ``kill=False``; return its wait status, None when not known."""
        process, self._process = self._process, None
        if process is None:
            return None
        ended = WorkerExit() if self._fork_server is None else self._fork_server.reap(process.pid, kill=kill)
        cpu = max(process.page[CPU_NS] / 1e9, ended.cpu)
        peak_rss = max(self.last_rss, process.page[PEAK_RSS], ended.peak_rss)
        self.exit_cause.peak_rss = peak_rss
        self.peak_rss = max(self.peak_rss, peak_rss)
        with self._stage.metrics.lock:
            self._stage.metrics.cpu += cpu
        self.cpu += cpu
        process.close()
        return ended.status

    def interrupt(self) -> None:
        """End every wait for the process. Called from another thread."""
        process = self._process
        if process is not None:
            try:
                process.sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                return
