# SPDX-License-Identifier: Apache-2.0
"""Sockets between the task process and its child processes. They block, whatever the program around them has set.

A new ``socket.socket`` takes the timeout of ``socket.setdefaulttimeout``, and gevent's never block. Both set
``O_NONBLOCK``, which belongs to the open socket and so travels with its descriptor: the process that receives it, in
which there is no such timeout, would fail at its first read.
"""

from __future__ import annotations

import os
import socket


def socket_pair(kind: int = socket.SOCK_STREAM) -> tuple[socket.socket, socket.socket]:
    """A pair of connected sockets: the first for this process, the second for a child process."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, kind)
    ours.setblocking(True)
    theirs.setblocking(True)
    os.set_blocking(theirs.fileno(), True)  # gevent's `setblocking` does not
    return ours, theirs


def adopt_socket(fd: int) -> socket.socket:
    """A socket that another process has opened; programs that this process starts do not inherit it."""
    os.set_inheritable(fd, False)
    sock = socket.socket(fileno=fd)
    sock.setblocking(True)
    return sock
