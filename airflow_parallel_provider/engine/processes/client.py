# SPDX-License-Identifier: Apache-2.0
"""The task process's side of the fork server: start it, ask it for worker processes, learn how they ended."""

from __future__ import annotations

import contextlib
import mmap
import os
import pickle
import select
import socket
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from airflow_parallel_provider.engine.functions.outcome import CallFailure
from airflow_parallel_provider.engine.ipc import wire
from airflow_parallel_provider.engine.ipc.arena import arena_bytes, create_memory
from airflow_parallel_provider.engine.ipc.framing import receive_exactly, receive_message, send_message
from airflow_parallel_provider.engine.ipc.sockets import socket_pair
from airflow_parallel_provider.engine.processes.launch import LaunchedServer
from airflow_parallel_provider.engine.processes.output_relay import OutputRelay
from airflow_parallel_provider.engine.processes.protocol import KILL, PAGE_BYTES, REAP, REQUEST, RESPONSE, SPAWN
from airflow_parallel_provider.engine.processes.worker_process import WorkerExit, WorkerProcess
from airflow_parallel_provider.engine.resources.limits import shortage_in
from airflow_parallel_provider.errors import ParallelError

READY_SECONDS = 120.0
"""How long the fork server may take to import the stages' modules."""

CHECK_SECONDS = 0.1
"""How often the wait for those imports looks whether the run has been stopped."""


class ForkServerLost(ParallelError):
    """The fork server died or was ended; its worker processes died with it."""


@dataclass(frozen=True, slots=True)
class ForkServerOptions:
    """What a fork server does besides importing the stages' functions.

    :param on_start: called in the fork server before those imports; see :class:`.plan.worker_hooks.WorkerHooks`.
    :param preload: what the fork server imports, each ``module`` or ``module:name``.
    :param worker_env: variables of the worker processes, by stage number and index of the worker. Such a stage's
        function is imported in each worker, once they are set.
    :param requests_fd: descriptor on which worker processes send requests; None: they cannot.
    :param redact: applied, in the task process, to what the processes print and log.
    """

    on_start: Callable[[], object] | None = None
    preload: tuple[str, ...] = ()
    worker_env: Mapping[int, Sequence[Mapping[str, str]]] = field(default_factory=dict)
    requests_fd: int | None = None
    redact: Callable[[str], str] = str


