"""Log records of worker processes: sent to the task process, rate-limited, with the dropped ones counted.

A worker process has no logging of its own that reaches the task log, and logging must never become the bottleneck of a
parallel part.
"""

from __future__ import annotations

import logging
import pickle
import threading
import time
from collections.abc import Callable

RATE = 200.0
"""Records per second that one worker process may send, with bursts of as many."""

_MAX_TEXT = 8000


class SocketLogHandler(logging.Handler):
    """Formats records in the worker process and sends plain text; :func:`log_record` is the other end."""

    def __init__(self, send: Callable[[bytes], None]) -> None:
        super().__init__()
        self._send = send
        self._allowed = RATE
        self._last = time.monotonic()
        self._dropped = 0
        self._guard = threading.local()

    def report_dropped(self) -> None:
        """Send how many records were dropped since the last one that passed, if any were."""
        dropped, self._dropped = self._dropped, 0
        if dropped:
            self._send(pickle.dumps((logging.WARNING, __name__, "", dropped)))

    def emit(self, record: logging.LogRecord) -> None:
        """Send one record, or count it as dropped."""
        if getattr(self._guard, "busy", False):
            return
        now = time.monotonic()
        self._allowed = min(RATE, self._allowed + (now - self._last) * RATE)
        self._last = now
        if self._allowed < 1:
            self._dropped += 1
            return
        self._allowed -= 1
        self._guard.busy = True
        try:
            text = self.format(record)
            dropped, self._dropped = self._dropped, 0
            self._send(pickle.dumps((record.levelno, record.name, text[:_MAX_TEXT], dropped)))
        except Exception:  # noqa: BLE001 - logging must not fail the item
            self._dropped += 1
        finally:
            self._guard.busy = False


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
        logger.log(level, "[%s] %s", worker, redact(text))
