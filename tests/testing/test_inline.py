"""``run_inline``: the same plan on the thread of the test."""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from airflow_parallel_provider import DROP, ListSink, Pipeline, Retry, Sink, Stage
from airflow_parallel_provider.engine.interfaces.records import ChunkResult, CommittedChunk, LoadSpec
from airflow_parallel_provider.errors import SetupFailed, SinkFailed, SourceFailed, TerminalError, ToleranceExceeded
from airflow_parallel_provider.testing.checks import assert_conserved, assert_dead_letters
from airflow_parallel_provider.testing.inline import run_inline
from tests.testing import functions


def every_kind() -> Pipeline:
    adder: Any = functions.Adder(6)
    stages = [
        Stage(functions.only_even, workers=3),
        Stage(functions.twice),
        Stage(functions.plus_one, kind="async"),
        Stage(functions.twice_async, kind="async"),
        Stage(adder, kind="process", workers=1, timeout=30, queue_size=50),
        Stage(functions.not_seven, kind="process", workers=1, batch_size=4),
        Stage(functions.drop_nothing_all, kind="async", batch_size=3),
        Stage(functions.tenfold, kind="inline"),
    ]
    return Pipeline(range(21), stages, ListSink(), chunk_size=5, ordered=True, tolerance=5)


def test_it_gives_what_a_real_run_gives() -> None:
    pipeline = every_kind()
    real = pipeline.run()
    assert isinstance(pipeline.sink, ListSink)

    result = run_inline(pipeline)

    assert result.rows == pipeline.sink.rows
    assert len(result.rows) == 43
    assert [each.position for each in result.dead_letters] == [0]
    assert [each.position for each in pipeline.sink.dead_letters] == [0]
    for fate in ("read", "committed", "filtered", "dead_lettered", "skipped", "unfinished"):
        assert getattr(result.report, f"items_{fate}") == getattr(real, f"items_{fate}"), fate
    assert [stage.items_out for stage in result.report.stages] == [stage.items_out for stage in real.stages]
    assert_conserved(result.report)


class Witness(ListSink):
    """Notes which thread it is called on, and in which order."""

    def __init__(self) -> None:
        super().__init__()
        self.threads: set[threading.Thread] = set()
        self.calls: list[str] = []

    def note(self, call: str) -> None:
        self.threads.add(threading.current_thread())
        self.calls.append(call)

    def prepare(self, spec: LoadSpec) -> None:
        self.note("prepare")

    def open(self) -> Mapping[str, CommittedChunk]:
        self.note("open")
        return {}

    def commit(self, chunk: ChunkResult) -> int:
        self.note(f"commit {chunk.index}")
        return super().commit(chunk)

    def finish(self) -> None:
        self.note("finish")

    def close(self) -> None:
        self.note("close")


def test_everything_happens_on_the_thread_of_the_caller() -> None:
    threads, alive = set(), set()
    sink = Witness()

    def source() -> Iterator[int]:
        threads.add(threading.current_thread())
        yield from range(6)

    def look(item: int) -> int:
        threads.add(threading.current_thread())
        alive.update(threading.enumerate())
        return item

    async def look_async(item: int) -> int:
        return look(item)

    before = set(threading.enumerate())
    stages = [Stage(look), Stage(look_async, kind="async"), Stage(look, kind="process", name="third")]
    run_inline(Pipeline(source, stages, chunk_size=2), sink=sink)

    assert threads | sink.threads == {threading.current_thread()}
    assert alive == before
    assert sink.calls == ["prepare", "open", "commit 0", "commit 1", "commit 2", "finish", "close"]


def test_the_own_source_and_sink_stay_untouched() -> None:
    def never(_: Any = None) -> Any:
        raise AssertionError("must not be called")

    result = run_inline(Pipeline(never, [Stage(functions.tenfold)], never, load_key="k"), items=[1, 2])

    assert result.rows == [10, 20]


def test_no_stage_at_all() -> None:
    assert run_inline(Pipeline([3, 1], [])).rows == [3, 1]


def test_retries_are_made_but_not_waited_for() -> None:
    calls: list[int] = []

    def third_time_lucky(item: int) -> int:
        calls.append(item)
        if calls.count(item) < 3:
            raise ConnectionError("not yet")
        return item

    stage = Stage(third_time_lucky, retry=Retry(3, backoff=3600, max_backoff=100_000))
    result = run_inline(Pipeline([1], [stage]))

    assert result.rows == [1]
    assert result.clock.pauses == [3600, 7200]
    assert result.report.stages[0].retried == 2


def test_a_terminal_error_is_not_retried() -> None:
    class Never(TerminalError):
        pass

    def fail(item: int) -> int:
        raise Never

    result = run_inline(Pipeline([1], [Stage(fail, retry=Retry(3))], tolerance=1))

    assert result.clock.pauses == []
    assert result.dead_letters[0].attempts == 1


