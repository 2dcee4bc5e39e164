"""Rows that the sink rejects: judged by the run's tolerance before they commit, counted by cause after."""

from __future__ import annotations

from collections.abc import Callable

from airflow_parallel_provider.engine.metrics.failure_causes import Causes
from airflow_parallel_provider.engine.metrics.tolerance_tracker import ToleranceTracker


class RejectionTracker:
    """What a run lets its sink ask and say; see :class:`SinkContext`. For the sink's thread.

    :param items_read: how many items have been read so far.
    """

    def __init__(self, tolerance: ToleranceTracker, causes: Causes, items_read: Callable[[], int]) -> None:
        self._tolerance = tolerance
        self._causes = causes
        self._items_read = items_read

    def may_reject(self, rows: int) -> bool:
        """Whether the run would stay within its tolerance if so many more rows were rejected."""
        return self._tolerance.check(self._items_read(), more=rows) is None

    def rejected(self, cause: str, rows: int, position: int | None) -> None:
        """So many rows were rejected for this cause, and that has committed."""
        self._tolerance.rejected += rows
        self._causes.add_rejected(cause, rows, position)
