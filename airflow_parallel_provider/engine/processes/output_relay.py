# SPDX-License-Identifier: Apache-2.0
"""Forwards what worker processes print to the log of the task, line by line.

Worker processes do not inherit the task's own stdout and stderr: under Airflow those are sockets of the supervisor, and
a process that outlives the task while it holds one delays the task's final state by up to a minute.
"""

from __future__ import annotations

import logging
import math
import os
import select
import threading
import time
from collections.abc import Callable
from typing import IO

log = logging.getLogger("airflow_parallel_provider.workers")

_MAX_LINE = 8000
_READ_SIZE = 1 << 16

LAST_BYTES = 1 << 20
LAST_SECONDS = 0.3
"""How much is still forwarded after :meth:`OutputRelay.close`, and for how long: a process that never stops printing
must not delay the end of the run."""


class OutputRelay:
    """Reads a pipe on a thread of its own until :meth:`close`.

    It does not wait for the end of the pipe: a process that a stage's function started may hold it open for ever.

    :param redact: applied to each line.
    """

    def __init__(self, stream: IO[bytes], redact: Callable[[str], str] = str) -> None:
        self.last_line = ""
        """What was forwarded last."""
        self._stream = stream
        self._redact = redact
        self._wake, self._waker = os.pipe()
        self._closing = False
        self._until = math.inf
        self._thread = threading.Thread(target=self._relay, name="parallel-pipeline-output", daemon=True)
        self._thread.start()

    def _relay(self) -> None:
        try:
            self._read_to_the_end(self._stream.fileno())
        finally:
            # Not in `close`, which waits only a limited time: a closed descriptor's number may be reused at once.
            os.close(self._wake)
            self._stream.close()

    def _read_to_the_end(self, fd: int) -> None:
        rest, allowed = b"", LAST_BYTES
        while True:
            poller = select.poll()
            poller.register(fd, select.POLLIN)
            poller.register(self._wake, select.POLLIN)
            if fd not in dict(poller.poll()):
                break
            closing = self._closing  # then this read takes all that had been printed: a pipe holds no more than that
            data = os.read(fd, _READ_SIZE)
            if not data:
                break
            allowed -= len(data) if closing else 0
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                self._log(line)
            while len(rest) > _MAX_LINE:
                self._log(rest[:_MAX_LINE])
                rest = rest[_MAX_LINE:]
            if closing and (allowed <= 0 or time.monotonic() > self._until):
                break
        self._log(rest)

    def close(self) -> None:
        """Forward what has been printed so far and stop.

        May be called again: ``execution_timeout`` may have interrupted the first call while it waited.
        """
        if not self._closing:
            self._until = time.monotonic() + LAST_SECONDS
            self._closing = True
            os.close(self._waker)
        self._thread.join(1.0)

    def _log(self, line: bytes) -> None:
        if line.strip():
            self.last_line = self._redact(line.decode(errors="replace").rstrip())
            log.info("%s", self.last_line)
