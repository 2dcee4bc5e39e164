"""A sink or source around another one passes every call on; a method that it forgets would never reach the other."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from airflow_parallel_provider import ListSink, QueueSource
from airflow_parallel_provider.cli.counting import CountingSink
from airflow_parallel_provider.engine.interfaces.records import ChunkResult, LoadSpec
from airflow_parallel_provider.engine.interfaces.sink import Sink
from airflow_parallel_provider.engine.interfaces.source import Source
from airflow_parallel_provider.engine.interfaces.wrapped_sink import WrappedSink
from airflow_parallel_provider.engine.interfaces.wrapped_source import WrappedSource
from airflow_parallel_provider.sources.queue.broker import Broker
from airflow_parallel_provider.testing.fault_ends import BareSink, TaggingSource

METHODS = {name for name, _ in inspect.getmembers(Sink, inspect.isfunction) if not name.startswith("_")}


class Nothing(Broker):
    def name(self) -> str:
        return "nothing"

    def close(self) -> None:
        pass


def acknowledging(inner: Sink) -> Sink:
    source = QueueSource(Nothing())
    source.prepare = lambda: None  # type: ignore[method-assign]
    return source.wrap_sink(inner)


@pytest.mark.parametrize(
    "around",
    [WrappedSink, CountingSink, lambda inner: BareSink(inner, lambda: None), acknowledging],
    ids=["plain", "counting", "under faults", "acknowledging"],
)
def test_sink_within_hears_of_everything(around: Callable[[Sink], Sink]) -> None:
    heard: list[str] = []

    class Hearing(ListSink):
        def check_shards(self) -> None:
            pass

        def check_narrow(self, field: str, value: Any, again: str | None = None) -> None:
            pass

        def check_cleaned(self, field: str, value: Any, *, knows: bool) -> None:
            pass

        def finish_shard(self, chunks: int) -> None:
            pass

        def dismiss_shards(self) -> None:
            pass

        def chunks_of_source(self) -> int | None:
            return None

        def __getattribute__(self, name: str) -> Any:
            if name in METHODS:
                heard.append(name)
            return super().__getattribute__(name)

    sink = around(Hearing())
    spec = LoadSpec(None, 1, "list")
    sink.check_shards()
    sink.check_narrow("since", True)
    sink.check_cleaned("clean_source", "move", knows=True)
    sink.bind(None)  # type: ignore[arg-type]
    sink.prepare(spec)
    sink.open()
    sink.source_state()
    sink.known_messages()
    sink.takes_lines()
    sink.commit(ChunkResult("00000000", 0, 0, 0, 0, []))
    sink.finish_shard(1)
    sink.chunks_of_source()
    sink.committed_now()
    sink.take_over(lambda *_: frozenset())
    sink.dismiss_shards()
    sink.seconds_of_load()
    sink.finish()
    sink.aggregate_values()
    sink.interrupt()
    sink.close()
    sink.describe()

    assert set(heard) == METHODS


@pytest.mark.parametrize("around", [WrappedSource, lambda inner: TaggingSource(inner, lambda: None)])
def test_source_within_sees_the_sink(around: Callable[[Source], Source]) -> None:
    source = QueueSource(Nothing())

    assert type(around(source).wrap_sink(ListSink())) is type(source.wrap_sink(ListSink()))


def test_source_within_says_what_makes_it_faster() -> None:
    class Slow(Source):
        advice = "read less"

        def __iter__(self) -> Iterator[Any]:
            return iter(())

    assert TaggingSource(Slow(), lambda: None).advice == "read less"
