# SPDX-License-Identifier: Apache-2.0
"""The fork server: a single-threaded process that imports the stage functions once and forks worker processes.

Requests and responses have a fixed size, so one read is one request, and the descriptors sent along belong to it.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import mmap
import os
import pickle
import signal
import socket
import sys
import time
from typing import Any, Final, NoReturn

from airflow_parallel_provider.engine.functions.outcome import CallFailure, describe_error
from airflow_parallel_provider.engine.functions.status_page import PAGE_WORDS
from airflow_parallel_provider.engine.functions.worker_code import StageFunction
from airflow_parallel_provider.engine.ipc.framing import send_message
from airflow_parallel_provider.engine.ipc.sockets import adopt_socket
from airflow_parallel_provider.engine.processes import protocol
from airflow_parallel_provider.engine.processes.protocol import KILL, PAGE_BYTES, REQUEST, RESPONSE, SPAWN
from airflow_parallel_provider.engine.processes.system import (
    RSS_UNIT,
    adopt_orphans,
    children_of,
    die_with_parent,
    end_children,
    reset_signals,
    signal_on_parent_death,
)
from airflow_parallel_provider.foreign.fork_guard import end_child

_REAP_SECONDS: Final = 5.0
"""How long :meth:`ForkServer._reap` waits for a process to end."""


_ORPHAN_SECONDS: Final = 1.0
"""How long :meth:`ForkServer._reap` waits for the programs of a worker process to end."""


def serve(control: socket.socket, bootstrap: bytes) -> NoReturn:
    """Become the fork server: load the stage functions, then answer requests until the control socket closes."""
    gc.disable()  # imports create many objects and little garbage; worker processes switch it on again
    reset_signals()
    print_whole_lines()
    boot = pickle.loads(bootstrap)  # noqa: S301 - written by the task process that started us
    adopt_orphans()
    pid = os.getpid()
    os.environ.update(boot["environment"])
    functions: dict[int, StageFunction] = {}
    failures: dict[int, CallFailure] = {}
    protocol.importing_stage = "of WorkerHooks.on_start"
    try:
        _prepare(control, boot)
    except BaseException as error:  # noqa: BLE001 - as below
        failures[-1] = describe_error(error)
    for stage, data in boot["functions"].items():
        if stage in boot["worker_env"]:
            continue
        protocol.importing_stage = f"of stage {stage}"
        try:
            functions[stage] = pickle.loads(data)  # noqa: S301
        except BaseException as error:  # noqa: BLE001 - an import may raise anything, SystemExit included
            failures[stage] = describe_error(error)
    protocol.importing_stage = None
    end_child(pid)  # an import has forked, and the child has returned from it
    from airflow_parallel_provider.engine.processes import worker_main  # noqa: F401 - once here, not once in every worker

    # What exists now stays: the collector of a worker process skips it, and so does not copy the pages that it shares.
    gc.freeze()
    send_message(control, pickle.dumps(failures))
    ForkServer(control, functions, boot).run()


def print_whole_lines() -> None:
    """Let ``print`` write each line at once and in one piece.

    All worker processes and their children print into one pipe. With ``PYTHONUNBUFFERED=1`` Python writes a line and
    its newline apart, so that lines of two processes mix. Without it Python keeps 8 KiB back, which a killed process
    loses.
    """
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError):  # `sitecustomize` may have put something else in its place
            stream.reconfigure(line_buffering=True, write_through=False)  # type: ignore[union-attr]


def _prepare(control: socket.socket, boot: dict[str, Any]) -> None:
    """Do what the options ask for before the stage functions are imported (see :class:`.client.ForkServerOptions`)."""
    if boot["requests"]:
        from airflow_parallel_provider.engine.ipc import requests

        _, fds, _, _ = socket.recv_fds(control, 1, 1)
        requests.connect(fds[0])
    if boot["on_start"]:
        pickle.loads(boot["on_start"])()  # noqa: S301
    for imported in boot["preload"]:
        module, _, name = imported.partition(":")
        with contextlib.suppress(BaseException):  # the function that imports it will raise the error
            getattr(importlib.import_module(module), name or "__name__")


class ForkServer:
    """Answers requests one after the other."""

    def __init__(self, control: socket.socket, functions: dict[int, StageFunction], boot: dict[str, Any]) -> None:
        self.control = control
        self.functions = functions
        self._pickled: dict[int, bytes] = boot["functions"]
        self._worker_env: dict[int, list[dict[str, str]]] = boot["worker_env"]
        self.children: set[int] = set()
        self._pid, self._guardian = os.getpid(), os.getppid()
        self._helpers = children_of(self._pid)  # that an imported module has started

    def run(self) -> NoReturn:
        """Serve until the task process closes the control socket or dies; then end every worker process and exit."""
        # The guardian does it when this process is killed. When the guardian is, this process does: no import of a
        # user's module blocks it any more.
        signal.signal(signal.SIGCONT, self._on_signal)
        signal_on_parent_death(signal.SIGCONT)
        self._on_signal()
        while True:
            try:
                data, fds, _, _ = socket.recv_fds(self.control, REQUEST.size, 4)
            except OSError:
                data, fds = b"", []
            if len(data) < REQUEST.size:
                self._end()
            operation, subject, *place = REQUEST.unpack(data)
            if operation == SPAWN:
                response = self._spawn(subject, (place[0], place[1]), fds)
            else:
                response = self._reap(subject, kill=operation == KILL)
            with contextlib.suppress(OSError):  # closed meanwhile: the next read ends everything
                self.control.sendall(RESPONSE.pack(*response))

    def _on_signal(self, *_: object) -> None:
        """The guardian may have died: end everything. Another SIGCONT, and one that a forked child gets, is ignored."""
        if os.getppid() != self._guardian and os.getpid() == self._pid:
            self._end()

    def _spawn(self, stage: int, place: tuple[int, int], fds: list[int]) -> tuple[int, int, float, int]:
        parent = os.getpid()
        try:
            pid = os.fork()
        except OSError as error:
            for fd in fds:
                os.close(fd)
            return -1, error.errno or 0, 0.0, 0
        if pid == 0:
            self._become_worker(stage, place, fds, parent)
        for fd in fds:
            os.close(fd)  # or the next worker process inherits it, and the end of this one's socket is never seen
        self.children.add(pid)
        return pid, 0, 0.0, 0

    def _become_worker(self, stage: int, place: tuple[int, int], fds: list[int], parent: int) -> NoReturn:
        code = 1
        try:
            die_with_parent(parent)
            signal.signal(signal.SIGCONT, signal.SIG_DFL)
            self.control.close()
            gc.enable()
            sock = adopt_socket(fds[0])
            page = memoryview(mmap.mmap(fds[1], PAGE_BYTES)).cast("Q")[:PAGE_WORDS]
            incoming, outgoing = (mmap.mmap(fd, os.fstat(fd).st_size) for fd in fds[2:])
            for fd in fds[1:]:
                os.close(fd)
            from airflow_parallel_provider.engine.processes.worker_main import WorkerMain

            def load() -> StageFunction:
                return self._function(stage, place[0])

            WorkerMain(load, sock, page, outgoing, incoming, place=place).run()
            code = 0
        except BaseException:  # noqa: BLE001 - nothing may return into the fork server's loop
            import traceback

            with contextlib.suppress(BaseException):
                traceback.print_exc()
        finally:
            os._exit(code)

    def _function(self, stage: int, index: int) -> StageFunction:
        """In a worker process: the function of its stage, imported now where the worker has variables of its own."""
        if stage in self.functions:
            return self.functions[stage]
        os.environ.update(self._worker_env[stage][index])
        function: StageFunction = pickle.loads(self._pickled[stage])  # noqa: S301 - written by the task process
        return function

    def _reap(self, pid: int, *, kill: bool) -> tuple[int, int, float, int]:
        """Collect one worker process, killed before if asked; process id -1 when it does not end."""
        if pid not in self.children:
            return -1, 0, 0.0, 0
        if kill:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        deadline = time.monotonic() + _REAP_SECONDS
        while True:
            done, status, usage = os.wait4(pid, os.WNOHANG)
            if done:
                self.children.discard(pid)
                # What the worker process has started is now a child of this one.
                end_children(spared=self.children | self._helpers, seconds=_ORPHAN_SECONDS)
                return pid, status, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * RSS_UNIT
            if time.monotonic() > deadline:
                return -1, 0, 0.0, 0
            time.sleep(0.0005)  # only for the moment that a killed process needs to end

    def _end(self) -> NoReturn:
        end_children()  # collected too: in a container there may be no init process that does it
        os._exit(0)
