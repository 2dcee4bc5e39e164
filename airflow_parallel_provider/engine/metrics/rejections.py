"""Rows that the sink rejects: checked against the tolerance before they commit, counted by cause after."""

from __future__ import annotations

from airflow_parallel_provider.engine.metrics.failure_causes import Causes
from airflow_parallel_provider.engine.metrics.tolerance_tracker import ToleranceTracker


class RejectionTracker:
    """What a sink may ask of its run and report to it; implements :class:`SinkContext`. For the sink's thread."""

    def __init__(self, tolerance: ToleranceTracker, causes: Causes) -> None:
        self._tolerance = tolerance
        self._causes = causes

    def may_reject(self, rows: int) -> bool:
        """Whether the run would stay within its tolerance if ``rows`` more rows were rejected."""
        return self._tolerance.check(more=rows) is None

    def rejected(self, cause: str, rows: int, position: int | None) -> None:
        """Count rows that were rejected for this cause, once that has committed."""
        self._tolerance.rejected += rows
        self._causes.add_rejected(cause, rows, position)
