"""Counting the items that failed, against the tolerance."""

from __future__ import annotations

import threading
from collections.abc import Callable

from airflow_parallel_provider.engine.plan.tolerance import Tolerance
from airflow_parallel_provider.errors import ToleranceExceeded


class ToleranceTracker:
    """Counts the items that were given up, in this try of the load and earlier ones, against the tolerance.

    Thread-safe: workers of all stages report to it.
    """

    def __init__(self, tolerance: Tolerance) -> None:
        self.tolerance = tolerance
        self.given_up = 0
        """Items given up in this try, whether their chunk has committed or not."""
        self.rejected = 0
        """Rows the sink has rejected in this try: each counts as one failed item."""
        self.before = 0
        """Dead letters and rejected rows that earlier tries of the load have committed."""
        self.total: int | None = None
        """Items of the source, where known."""
        self.items_read: Callable[[], int] = lambda: 0
        """Says how many items have been read so far."""
        self._lock = threading.Lock()

    def add(self, items: int) -> ToleranceExceeded | None:
        """Count items that were given up; return the error to fail with if they are too many."""
        with self._lock:
            self.given_up += items
        return self.check()

    def check(self, *, more: int = 0, final: bool = False) -> ToleranceExceeded | None:
        """The error to fail with if too many items failed; None while they are within the tolerance.

        :param more: failed items to count on top.
        :param final: no further item will be read.
        """
        read = self.items_read()
        failed = self.given_up + self.rejected + self.before + more
        if not self.tolerance.exceeded(failed, read, self.total, final=final):
            return None
        before = f" ({self.before:,} in earlier tries)" if self.before else ""
        return ToleranceExceeded(f"{failed:,} of {read:,} items failed{before}, tolerance is {self.tolerance}")
