# SPDX-License-Identifier: Apache-2.0
"""Requests that worker processes send to the task process while their functions run.

A function in a worker process may need something that only the task process can get (in Airflow, a connection or a
Variable). It calls :func:`request`, from any thread of the worker process, from processes that it forks, and from the
fork server while that imports the functions' modules.

A worker process's own socket carries its results. So each request has a socket pair of its own: one end is sent over a
datagram socket that all worker processes share, and request and response travel over the pair.
"""

from __future__ import annotations

import contextlib
import contextvars
import fcntl
import logging
import select
import socket
import threading

from airflow_parallel_provider.engine.ipc.framing import receive_message, send_message
from airflow_parallel_provider.engine.ipc.sockets import adopt_socket, socket_pair
from airflow_parallel_provider.engine.plan.worker_hooks import RequestHandler
from airflow_parallel_provider.errors import ParallelError

THREAD_NAME = "parallel-requests"

_IO_SECONDS = 5.0
"""How long a worker process may take to write its request or to read the response: other requests wait meanwhile."""

_server: socket.socket | None = None

log = logging.getLogger(__name__)


class NoResponse(ParallelError):
    """The task process has not responded: it takes no requests, the handler failed, or the run is ending."""


def connect(fd: int) -> None:
    """Send the requests of this process to the server behind ``fd``; in the fork server, before it forks a worker."""
    global _server
    _server = adopt_socket(fd)


def connected() -> bool:
    """Whether this process can send requests."""
    return _server is not None


def request(payload: bytes) -> bytes:
    """Send a request to the task process and wait for the response. Safe from any thread.

    :raises NoResponse: when there is none.
    """
    if _server is None:
        raise NoResponse("this process is not connected to a task process")
    ours, theirs = socket_pair()
    with ours:
        try:
            with theirs:
                socket.send_fds(_server, [b"?"], [theirs.fileno()])
            send_message(ours, payload)
            return receive_message(ours)
        except OSError as error:
            raise NoResponse(f"the task process did not respond ({error})") from error


class RequestServer:
    """Responds to the requests of all worker processes, one after the other, on a thread of its own.

    It does not use the coordinating thread: that waits while the fork server imports the functions' modules, and at the
    end while workers run ``teardown``, and both may send requests.

    :param handler: see :data:`RequestHandler`.
    """

    def __init__(self, handler: RequestHandler) -> None:
        self._handler = handler
        ours, theirs = socket_pair(socket.SOCK_DGRAM)
        self._ours = _above_standard_streams(ours)
        self._theirs = _above_standard_streams(theirs)
        self._wake, self._woken = socket_pair()
        run = contextvars.copy_context().run
        self._thread = threading.Thread(target=lambda: run(self._serve), name=THREAD_NAME, daemon=True)
        self._thread.start()

    @property
    def fd(self) -> int:
        """The descriptor for :func:`connect` in the fork server."""
        return self._theirs.fileno()

    def close(self) -> None:
        """Take no more requests. Does not wait for a handler that is running: it may hang. Call it once."""
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
            with adopt_socket(fd) as client:
                client.settimeout(_IO_SECONDS)
                # The client process may end at any moment; the server goes on with the next request.
                with contextlib.suppress(OSError):
                    self._respond_on(client)

    def _respond_on(self, client: socket.socket) -> None:
        payload = receive_message(client)
        try:
            response = self._handler(payload)
        except Exception:
            log.warning("The handler of worker requests failed; the worker gets no response", exc_info=True)
            return
        send_message(client, response)


def _above_standard_streams(sock: socket.socket) -> socket.socket:
    """The socket under a descriptor of 3 or more: a child process uses 0 to 2 for its standard streams."""
    if sock.fileno() > 2:
        return sock
    with sock:
        return adopt_socket(fcntl.fcntl(sock.fileno(), fcntl.F_DUPFD_CLOEXEC, 3))
