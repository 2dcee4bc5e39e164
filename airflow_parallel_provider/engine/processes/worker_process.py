# SPDX-License-Identifier: Apache-2.0
"""A worker process as the task process sees it, and how it ended."""

from __future__ import annotations

import contextlib
import mmap
import os
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass

from airflow_parallel_provider.engine.functions.status_page import (
    BEGAN_NS,
    CALL,
    DECODING,
    MESSAGE,
    PAGE_WORDS,
    RUNNING,
    SENDING,
    STATE,
)
from airflow_parallel_provider.engine.ipc import wire
from airflow_parallel_provider.engine.ipc.arena import Receiver, Sender


class WorkerProcess:
    """The task process's end of one worker process: process id, socket, status page and two arenas."""

    def __init__(self, pid: int, sock: socket.socket, memory: Sequence[mmap.mmap]) -> None:
        self.pid = pid
        self.sock = sock
        # Readable once the process is dead. The end of its socket is not enough: a process that it started may hold the
        # socket open.
        self.death = os.pidfd_open(pid) if hasattr(os, "pidfd_open") else None
        self._mapping, outgoing, incoming = memory
        self.page = memoryview(self._mapping).cast("Q")[:PAGE_WORDS]
        self._sender, self._receiver = Sender(outgoing), Receiver(incoming)
        self.inbox = wire.Inbox(self._sender, self._receiver)
        self.outbox = wire.Outbox(self._sender, self._receiver)

    def position(self) -> tuple[int, int, int]:
        """What the process says it is doing: state, sequence number of the message, number of the call."""
        page = self.page
        return page[STATE], page[MESSAGE], page[CALL]

    def running_seconds(self) -> float:
        """How long the present call has been running; 0 when there is none."""
        page = self.page
        return time.monotonic() - page[BEGAN_NS] / 1e9 if page[STATE] in (DECODING, RUNNING, SENDING) else 0.0

    def close(self) -> None:
        """Release the socket and the memory; arrays that came from the process stay valid."""
        self.sock.close()
        if self.death is not None:
            os.close(self.death)
        self.page.release()
        self._sender.close()
        self._receiver.close()
        with contextlib.suppress(BufferError):
            self._mapping.close()


@dataclass(frozen=True, slots=True)
class WorkerExit:
    """How a worker process ended."""

    status: int | None = None
    """Wait status; None: not known."""
    cpu: float = 0.0
    """CPU seconds."""
    peak_rss: int = 0
    """Most resident memory, in bytes."""
