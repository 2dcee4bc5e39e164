# SPDX-License-Identifier: Apache-2.0
"""Rows that the sink rejects: checked against the tolerance before they commit, counted by cause after."""

from __future__ import annotations

from airflow_parallel_provider.engine.functions.calls import is_table
from airflow_parallel_provider.engine.interfaces.records import ChunkResult
from airflow_parallel_provider.engine.metrics.failure_causes import Causes
from airflow_parallel_provider.engine.metrics.tolerance_tracker import ToleranceTracker, share_of_row


class RejectionTracker:
    """What a sink may ask of its run and report to it; implements :class:`SinkContext`. For the sink's thread."""

    def __init__(self, tolerance: ToleranceTracker, causes: Causes) -> None:
        self._tolerance = tolerance
        self._causes = causes
        self._share = 1.0

    def begin(self, chunk: ChunkResult) -> None:
        """The sink is given this chunk."""
        # All that differs between the rows of a chunk, for the sum over them, is how many there are.
        self._share = 1.0
        if len(chunk.rows) > chunk.items or any(map(is_table, chunk.rows[:1])):
            tables = [row for row in chunk.rows if type(row) is not dict and is_table(row) and hasattr(row, "__len__")]
            rows = len(chunk.rows) - len(tables) + sum(map(len, tables))
            self._share = share_of_row(chunk.items, rows)

    def may_reject(self, rows: int) -> bool:
        """Whether the run would stay within its tolerance if ``rows`` more rows were rejected."""
        return self._tolerance.check(more=rows, more_items=rows * self._share) is None

    def rejected(self, cause: str, rows: int, position: int | None) -> None:
        """Count rows that were rejected for this cause, once that has committed."""
        self._tolerance.reject(rows, rows * self._share)
        self._causes.add_rejected(cause, rows, position)
