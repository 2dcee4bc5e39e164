"""The task process's side of the fork server: start it, ask it for workers, learn how they ended."""

from __future__ import annotations

import contextlib
import fcntl
import json
import mmap
import os
import pickle
import select
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from airflow_parallel_provider.engine.functions.outcome import CallFailure
from airflow_parallel_provider.engine.functions.status_page import PAGE_SLOTS
from airflow_parallel_provider.engine.ipc import wire
from airflow_parallel_provider.engine.ipc.arena import ARENA_BYTES, Receiver, Sender, create_memory
from airflow_parallel_provider.engine.processes.output_relay import OutputRelay
from airflow_parallel_provider.engine.processes.protocol import KILL, PAGE_BYTES, REAP, REQUEST, RESPONSE, SPAWN
from airflow_parallel_provider.errors import ParallelError, PlanError

importing_stage: str | None = None
"""In a fork server: the stage whose function is being imported."""

READY_SECONDS = 120.0
"""How long the fork server may take to import the stages' modules."""


LOOK_SECONDS = 0.1


class ForkServerLost(ParallelError):
    """The fork server died (or was ended): its workers died with it."""


class WorkerProcess:
    """One worker process as its worker sees it: a socket, a memory page, two arenas, a process id."""

    def __init__(self, pid: int, sock: socket.socket, memory: Sequence[mmap.mmap]) -> None:
        self.pid = pid
        self.sock = sock
        # Readable when the worker is dead. Its socket alone does not tell: a process it started may hold that open.
        self.death = os.pidfd_open(pid) if hasattr(os, "pidfd_open") else None
        self._mapping, outgoing, incoming = memory
        self.page = memoryview(self._mapping).cast("Q")[:PAGE_SLOTS]
        self._sender, self._receiver = Sender(outgoing), Receiver(incoming)
        self.inbox = wire.Inbox(self._sender, self._receiver)
        self.outbox = wire.Outbox(self._sender, self._receiver)

    def close(self) -> None:
        """Let go of the socket and the memory; arrays that came from the worker stay valid."""
        self.sock.close()
        if self.death is not None:
            os.close(self.death)
        self.page.release()
        self._sender.close()
        self._receiver.close()
        with contextlib.suppress(BufferError):
            self._mapping.close()


@dataclass(frozen=True, slots=True)
class Ended:
    """How a worker process ended: wait status (None: not known), CPU seconds, most resident memory in bytes."""

    status: int | None = None
    cpu: float = 0.0
    peak_rss: int = 0


@dataclass(frozen=True, slots=True)
class ForkServerOptions:
    """What a fork server does before it imports the stages' functions.

    :param begin: called there; see :class:`.host.WorkerHooks`.
    :param preload: what it imports, ``module`` or ``module:name``.
    :param questions: descriptor of the line on which workers ask; None: there is none.
    :param clean: applied, here, to what its processes print and log.
    """

    on_start: Callable[[], object] | None = None
    preload: tuple[str, ...] = ()
    requests_fd: int | None = None
    redact: Callable[[str], str] = str


