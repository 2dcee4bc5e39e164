"""The fork server process: single-threaded, imports the stage functions once, forks workers and collects the dead ones.

Requests and answers have a fixed size, so that one read is one request and the descriptors sent along belong to it.
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
import struct
import time
from typing import Any, Final, NoReturn

from airflow_parallel_provider.engine.functions.outcome import CallFailure, describe_error
from airflow_parallel_provider.engine.functions.status_page import PAGE_SLOTS
from airflow_parallel_provider.engine.functions.worker_code import StageFunction
from airflow_parallel_provider.engine.ipc.arena import ARENA_BYTES
from airflow_parallel_provider.engine.processes.protocol import KILL, PAGE_BYTES, REQUEST, RESPONSE, SPAWN
from airflow_parallel_provider.engine.processes.system import (
    RSS_UNIT,
    adopt_orphans,
    children_of,
    die_with_parent,
    reset_signals,
)

_REAP_SECONDS: Final = 5.0


def serve(control: socket.socket, bootstrap: bytes) -> NoReturn:
    """Become the fork server: load the stage functions, answer requests until the control socket closes."""
    from airflow_parallel_provider.engine.processes import client

    gc.disable()  # imports make much and leave little behind; workers switch it on again
    reset_signals()
    boot = pickle.loads(bootstrap)  # noqa: S301 - written by the task process that started us
    die_with_parent(boot["parent"])
    adopt_orphans()
    os.environ.update(boot["environment"])
    codes: dict[int, StageFunction] = {}
    failures: dict[int, CallFailure] = {}
    client.importing_stage = "by its begin function"
    try:
        _bootstrap(boot)
    except BaseException as error:  # noqa: BLE001 - as below
        failures[-1] = describe_error(error)
    for stage, data in boot["codes"].items():
        client.importing_stage = f"of stage {stage}"
        try:
            codes[stage] = pickle.loads(data)  # noqa: S301
        except BaseException as error:  # noqa: BLE001 - an import may raise anything, SystemExit included
            failures[stage] = describe_error(error)
    client.importing_stage = None
    from airflow_parallel_provider.engine.processes import worker_main  # noqa: F401 - once here, not once in every worker

    # What is there now stays: a worker's collector need not look at it, and so does not copy the pages it shares.
    gc.freeze()
    _send(control, pickle.dumps(failures))
    ForkServer(control, codes).run()


def _bootstrap(boot: dict[str, Any]) -> None:
    """What the surroundings of the run want done before anything else."""
    if boot["questions"] is not None:
        from airflow_parallel_provider.engine.ipc import requests

        requests.connect(boot["questions"])
    if boot["begin"]:
        pickle.loads(boot["begin"])()  # noqa: S301
    for wanted in boot["preload"]:
        module, _, name = wanted.partition(":")
        with contextlib.suppress(BaseException):  # the function that wants it will say so
            getattr(importlib.import_module(module), name or "__name__")


def _send(control: socket.socket, data: bytes) -> None:
    control.sendall(struct.pack("<Q", len(data)) + data)


class ForkServer:
    """Answers requests one after the other."""

    def __init__(self, control: socket.socket, codes: dict[int, StageFunction]) -> None:
        self.control = control
        self.codes = codes
        self.children: set[int] = set()

    def run(self) -> NoReturn:
        """Serve until the task process closes the control socket or dies; then end every worker and exit."""
        while True:
            try:
                data, fds, _, _ = socket.recv_fds(self.control, REQUEST.size, 4)
            except OSError:
                data, fds = b"", []
            if len(data) < REQUEST.size:
                self._end()
            operation, subject = REQUEST.unpack(data)
            answer = self._spawn(subject, fds) if operation == SPAWN else self._reap(subject, kill=operation == KILL)
            self.control.sendall(RESPONSE.pack(*answer))

    def _spawn(self, stage: int, fds: list[int]) -> tuple[int, int, float, int]:
        parent = os.getpid()
        try:
            pid = os.fork()
        except OSError as error:
            for fd in fds:
                os.close(fd)
            return -1, error.errno or 0, 0.0, 0
        if pid == 0:
            self._become_worker(stage, fds, parent)
        for fd in fds:
            os.close(fd)  # no sibling may inherit it: the end of file of a worker must be seen
        self.children.add(pid)
        return pid, 0, 0.0, 0

    def _become_worker(self, stage: int, fds: list[int], parent: int) -> NoReturn:
        code = 1
        try:
            die_with_parent(parent)
            self.control.close()
            gc.enable()
            sock = socket.socket(fileno=fds[0])
            page = memoryview(mmap.mmap(fds[1], PAGE_BYTES)).cast("Q")[:PAGE_SLOTS]
            incoming, outgoing = (mmap.mmap(fd, ARENA_BYTES) for fd in fds[2:])
            for fd in fds[1:]:
                os.close(fd)
            from airflow_parallel_provider.engine.processes.worker_main import WorkerMain

            WorkerMain(self.codes[stage], sock, page, outgoing, incoming).run()
            code = 0
        except BaseException:  # noqa: BLE001 - nothing may return into the fork server's loop
            import traceback

            with contextlib.suppress(BaseException):
                traceback.print_exc()
        finally:
            os._exit(code)

    def _reap(self, pid: int, *, kill: bool) -> tuple[int, int, float, int]:
        """Collect one worker, ended before if asked; a worker that will not go is reported as pid -1."""
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
                self._end_orphans()
                return pid, status, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * RSS_UNIT
            if time.monotonic() > deadline:
                return -1, 0, 0.0, 0
            time.sleep(0.0005)  # only while a killed process is on its way out

    def _end_orphans(self) -> None:
        """End what a worker started and left behind: it became a child of this process when the worker died."""
        while orphans := children_of(os.getpid()) - self.children:
            _kill_and_collect(orphans)

    def _end(self) -> NoReturn:
        _kill_and_collect(self.children)  # collected, too: in a container nobody else may do that
        self.children.clear()
        self._end_orphans()
        os._exit(0)


def _kill_and_collect(pids: set[int]) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    for pid in pids:
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, 0)
