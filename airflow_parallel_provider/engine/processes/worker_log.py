# SPDX-License-Identifier: Apache-2.0
"""Log records of worker processes: sent to the task process, rate-limited, with the dropped ones counted.

A worker process has no logging of its own that reaches the task log, and logging must never become the bottleneck of a
parallel part. A process that a stage's function forks may not write into the worker's socket: its records become lines
of output, which the task process reads from one pipe.
"""

from __future__ import annotations

import contextlib
import logging
import os
import pickle
import select
import threading
import time
from collections.abc import Callable

from airflow_parallel_provider.foreign.text import encodable

RATE = 200.0
"""Records per second that one worker process may send, with bursts of as many."""

_MAX_TEXT = 8000

_MAX_LINE = select.PIPE_BUF - 100
"""Bytes of a line that several processes may write to one pipe without mixing them."""


class SocketLogHandler(logging.Handler):
    """Formats records in the worker process and sends plain text; :func:`log_record` is the other end."""

    def __init__(self, send: Callable[[bytes], None]) -> None:
        super().__init__()
        self._send = send
        self._allowed = RATE
        self._last = time.monotonic()
        self._dropped = 0
        self._guard = threading.local()
        self._pid = self._writer = os.getpid()

    def report_dropped(self) -> None:
        """Send how many records were dropped since the last one that passed, if any were."""
        dropped, self._dropped = self._dropped, 0
        if dropped:
            self._send(pickle.dumps((logging.WARNING, __name__, "", dropped)))

    def emit(self, record: logging.LogRecord) -> None:
        """Send one record, or count it as dropped."""
        if getattr(self._guard, "busy", False):
            return
        if os.getpid() != self._writer:  # a process that the worker has forked
            self._writer, self._dropped, self._allowed = os.getpid(), 0, RATE
        now = time.monotonic()
        self._allowed = min(RATE, self._allowed + (now - self._last) * RATE)
        self._last = now
        if self._allowed < 1:
            self._dropped += 1
            if self._dropped == 1 and self._writer != self._pid:  # it may end before the next record passes
                self._print(f"more than {RATE:g} log records per second: some are dropped")
            return
        self._allowed -= 1
        self._guard.busy = True
        try:
            text = self.format(record)
            dropped, self._dropped = self._dropped, 0
            if self._writer != self._pid:
                counted = f" (after {dropped} that were dropped)" if dropped else ""
                self._print(f"{record.levelname} {record.name}{counted}: {text}")
                return
            self._send(pickle.dumps((record.levelno, record.name, text[:_MAX_TEXT], dropped)))
        except Exception:  # noqa: BLE001 - logging must not fail the item
            self._dropped += 1
        finally:
            self._guard.busy = False

    def _print(self, text: str) -> None:
        line = f"[process {self._writer}, forked by worker process {self._pid}] {text}"
        with contextlib.suppress(OSError):
            os.write(2, line.encode(errors="backslashreplace")[:_MAX_LINE].rstrip() + b"\n")


def log_record(payload: bytes | bytearray | memoryview, worker: str, redact: Callable[[str], str]) -> None:
    """In the task process: log what a :class:`SocketLogHandler` has sent.

    :param worker: name of the worker, put in front of the text.
    :param redact: applied to the text.
    """
    level, name, text, dropped = pickle.loads(payload)  # noqa: S301 - sent by a worker process of this run
    logger = logging.getLogger(name)
    if dropped:
        logger.warning("[%s] %d log records were dropped (rate limit)", worker, dropped)
    if text or not dropped:
        logger.log(level, "[%s] %s", worker, redact(encodable(text)))
