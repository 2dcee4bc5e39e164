"""When failed items fail the run."""

from __future__ import annotations

import math
import threading

from airflow_parallel_provider.errors import PlanError, ToleranceExceeded


class Tolerance:
    """How many items may fail: an int counts items, a float is a fraction of all items.

    A fraction of a source of known length is a number of items from the start. Of an unknown length it is judged at the
    end, and before that only once so many failed that the items read so far could not excuse them (at least
    ``10 / fraction`` items are taken for granted, so that the first failure does not count as 100 %).

    :raises PlanError: for anything but an int from 0 or a float from 0.0 to 1.0.
    """

    def __init__(self, value: float) -> None:
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < math.inf:
            raise PlanError("Pipeline.tolerance", value, "give a number of items (int) or a fraction (float, 0.0-1.0)")
        if isinstance(value, float) and value > 1:
            raise PlanError("Pipeline.tolerance", value, f"a float is a fraction; for items write {round(value)}")
        self.value = value

    def exceeded(self, failed: int, read: int, total: int | None, *, final: bool = False) -> bool:
        """Whether ``failed`` of ``read`` items (of ``total``, where known) are too many."""
        if isinstance(self.value, int):
            return failed > self.value
        if final or total is not None:
            # 0.29 * 100 is 28.999999999999996: a hair more is no excuse for one item less
            return failed > self.value * (read if final or total is None else total) + 1e-9
        granted = 10 / self.value if self.value else 0
        return failed > self.value * max(read, granted)

    def __str__(self) -> str:
        """As a person says it."""
        return f"{self.value} items" if isinstance(self.value, int) else f"{self.value:.4%} of the items"


class Judge:
    """Counts the items that were given up, in this try and earlier ones, and says when they are too many.

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
        self._lock = threading.Lock()

    def count(self, items: int, read: int) -> ToleranceExceeded | None:
        """So many more items were given up, ``read`` were read so far: the error to fail with, if they are too many."""
        with self._lock:
            self.given_up += items
        return self.verdict(read)

    def verdict(self, read: int, *, more: int = 0, final: bool = False) -> ToleranceExceeded | None:
        """The error to fail with if too many items failed (or ``more`` would be); None when all is well."""
        failed = self.given_up + self.rejected + self.before + more
        if not self.tolerance.exceeded(failed, read, self.total, final=final):
            return None
        before = f" ({self.before:,} in earlier tries)" if self.before else ""
        return ToleranceExceeded(f"{failed:,} of {read:,} items failed{before}, tolerance is {self.tolerance}")
