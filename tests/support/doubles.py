"""Sources and sinks whose steps a test can get hold of."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from airflow_parallel_provider import Source
from airflow_parallel_provider.engine.interfaces.records import ChunkResult, CommittedChunk, LoadSpec
from tests.support.running import RecordingSink


class StepSource(Source):
    """A source of two steps."""

    def __init__(self, prepare: Callable[[], object], items: Callable[[], Iterator[int]]) -> None:
        self._prepare, self._items = prepare, items

    def prepare(self) -> None:
        self._prepare()

    def __iter__(self) -> Iterator[int]:
        return self._items()


class StepSink(RecordingSink):
    """Calls ``act`` at one step."""

    def __init__(self, step: str, act: Callable[[], object]) -> None:
        super().__init__()
        self._step, self._act = step, act

    def _at(self, step: str) -> None:
        if step == self._step:
            self._act()

    def prepare(self, spec: LoadSpec) -> None:
        self._at("prepare")

    def open(self) -> Mapping[str, CommittedChunk]:
        self._at("open")
        return {}

    def commit(self, chunk: ChunkResult) -> int:
        self._at("commit")
        return super().commit(chunk)

    def finish(self) -> None:
        self._at("finish")

    def close(self) -> None:
        self._at("close")