def test_a_batch_is_bisected() -> None:
    result = run_inline(Pipeline(range(20), [Stage(functions.not_seven, batch_size=10)], tolerance=1))

    assert result.rows == [item for item in range(20) if item != 7]
    assert_dead_letters(result, [7], stage="not_seven", cause="seven is bad")


def test_too_many_failures_stop_an_endless_source() -> None:
    def fail(item: int) -> int:
        raise ValueError(item)

    sink = Witness()
    with pytest.raises(ToleranceExceeded) as caught:
        run_inline(Pipeline(itertools.count, [Stage(fail)], tolerance=2, chunk_size=2), sink=sink)

    report = caught.value.report
    assert report is not None
    assert report.items_read == 3
    assert_conserved(report)
    assert sink.calls == ["prepare", "open", "commit 0", "close"]


@pytest.mark.parametrize("step", ["open", "commit", "finish"])
def test_a_sink_that_raises(step: str) -> None:
    class Bad(Witness):
        def note(self, call: str) -> None:
            super().note(call)
            if call.startswith(step):
                raise OSError(f"no {step}")

    sink = Bad()
    with pytest.raises(SinkFailed, match=f"no {step}"):
        run_inline(Pipeline(range(5), [Stage(functions.same)], chunk_size=2), sink=sink)

    assert sink.calls[-1] == "close"
    assert sink.calls.count("close") == 1


def test_a_source_that_raises() -> None:
    def source() -> Iterator[int]:
        yield 1
        raise OSError("no more")

    with pytest.raises(SourceFailed, match="no more"):
        run_inline(Pipeline(source, [Stage(functions.same)]))


def test_a_setup_that_raises() -> None:
    def setup() -> None:
        raise OSError("no model")

    def use(item: int, _: None) -> int:
        return item

    with pytest.raises(SetupFailed, match="no model"):
        run_inline(Pipeline([1], [Stage(use, setup=setup)]))


@pytest.mark.parametrize("error", [KeyboardInterrupt, pytest.fail.Exception])
@pytest.mark.parametrize("where", ["source", "stage", "sink"])
def test_an_interrupt_comes_through(where: str, error: type[BaseException]) -> None:
    calls = []

    def raise_at(place: str, value: Any) -> Any:
        calls.append(place)
        if place == where:
            raise error("enough")
        return value

    class Raising(ListSink):
        def commit(self, chunk: ChunkResult) -> int:
            raise_at("sink", 0)
            return super().commit(chunk)

    def source() -> Iterator[int]:
        for item in itertools.count():
            yield raise_at("source", item)

    stage = Stage(lambda item: raise_at("stage", item), retry=Retry(5, on=BaseException))
    with pytest.raises(error, match="enough"):
        run_inline(Pipeline(source, [stage], chunk_size=2, tolerance=1.0), sink=Raising())

    assert calls.count(where) == 1


def test_async_setup_and_teardown_run_on_one_loop() -> None:
    loops = []

    async def setup() -> str:
        loops.append(asyncio.get_running_loop())
        return "resource"

    async def use(item: int, resource: str) -> str:
        loops.append(asyncio.get_running_loop())
        return f"{resource} {item}"

    async def teardown(_: str) -> None:
        loops.append(asyncio.get_running_loop())

    stage = Stage(use, kind="async", setup=setup, teardown=teardown)
    result = run_inline(Pipeline([1], [stage]))

    assert result.rows == ["resource 1"]
    assert len(loops) == 3
    assert len(set(loops)) == 1
    assert loops[0].is_closed()


def test_an_async_object() -> None:
    added: Any = functions.AsyncAdder(7)
    stages = [Stage(added, kind="async"), Stage(functions.AsyncTwice, kind="async")]

    assert run_inline(Pipeline([1, 2], stages)).rows == [8, 13, 9, 14]


def test_an_async_list_is_one_result() -> None:
    async def listed(item: int) -> list[int]:
        return [item, item]

    assert run_inline(Pipeline([1], [Stage(listed, kind="async")])).rows == [[1, 1]]


@pytest.mark.parametrize("ordered", [False, True])
def test_chunks_that_are_in_are_skipped(ordered: bool) -> None:
    class Remembers(ListSink):
        def open(self) -> Mapping[str, CommittedChunk]:
            return {"00000001": CommittedChunk("00000001", 2, 2)}

    sink = Remembers()
    result = run_inline(Pipeline(range(6), [Stage(functions.same)], chunk_size=2, ordered=ordered), sink=sink)

    assert result.rows == [0, 1, 4, 5]
    assert result.report.items_skipped == 2


def test_a_sink_that_keeps_nothing_gives_no_rows() -> None:
    class Counts(Sink):
        number = 0

        def commit(self, chunk: ChunkResult) -> int:
            self.number += len(chunk.rows)
            return len(chunk.rows)

    sink = Counts()
    result = run_inline(Pipeline(range(4), [Stage(lambda item: DROP if item == 1 else item)]), sink=sink)

    assert (result.rows, sink.number, result.report.items_filtered) == ([], 3, 1)
