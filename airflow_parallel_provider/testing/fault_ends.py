# SPDX-License-Identifier: Apache-2.0
"""Both ends of a pipeline under faults: the source tags its items, the sink removes the tags."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from airflow_parallel_provider.engine.interfaces.records import ChunkResult, DeadLetter
from airflow_parallel_provider.engine.interfaces.sink import Sink
from airflow_parallel_provider.engine.interfaces.source import Source
from airflow_parallel_provider.engine.interfaces.wrapped_sink import WrappedSink
from airflow_parallel_provider.engine.interfaces.wrapped_source import WrappedSource
from airflow_parallel_provider.testing.fault_wrap import Tagged, bare


class TaggingSource(WrappedSource):
    """Tags the items of another source.

    :param begin: called before each run.
    """

    def __init__(self, inner: Source, begin: Callable[[], None]) -> None:
        super().__init__(inner)
        self.begin = begin

    def around(self, inner: Source) -> TaggingSource:
        """The same wrapper around another source."""
        return TaggingSource(inner, self.begin)

    def prepare(self) -> None:
        """Call ``begin``, then prepare the inner source."""
        self.begin()
        super().prepare()

    def __iter__(self) -> Iterator[Any]:
        """The tagged items."""
        return (Tagged(pair) for pair in enumerate(self.inner))


class BareSink(WrappedSink):
    """Removes the tags before another sink commits the rows.

    :param end: called after each run.
    """

    def __init__(self, inner: Sink, end: Callable[[], None]) -> None:
        super().__init__(inner)
        self.end = end

    def around(self, inner: Sink) -> BareSink:
        """The same wrapper around another sink."""
        return BareSink(inner, self.end)

    @property
    def rows(self) -> list[Any]:
        """The rows of the inner sink, if it keeps them."""
        return kept_by(self.inner, "rows")

    @property
    def dead_letters(self) -> list[DeadLetter]:
        """The dead letters of the inner sink, if it keeps them."""
        return kept_by(self.inner, "dead_letters")

    def commit(self, chunk: ChunkResult) -> int | None:
        """Commit the rows and dead letters without their tags."""
        dead_letters = [replace(each, item=bare(each.item)) for each in chunk.dead_letters]
        return self.inner.commit(replace(chunk, rows=[bare(row) for row in chunk.rows], dead_letters=dead_letters))

    def close(self) -> None:
        """Call ``end``, then close the inner sink."""
        self.end()
        self.inner.close()


def kept_by(sink: Sink, what: str) -> list[Any]:
    """The rows (or dead letters) that a sink keeps in a list; empty if it keeps none."""
    kept = getattr(sink, what, None)
    return list(kept) if isinstance(kept, list) else []
