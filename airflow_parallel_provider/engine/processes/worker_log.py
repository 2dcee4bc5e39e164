"""Log records of worker processes: sent to the task process, rate-limited, drops counted.

Logging must never become the bottleneck of a parallel part, and a worker has no logging of its own that would reach the
task log.
"""

from __future__ import annotations

import logging
import pickle
import threading
import time
from collections.abc import Callable

RATE = 200.0
"""Records per second and worker that are let through, with bursts of as many."""


class SocketLogHandler(logging.Handler):
    """Formats records here and hands over plain text."""

    def __init__(self, send: Callable[[bytes], None]) -> None:
        super().__init__()
        self._send = send
        self._allowed = RATE
        self._last = time.monotonic()
        self._dropped = 0
        self._guard = threading.local()

    def tell_dropped(self) -> None:
        """Say how many records were dropped since the last one that passed."""
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
            self._send(pickle.dumps((record.levelno, record.name, text[:8000], dropped)))
        except Exception:  # noqa: BLE001 - logging must not fail the item
            self._dropped += 1
        finally:
            self._guard.busy = False
