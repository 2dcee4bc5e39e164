# SPDX-License-Identifier: Apache-2.0
"""A sink around another one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any

from airflow_parallel_provider.engine.interfaces.records import ChunkResult, CommittedChunk, LoadSpec
from airflow_parallel_provider.engine.interfaces.sink import Choice, Sink, SinkContext


class WrappedSink(Sink):
    """A wrapper around another sink: every method that a subclass does not override is the inner sink's."""

    # All methods of a sink.

    def __init__(self, inner: Sink) -> None:
        self.inner = inner

    @property
    def order_matters(self) -> bool:
        """Of the inner sink."""
        return self.inner.order_matters

    def bind(self, run: SinkContext) -> None:
        """Of the inner sink."""
        self.inner.bind(run)

    def prepare(self, spec: LoadSpec) -> None:
        """Of the inner sink."""
        self.inner.prepare(spec)

    def open(self) -> Mapping[str, CommittedChunk]:
        """Of the inner sink."""
        return self.inner.open()

    def source_state(self) -> Mapping[str, Any] | None:
        """Of the inner sink."""
        return self.inner.source_state()

    def check_shards(self) -> None:
        """Of the inner sink."""
        self.inner.check_shards()

    def check_narrow(self, field: str, value: Any, again: str | None = None) -> None:
        """Of the inner sink."""
        self.inner.check_narrow(field, value, again)

    @property
    def forgets(self) -> Sequence[str]:
        """Of the inner sink."""
        return self.inner.forgets

    def check_cleaned(self, field: str, value: Any, *, knows: bool) -> None:
        """Of the inner sink."""
        self.inner.check_cleaned(field, value, knows=knows)

    def finish_shard(self, chunks: int) -> None:
        """Of the inner sink."""
        self.inner.finish_shard(chunks)

    def chunks_of_source(self) -> int | None:
        """Of the inner sink."""
        return self.inner.chunks_of_source()

    def takes_lines(self) -> object | None:
        """Of the inner sink."""
        return self.inner.takes_lines()

    def committed_now(self) -> Mapping[str, CommittedChunk] | None:
        """Of the inner sink."""
        return self.inner.committed_now()

    def take_over(self, choose: Choice) -> AbstractSet[str]:
        """Of the inner sink."""
        return self.inner.take_over(choose)

    def dismiss_shards(self) -> None:
        """Of the inner sink."""
        self.inner.dismiss_shards()

    def seconds_of_load(self) -> float | None:
        """Of the inner sink."""
        return self.inner.seconds_of_load()

    def known_messages(self) -> frozenset[str]:
        """Of the inner sink."""
        return self.inner.known_messages()

    def commit(self, chunk: ChunkResult) -> int | None:
        """Of the inner sink."""
        return self.inner.commit(chunk)

    def finish(self) -> None:
        """Of the inner sink."""
        self.inner.finish()

    def aggregate_values(self) -> Mapping[str, Any]:
        """Of the inner sink."""
        return self.inner.aggregate_values()

    def close(self) -> None:
        """Of the inner sink."""
        self.inner.close()

    def interrupt(self) -> None:
        """Of the inner sink."""
        self.inner.interrupt()

    def describe(self) -> str:
        """Of the inner sink."""
        return self.inner.describe()