class ForkServerClient:
    """Starts one fork server and talks to it.

    Start it on a thread that outlives the run, see :class:`.launch.LaunchedServer`. :meth:`spawn` and :meth:`reap` may
    be called from any thread.

    :param functions: pickled :class:`StageFunction` by stage number.
    :param environment: variables set in the fork server and its worker processes only.
    :param stop_requested: called while the fork server imports; True ends the wait.
    :param options: what else the fork server does.
    """

    def __init__(
        self,
        functions: Mapping[int, bytes],
        environment: Mapping[str, str],
        stop_requested: Callable[[], bool] = lambda: False,
        options: ForkServerOptions = ForkServerOptions(),
    ) -> None:
        self._options = options
        self._stop_requested = stop_requested
        self._functions = dict(functions)
        self._environment = dict(environment)
        self._lock = threading.Lock()
        self._server: LaunchedServer | None = None
        self._relay: OutputRelay | None = None
        self._lost = False

    def start(self, launched: LaunchedServer | None = None) -> dict[int, CallFailure]:
        """Start it and wait until it has imported the stage functions.

        :param launched: a process that this thread has started already; None: start one.
        :return: the stages whose import failed; -1 is ``on_start``.
        :raises ForkServerLost: when it does not start, or a stop is requested meanwhile.
        :raises PlanError: see :class:`.launch.LaunchedServer`.
        :raises OSError: when its process cannot be started.
        """
        server = self._server = LaunchedServer() if launched is None else launched
        server.taken = True
        assert server.process.stdout is not None
        self._relay = OutputRelay(server.process.stdout, self._options.redact)
        return self._send_bootstrap(server.control)

    def _send_bootstrap(self, control: socket.socket) -> dict[int, CallFailure]:
        # The secrets in the environment travel over the socket: other processes can read argv and environ of a process.
        bootstrap = {
            "environment": self._environment,
            "functions": self._functions,
            "on_start": self._pickled_on_start(),
            "preload": self._options.preload,
            "worker_env": dict(self._options.worker_env),
            "requests": self._options.requests_fd is not None,
        }
        control.settimeout(READY_SECONDS)
        try:
            send_message(control, pickle.dumps(bootstrap))
            if self._options.requests_fd is not None:
                socket.send_fds(control, [b"?"], [self._options.requests_fd])
            self._await_ready(control)
            failures: dict[int, CallFailure] = pickle.loads(receive_message(control))  # noqa: S301 - our own child
        except OSError as error:
            self._lost = True
            reason = str(error) or type(error).__name__
            if not self._stop_requested():
                reason = self._last_words() or reason
            raise ForkServerLost(f"the fork server did not start: {reason}") from error
        return failures

    def _last_words(self) -> str:
        """The last line that it has printed, with what to raise if a limit of the system has ended it."""
        assert self._relay is not None
        self._relay.close()
        words = self._relay.last_line
        cure = shortage_in(words)
        return f"{words} ({cure})" if cure else words

    def _pickled_on_start(self) -> bytes:
        if self._options.on_start is None:
            return b""
        import cloudpickle

        pickled: bytes = cloudpickle.dumps(self._options.on_start, protocol=5)
        return pickled

    def _await_ready(self, control: socket.socket) -> None:
        """Imports may take long; a stop that is requested meanwhile must not wait for them."""
        deadline = time.monotonic() + READY_SECONDS
        poller = select.poll()
        poller.register(control, select.POLLIN)
        while not poller.poll(CHECK_SECONDS * 1000):
            if self._stop_requested():
                raise InterruptedError("the run is being torn down")
            if time.monotonic() > deadline:
                raise TimeoutError(f"its imports took longer than {READY_SECONDS:g} s")

    @property
    def pid(self) -> int | None:
        """Process id of the guardian, the fork server's parent; None before :meth:`start` and after :meth:`close`."""
        return self._server.process.pid if self._server else None

    def redact(self, text: str) -> str:
        """The text without its secrets."""
        return self._options.redact(text)

    @property
    def lost(self) -> bool:
        """Whether it is known to be dead."""
        return self._lost

    def spawn(self, stage: int, index: int = 0, count: int = 1) -> WorkerProcess:
        """Fork a worker process for a stage; takes about 2 ms.

        :param index: which of the stage's workers it is, from 0.
        :param count: how many there are at most.
        :raises ForkServerLost: when the fork server is dead.
        :raises OSError: when the system allows no further process.
        """
        size = arena_bytes()
        sizes = (PAGE_BYTES, size, size)
        fds: list[int] = []
        memory: list[mmap.mmap] = []
        ours, theirs = socket_pair()
        try:
            fds += map(create_memory, sizes)
            memory = [mmap.mmap(fd, size) for fd, size in zip(fds, sizes, strict=True)]
            for sock in (ours, theirs):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, wire.SOCKET_BUFFER)
            pid, status, *_ = self._request(SPAWN, stage, [theirs.fileno(), *fds], (index, count))
            if pid < 0:
                raise OSError(status, f"no worker process could be started: {os.strerror(status)}")
            ours.setblocking(False)
            return self._open_worker(pid, ours, memory)
        except BaseException:
            ours.close()
            for mapping in memory:
                mapping.close()
            raise
        finally:
            theirs.close()
            for fd in fds:
                os.close(fd)

    def _open_worker(self, pid: int, sock: socket.socket, memory: Sequence[mmap.mmap]) -> WorkerProcess:
        try:
            return WorkerProcess(pid, sock, memory)
        except ProcessLookupError:  # dead and collected already, which happens only when the fork server itself ends
            self._lost = True
            raise ForkServerLost("the fork server died") from None

    def reap(self, pid: int, *, kill: bool) -> WorkerExit:
        """How a worker process ended; all unknown when the fork server cannot tell.

        :param kill: end it first.
        """
        with contextlib.suppress(ForkServerLost):
            done, status, cpu, peak_rss = self._request(KILL if kill else REAP, pid, [])
            if done == pid:
                return WorkerExit(status, cpu, peak_rss)
        return WorkerExit()

    def _request(
        self, operation: int, subject: int, fds: list[int], place: tuple[int, int] = (0, 0)
    ) -> tuple[int, int, float, int]:
        with self._lock:
            server = self._server
            if self._lost or server is None:
                raise ForkServerLost("the fork server is not running")
            try:
                socket.send_fds(server.control, [REQUEST.pack(operation, subject, *place)], fds)
                pid, status, cpu, peak_rss = RESPONSE.unpack(receive_exactly(server.control, RESPONSE.size))
            except OSError as error:
                self._lost = True
                raise ForkServerLost("the fork server died") from error
        return pid, status, cpu, peak_rss

    def close(self) -> None:
        """End the fork server, every worker process and what those have started. Takes milliseconds and never raises.

        A fork server that is busy (with an import) is ended by its guardian. A second call does nothing.
        """
        if self._server is None:
            return
        self._server.close()
        self._lost = True
        if self._relay is not None:
            self._relay.close()
        self._server = None
