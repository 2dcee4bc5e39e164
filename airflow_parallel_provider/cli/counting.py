"""A sink that only counts: for pipelines without a sink, and for load tests."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airflow_parallel_provider.engine.calls import is_table
from airflow_parallel_provider.engine.sink import ChunkResult, CommittedChunk, LoadSpec, Sink


class CountingSink(Sink):
    """Counts what is committed, and sees that each chunk comes once.

    :param inner: hand everything on to this sink, too; None: the rows are dropped.
    """

    def __init__(self, inner: Sink | None = None) -> None:
        self.inner = inner
        self.chunks = 0
        self.items = 0
        self.filtered = 0
        self.dead_letters = 0
        self.rows = 0
        self.twice = 0
        """Chunks that came more than once."""
        self._next = 0
        self._ahead: set[int] = set()

    def prepare(self, spec: LoadSpec) -> None:
        """Of the inner sink."""
        if self.inner is not None:
            self.inner.prepare(spec)

    def open(self) -> Mapping[str, CommittedChunk]:
        """Of the inner sink."""
        return {} if self.inner is None else self.inner.open()

    def source_state(self) -> Mapping[str, Any] | None:
        """Of the inner sink."""
        return None if self.inner is None else self.inner.source_state()

    def known_messages(self) -> frozenset[str]:
        """Of the inner sink."""
        return frozenset() if self.inner is None else self.inner.known_messages()

    def commit(self, chunk: ChunkResult) -> int:
        """Count; commit in the inner sink first."""
        rows = _rows_of(chunk) if self.inner is None else self.inner.commit(chunk)
        self._note(chunk.index)
        self.chunks += 1
        self.items += chunk.items
        self.filtered += chunk.items_filtered
        self.dead_letters += len(chunk.dead_letters)
        self.rows += rows
        return rows

    def finish(self) -> None:
        """Of the inner sink."""
        if self.inner is not None:
            self.inner.finish()

    def close(self) -> None:
        """Of the inner sink."""
        if self.inner is not None:
            self.inner.close()

    def describe(self) -> str:
        """Of the inner sink."""
        return "counting" if self.inner is None else self.inner.describe()

    @property
    def missing(self) -> int:
        """Chunks that have not come although a later one has."""
        return max(self._ahead) + 1 - self._next - len(self._ahead) if self._ahead else 0

    def _note(self, index: int) -> None:
        # Only the chunks ahead of the first gap are kept: they are as few as may be in flight.
        if index < self._next or index in self._ahead:
            self.twice += 1
            return
        self._ahead.add(index)
        while self._next in self._ahead:
            self._ahead.remove(self._next)
            self._next += 1


def _rows_of(chunk: ChunkResult) -> int:
    return sum(len(row) if is_table(row) else 1 for row in chunk.rows)
