# SPDX-License-Identifier: Apache-2.0
"""A source around another one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow_parallel_provider.engine.interfaces.source import Source

if TYPE_CHECKING:
    from airflow_parallel_provider.engine.interfaces.records import Narrow
    from airflow_parallel_provider.engine.interfaces.sink import Sink


class WrappedSource(Source):
    """A wrapper around another source: every method that a subclass does not override is the inner source's."""

    def __init__(self, inner: Source) -> None:
        self.inner = inner

    def prepare(self) -> None:
        """Of the inner source."""
        self.inner.prepare()

    @property
    def is_in_memory(self) -> bool:
        """Of the inner source."""
        return self.inner.is_in_memory

    @property
    def advice(self) -> str:
        """Of the inner source."""
        return self.inner.advice

    @property
    def figures(self) -> Mapping[str, Any]:
        """Of the inner source."""
        return self.inner.figures

    @property
    def warnings(self) -> Sequence[str]:
        """Of the inner source."""
        return self.inner.warnings

    def get_state(self) -> Mapping[str, Any] | None:
        """Of the inner source."""
        return self.inner.get_state()

    def restore_state(self, state: Mapping[str, Any]) -> None:
        """Of the inner source."""
        self.inner.restore_state(state)

    @property
    def narrow(self) -> Narrow | None:
        """Of the inner source."""
        return self.inner.narrow

    def check_sink(self, sink: Sink) -> None:
        """Of the inner source."""
        self.inner.check_sink(sink)

    def check_shards(self) -> None:
        """Of the inner source."""
        self.inner.check_shards()

    def prepare_shard(self) -> None:
        """Of the inner source."""
        self.inner.prepare_shard()

    def send_lines(self, offer: object) -> None:
        """To the inner source."""
        self.inner.send_lines(offer)

    def place_of(self, position: int) -> str:
        """Of the inner source."""
        return self.inner.place_of(position)

    def chunk_lengths(self, chunk_size: int) -> Sequence[int] | None:
        """Of the inner source."""
        return self.inner.chunk_lengths(chunk_size)

    def wrap_sink(self, sink: Sink) -> Sink:
        """Of the inner source."""
        return self.inner.wrap_sink(sink)

    def interrupt(self) -> None:
        """Of the inner source."""
        self.inner.interrupt()

    def identity(self) -> str:
        """Of the inner source: a load may go on with or without the wrapper."""
        return self.inner.identity()

    def __len__(self) -> int:
        """Of the inner source."""
        return len(self.inner)  # type: ignore[arg-type]  # a Source may be Sized

    def __iter__(self) -> Iterator[Any]:
        """Of the inner source."""
        return iter(self.inner)
