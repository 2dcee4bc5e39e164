# SPDX-License-Identifier: Apache-2.0
"""When a request is allowed: one rate for all readers, and the waits that a server asks for."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from airflow_parallel_provider.engine.dataflow.rate_limit import RateLimit
from airflow_parallel_provider.sources.http.request_counts import RequestCounts
from airflow_parallel_provider.sources.read_ahead import StopReading


class Throttle:
    """Delays the requests of all readers together: for the rate limit, and for ``Retry-After``."""

    def __init__(self, per_second: float | None, halt: StopReading, counts: RequestCounts) -> None:
        self._rate = None if per_second is None else RateLimit(per_second)
        self._not_before = 0.0
        self._halt = halt
        self._counts = counts
        self._lock = threading.Lock()

    def enter(self) -> None:
        """Wait until a request is allowed."""
        while True:
            seconds, for_rate = self._acquire()
            if seconds <= 0:
                return
            began = time.monotonic()
            try:
                self._halt.pause(seconds)
            finally:
                self._counts.wait(time.monotonic() - began, for_rate=for_rate)

    def _acquire(self) -> tuple[float, bool]:
        """Seconds to wait, and whether that is for the rate; 0 or less: the request is allowed and counted."""
        with self._lock:
            now = time.monotonic()
            wait, for_rate = self._not_before - now, False
            if wait <= 0 and self._rate is not None:
                wait, for_rate = self._rate.pause(now), True
                if wait <= 0:
                    self._rate.spend(1)
            return wait, for_rate

    def hold(self, seconds: float) -> None:
        """Allow no request for a number of seconds."""
        with self._lock:
            self._not_before = max(self._not_before, time.monotonic() + seconds)


def retry_after(header: str | None) -> float | None:
    """Seconds to wait according to a ``Retry-After``, which holds a number or a date."""
    if header is None:
        return None
    if header.strip().isdecimal():
        return float(header)
    try:
        moment = parsedate_to_datetime(header)
    except (ValueError, OverflowError):
        return None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return max(0.0, (moment - datetime.now(UTC)).total_seconds())
