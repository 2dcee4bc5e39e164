"""Questions that worker processes ask of the task process while their functions run.

A function in a worker may need something that only the task process can get (in Airflow a connection or a Variable).
It asks with :func:`ask`, from any thread of the worker, also from processes that it forks, and from the fork server while
the functions' modules are imported.

A worker's own socket belongs to its worker, and its worker waits for results. So each question travels on a socket pair
of its own: one end is sent through a datagram socket that all workers share, question and answer go over the other.
"""

from __future__ import annotations

import contextlib
import contextvars
import fcntl
import logging
import os
import select
import socket
import struct
import threading

from airflow_parallel_provider.engine.plan.worker_hooks import RequestHandler
from airflow_parallel_provider.errors import ParallelError

THREAD_NAME = "parallel-questions"

_SIZE = struct.Struct("<Q")

_IO_SECONDS = 5.0
"""Seconds a worker may take to write its question or to read its answer: others wait behind it."""

_line: socket.socket | None = None

log = logging.getLogger(__name__)


class NoResponse(ParallelError):
    """The task process has not answered: it does not take questions, or it is ending."""


def connect(fd: int) -> None:
    """Take over the line to the task process; in the fork server, before any worker is forked."""
    global _line
    os.set_inheritable(fd, False)
    _line = socket.socket(fileno=fd)


def connected() -> bool:
    """Whether this process can ask."""
    return _line is not None


def request(question: bytes) -> bytes:
    """Ask the task process and wait for its answer. Safe from any thread.

    :raises NoResponse: when there is none.
    """
    if _line is None:
        raise NoResponse("this process has no line to a task process")
    ours, theirs = socket.socketpair()
    with ours:
        try:
            with theirs:
                socket.send_fds(_line, [b"?"], [theirs.fileno()])
            _send(ours, question)
            return _receive(ours)
        except OSError as error:
            raise NoResponse(f"the task process did not answer ({error})") from error


class RequestServer:
    """Answers the questions of all worker processes, one after the other, on a thread of its own.

    Not on the coordinating thread: that waits for the fork server to import the functions' modules, and at the end for
    ``teardown``, and both may ask.

    :param answer: see :data:`Answer`.
    """

    def __init__(self, answer: RequestHandler) -> None:
        self._handler = answer
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._ours = _above_standard_streams(ours)
        self._theirs = _above_standard_streams(theirs)
        self._wake, self._woken = socket.socketpair()
        run = contextvars.copy_context().run
        self._thread = threading.Thread(target=lambda: run(self._serve), name=THREAD_NAME, daemon=True)
        self._thread.start()

    @property
    def fd(self) -> int:
        """The descriptor that the fork server is given."""
        return self._theirs.fileno()

    def close(self) -> None:
        """Answer no more. Does not wait for an answer that is being looked for: that may hang. Call it once."""
        self._wake.close()
        self._thread.join(0.5)

    def _serve(self) -> None:
        poller = select.poll()
        for each in (self._ours, self._woken):
            poller.register(each, select.POLLIN)
        try:
            while not any(fd == self._woken.fileno() for fd, _ in poller.poll()):
                self._serve_one()
        finally:
            for each in (self._ours, self._theirs, self._woken):
                each.close()

    def _serve_one(self) -> None:
        _, fds, _, _ = socket.recv_fds(self._ours, 1, 1)
        for fd in fds:
            with socket.socket(fileno=fd) as line:
                line.settimeout(_IO_SECONDS)
                # The asker may be ended at any moment; that is no business of the next one's.
                with contextlib.suppress(OSError):
                    self._respond_on(line)

    def _respond_on(self, line: socket.socket) -> None:
        question = _receive(line)
        try:
            answer = self._handler(question)
        except Exception:
            log.warning("A question of a worker process could not be answered", exc_info=True)
            return
        _send(line, answer)


def _above_standard_streams(sock: socket.socket) -> socket.socket:
    """The socket under a descriptor of 3 or more: below are the places of a child's standard streams."""
    if sock.fileno() > 2:
        return sock
    with sock:
        return socket.socket(fileno=fcntl.fcntl(sock.fileno(), fcntl.F_DUPFD_CLOEXEC, 3))


def _send(line: socket.socket, data: bytes) -> None:
    line.sendall(_SIZE.pack(len(data)) + data)


def _receive(line: socket.socket) -> bytes:
    (size,) = _SIZE.unpack(_exactly(line, _SIZE.size))
    return _exactly(line, size)


def _exactly(line: socket.socket, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        more = line.recv(min(1 << 20, size - len(data)))
        if not more:
            raise ConnectionResetError("the other side is gone")
        data += more
    return bytes(data)
