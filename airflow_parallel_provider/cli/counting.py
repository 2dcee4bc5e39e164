# SPDX-License-Identifier: Apache-2.0
"""A sink that only counts: for pipelines without a sink, and for load tests."""

from __future__ import annotations

from airflow_parallel_provider.engine.functions.calls import is_table
from airflow_parallel_provider.engine.interfaces.records import ChunkResult
from airflow_parallel_provider.engine.interfaces.sink import Sink
from airflow_parallel_provider.engine.interfaces.wrapped_sink import WrappedSink


class CountingSink(WrappedSink):
    """Counts what is committed, and checks that each chunk arrives once.

    :param inner: also commit in this sink; None: the rows are dropped.
    """

    def __init__(self, inner: Sink | None = None) -> None:
        super().__init__(Sink() if inner is None else inner)
        self._drops = inner is None
        self.chunks = 0
        self.items = 0
        self.filtered = 0
        self.dead_letters = 0
        self.rows = 0
        self.twice = 0
        """Chunks that arrived more than once."""
        self._next = 0
        self._ahead: set[int] = set()

    def commit(self, chunk: ChunkResult) -> int | None:
        """Commit in the inner sink, then count."""
        rows = _rows_of(chunk) if self._drops else self.inner.commit(chunk)
        self._note(chunk.index)
        self.chunks += 1
        self.items += chunk.items
        self.filtered += chunk.items_filtered
        self.dead_letters += len(chunk.dead_letters)
        self.rows += rows or 0
        return rows

    def describe(self) -> str:
        """The text of the inner sink, if there is one."""
        return "counting" if self._drops else super().describe()

    @property
    def missing(self) -> int:
        """Chunks that have not arrived although a later one has."""
        return max(self._ahead) + 1 - self._next - len(self._ahead) if self._ahead else 0

    def _note(self, index: int) -> None:
        # Only the chunks after the first gap are kept: they are at most as many as may be in flight.
        if index < self._next or index in self._ahead:
            self.twice += 1
            return
        self._ahead.add(index)
        while self._next in self._ahead:
            self._ahead.remove(self._next)
            self._next += 1


def _rows_of(chunk: ChunkResult) -> int:
    return sum(len(row) if is_table(row) else 1 for row in chunk.rows)