class ForkServerClient:
    """Starts and talks to one fork server.

    Create it on a thread that outlives the run: the kernel's parent-death signal follows the creating *thread*. Asking
    it for workers is allowed from any thread.

    :param codes: pickled :class:`StageFunction` by stage number.
    :param environment: variables set in the fork server and its workers only.
    :param stopped: asked while its imports are waited for: whether to give up.
    :param extras: what it does first.
    """

    def __init__(
        self,
        codes: Mapping[int, bytes],
        environment: Mapping[str, str],
        stopped: Callable[[], bool] = lambda: False,
        extras: ForkServerOptions = ForkServerOptions(),
    ) -> None:
        self._options = extras
        self._stopped = stopped
        self._codes = dict(codes)
        self._environment = dict(environment)
        self._lock = threading.Lock()
        self._control: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._relay: OutputRelay | None = None
        self._lost = False

    def start(self) -> dict[int, CallFailure]:
        """Start it and wait until it has imported the stage functions; return the stages whose import failed.

        :raises PlanError: in a fork server, where every fork server would start another one without end.
        """
        if importing_stage is not None:
            cure = "its module runs a pipeline when it is imported: put that under `if __name__ == '__main__':`"
            raise PlanError("Stage.function", importing_stage, cure)
        ours, theirs = socket.socketpair()
        boot = Path(__file__).with_name("boot.py")
        environment = {**os.environ, "PYTHON_OPERATORS_VIRTUAL_ENV_MODE": "1"}  # lets a worker `import airflow`
        # Without standard streams a new socket may be descriptor 0, 1 or 2: the places of the child's own streams.
        control = fcntl.fcntl(theirs.fileno(), fcntl.F_DUPFD_CLOEXEC, 3)
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-P", str(boot), str(control)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                pass_fds=(control,) if self._options.requests_fd is None else (control, self._options.requests_fd),
                env=environment,
            )
        finally:
            os.close(control)
            theirs.close()
        self._control = ours
        assert self._process.stdout is not None
        self._relay = OutputRelay(self._process.stdout, self._options.redact)
        return self._hand_over(ours)

    def _hand_over(self, control: socket.socket) -> dict[int, CallFailure]:
        # The secrets among the environment travel over the socket: argv and environ of a process can be read.
        boot = {
            "parent": os.getpid(),
            "environment": self._environment,
            "codes": self._codes,
            "begin": self._send_bootstrap(),
            "preload": self._options.preload,
            "questions": self._options.requests_fd,
        }
        control.settimeout(READY_SECONDS)
        try:
            told = {"path": _search_path(), "argv": sys.argv}
            for message in (json.dumps(told).encode(), pickle.dumps(boot)):
                control.sendall(struct.pack("<Q", len(message)) + message)
            self._await_ready(control)
            (size,) = struct.unpack("<Q", _receive(control, 8))
            failures: dict[int, CallFailure] = pickle.loads(_receive(control, size))  # noqa: S301 - our own child
        except OSError as error:
            self._lost = True
            raise ForkServerLost(f"the worker fork server did not start: {error or type(error).__name__}") from error
        return failures

    def _send_bootstrap(self) -> bytes:
        if self._options.on_start is None:
            return b""
        import cloudpickle

        begin: bytes = cloudpickle.dumps(self._options.on_start, protocol=5)
        return begin

    def _await_ready(self, control: socket.socket) -> None:
        """Imports may take long; a stop that is asked for meanwhile must not wait for them."""
        deadline = time.monotonic() + READY_SECONDS
        poller = select.poll()
        poller.register(control, select.POLLIN)
        while not poller.poll(LOOK_SECONDS * 1000):
            if self._stopped():
                raise InterruptedError("the run is being torn down")
            if time.monotonic() > deadline:
                raise TimeoutError(f"its imports took longer than {READY_SECONDS:g} s")

    @property
    def pid(self) -> int | None:
        """Process id, None before :meth:`start`."""
        return self._process.pid if self._process else None

    def redact(self, text: str) -> str:
        """The text without what nobody may read."""
        return self._options.redact(text)

    @property
    def lost(self) -> bool:
        """Whether it is known to be dead."""
        return self._lost

    def spawn(self, stage: int) -> WorkerProcess:
        """Fork a worker for a stage; about 2 ms.

        :raises ForkServerLost: when the fork server is dead.
        :raises OSError: when the system allows no further process.
        """
        ours, theirs = socket.socketpair()
        sizes = (PAGE_BYTES, ARENA_BYTES, ARENA_BYTES)
        fds = [create_memory(size) for size in sizes]
        memory: list[mmap.mmap] = []
        try:
            memory = [mmap.mmap(fd, size) for fd, size in zip(fds, sizes, strict=True)]
            for sock in (ours, theirs):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, wire.SOCKET_BUFFER)
            pid, status, *_ = self._request(SPAWN, stage, [theirs.fileno(), *fds])
            if pid < 0:
                raise OSError(status, f"no worker process could be started: {os.strerror(status)}")
            ours.setblocking(False)
            return self._registered(pid, ours, memory)
        except BaseException:
            ours.close()
            for mapping in memory:
                mapping.close()
            raise
        finally:
            theirs.close()
            for fd in fds:
                os.close(fd)

    def _registered(self, pid: int, sock: socket.socket, memory: Sequence[mmap.mmap]) -> WorkerProcess:
        try:
            return WorkerProcess(pid, sock, memory)
        except ProcessLookupError:  # dead and collected: only the fork server's end does that unasked
            self._lost = True
            raise ForkServerLost("the worker fork server died") from None

    def reap(self, pid: int, *, kill: bool) -> Ended:
        """How a worker ended that has ended, or is ended now; nothing is known when that is not to be had."""
        with contextlib.suppress(ForkServerLost):
            done, status, cpu, peak_rss = self._request(KILL if kill else REAP, pid, [])
            if done == pid:
                return Ended(status, cpu, peak_rss)
        return Ended()

    def _request(self, operation: int, subject: int, fds: list[int]) -> tuple[int, int, float, int]:
        with self._lock:
            if self._lost or self._control is None:
                raise ForkServerLost("the worker fork server is gone")
            try:
                socket.send_fds(self._control, [REQUEST.pack(operation, subject)], fds)
                pid, status, cpu, peak_rss = RESPONSE.unpack(_receive(self._control, RESPONSE.size))
            except OSError as error:
                self._lost = True
                raise ForkServerLost("the worker fork server died") from error
        return pid, status, cpu, peak_rss

    def close(self) -> None:
        """End the fork server and with it every worker. Takes milliseconds; never raises; a second call does nothing."""
        if self._process is None:
            return
        if self._control is not None:
            # Not under the lock: somebody may be waiting for an answer there, and this is what wakes him up.
            with contextlib.suppress(OSError):
                self._control.shutdown(socket.SHUT_RDWR)
        try:
            self._process.wait(1.0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(2.0)
        self._lost = True
        if self._control is not None:
            self._control.close()
        if self._relay is not None:
            self._relay.close()
        self._process = None


def _search_path() -> list[str]:
    """``sys.path``, made absolute, with the place of this package on it whatever way it was imported."""
    here = str(Path(__file__).parents[3])
    paths = [str(Path(entry or ".").absolute()) for entry in sys.path]
    return paths if here in paths else [*paths, here]


def _receive(control: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = control.recv(size - len(data))
        if not more:
            raise ConnectionResetError("closed by the fork server")
        data += more
    return data
