"""Counting the items that failed, against the tolerance."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable

from airflow_parallel_provider.engine.interfaces.records import CommittedChunk
from airflow_parallel_provider.engine.plan.tolerance import Tolerance
from airflow_parallel_provider.errors import ToleranceExceeded


class ToleranceTracker:
    """Counts the items that were given up, in this try of the load and earlier ones, against the tolerance.

    Thread-safe: workers of all stages report to it.
    """

    def __init__(self, tolerance: Tolerance) -> None:
        self.tolerance = tolerance
        self.given_up = 0
        """Items given up in this try, whether their chunk has committed or not, also those of which a part failed."""
        self.rejected = 0
        """Rows the sink has rejected in this try: each counts as one failed item."""
        self.before = 0
        """Dead letters and rejected rows that earlier tries of the load have committed."""
        self.total: int | None = None
        """Items of the source, where known."""
        self.items_read: Callable[[], int] = lambda: 0
        """Says how many items have been read so far."""
        self._failures = 0
        self._shares = 0.0
        self._shares_before = 0.0
        self._lock = threading.Lock()

    def add(self, items: int) -> ToleranceExceeded | None:
        """Count items that were given up; return the error to fail with if they are too many."""
        with self._lock:
            self.given_up += items
            self._failures += items
            self._shares += items
        return self.check()

    def add_part(self, share: float, *, first: bool) -> ToleranceExceeded | None:
        """Count one of several results of an item; return the error to fail with if too many failed.

        :param share: how much of the item it is.
        :param first: no other part of the item has failed before.
        """
        with self._lock:
            self.given_up += first
            self._failures += 1
            self._shares += share
        return self.check()

    def resume_after(self, chunks: Iterable[CommittedChunk]) -> None:
        """Count what failed in the chunks that earlier tries have committed."""
        for chunk in chunks:
            self.before += chunk.dead_letters + chunk.rows_rejected
            self._shares_before += chunk.rows_rejected + _share_of_items(chunk)

    def check(self, *, more: int = 0, final: bool = False) -> ToleranceExceeded | None:
        """The error to fail with if too many items failed; None while they are within the tolerance.

        :param more: failed items to count on top.
        :param final: no further item will be read.
        """
        read = self.items_read()
        failures = self._failures + self.rejected + self.before + more
        shares = self._shares + self.rejected + self._shares_before + more
        failed = failures if isinstance(self.tolerance.value, int) else shares
        if not self.tolerance.exceeded(failed, read, self.total, final=final):
            return None
        before = f" ({self.before:,} in earlier tries)" if self.before else ""
        parts = self._failures > self.given_up or self._shares + self._shares_before < self.given_up + self.before
        counted = f"{failures:,} failures in {read:,} items" if parts else f"{failures:,} of {read:,} items failed"
        return ToleranceExceeded(f"{counted}{before}, tolerance is {self.tolerance}")


def _share_of_items(chunk: CommittedChunk) -> float:
    """How many items the dead letters of a chunk stand for. Its ledger does not say whether they are parts of items."""
    if chunk.items == 1:
        return chunk.dead_letters / max(chunk.dead_letters + chunk.rows, 1)
    return min(chunk.dead_letters, chunk.items)
