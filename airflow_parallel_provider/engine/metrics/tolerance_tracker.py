# SPDX-License-Identifier: Apache-2.0
"""Counting what failed against the tolerance, the same way in the first try of a load and in a later one."""

from __future__ import annotations

import math
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
        """Items with a dead letter in this try, whether their chunk has committed or not."""
        self.rejected = 0
        """Rows the sink has rejected in this try: each counts as one dead letter, and as a part of its item."""
        self.before = 0
        """Dead letters and rejected rows that earlier tries of the load have committed."""
        self.total: int | None = None
        """Items of the source, where known."""
        self.in_shard = False
        """Whether other runs read other items of the load: then the end of this one is not the end of the load, and a
        fraction of an unknown number of items is judged when all have ended."""
        self.items_read: Callable[[], int] = lambda: 0
        """Says how many items have been read so far."""
        self._letters = 0
        self._shares = 0.0
        self._rejected_shares = 0.0
        self._shares_before = 0.0
        self._items_before = 0
        self._lock = threading.Lock()

    def add(self, share: float, *, items: int) -> ToleranceExceeded | None:
        """Count a dead letter; return the error to fail with if there are too many.

        :param share: as how many items it counts.
        :param items: how many of its items have no other dead letter.
        """
        with self._lock:
            self.given_up += items
            self._letters += 1
            self._shares += share
        return self.check()

    def reject(self, rows: int, items: float) -> None:
        """Count rows that the sink has rejected, and as how many items they count."""
        self.rejected += rows
        self._rejected_shares += items

    def resume_after(self, chunks: Iterable[CommittedChunk]) -> None:
        """Count what failed in the chunks that earlier tries have committed."""
        for chunk in chunks:
            self._items_before += chunk.items
            self.before += chunk.dead_letters + chunk.rows_rejected
            failed = _estimated_items(chunk) if chunk.failed_items is None else chunk.failed_items
            rejected = chunk.rows_rejected * share_of_row(chunk.items, chunk.rows + chunk.rows_rejected)
            self._shares_before += rejected + failed

    def check(self, *, more: int = 0, more_items: float = 0.0, final: bool = False) -> ToleranceExceeded | None:
        """The error to fail with if too many items failed; None while they are within the tolerance.

        :param more: rejected rows to count on top, and as how many items they count.
        :param final: no further item will be read.
        """
        if self.in_shard:
            if self.total is None and not isinstance(self.tolerance.value, int):
                return None
            final = False
        read = self.items_read()
        failures = self._letters + self.rejected + self.before + more
        shares = self._shares + self._rejected_shares + self._shares_before + more_items
        failed = failures if isinstance(self.tolerance.value, int) else shares
        # A retry knows at its start what failed in chunks that it has not read, and skipped, yet.
        if not self.tolerance.exceeded(failed, max(read, self._items_before), self.total, final=final):
            return None
        before = f" ({self.before:,} in earlier tries)" if self.before else ""
        if math.isclose(failures, shares):
            counted = f"{failures:,} of {read:,} items failed"
        elif isinstance(self.tolerance.value, int):
            counted = f"{failures:,} failures in {read:,} items"
        else:
            counted = f"{failures:,} failures in {read:,} items, as much as {shares:,.6g} of them"
        return ToleranceExceeded(f"{counted}{before}, tolerance is {self.tolerance}")


def share_of_row(items: int, rows: int) -> float:
    """As how many items one row of a chunk counts: where stages made several rows of an item, as a part of one."""
    return min(1.0, items / rows) if rows else 1.0


def _estimated_items(chunk: CommittedChunk) -> float:
    """As how many items the dead letters of a chunk count, where an earlier version has written its ledger row."""
    if chunk.items == 1:
        return chunk.dead_letters / max(chunk.dead_letters + chunk.rows, 1)
    return min(chunk.dead_letters, chunk.items)
