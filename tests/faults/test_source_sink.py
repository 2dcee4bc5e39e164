"""A source that raises, a sink that raises, at every step: the run ends by name and nothing is committed twice."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from airflow_parallel_provider import DROP, Pipeline, Source, Stage
from airflow_parallel_provider.engine.interfaces.records import ChunkResult, CommittedChunk, LoadSpec
from airflow_parallel_provider.errors import PlanError, RunFailed, SinkFailed, SourceFailed
from tests.support import saboteurs as bad
from tests.support.running import RecordingSink, run_pipeline
from tests.support.saboteurs import EXPECTED, ITEMS

KINDS = ["thread", "process", "inline"]


class Broken(RecordingSink):
    """Fails at one step; keeps the order of calls."""

    def __init__(self, step: str, error: BaseException | None = None) -> None:
        super().__init__()
        self.step = step
        self.error = error or OSError("disk full")
        self.calls: list[str] = []

    def _at(self, step: str) -> None:
        self.calls.append(step)
        if step == self.step:
            raise self.error

    def prepare(self, spec: LoadSpec) -> None:
        self._at("prepare")

    def open(self) -> Mapping[str, CommittedChunk]:
        self._at("open")
        return {}

    def commit(self, chunk: ChunkResult) -> int:
        self._at("commit" if chunk.index != 2 else "third commit")
        return super().commit(chunk)

    def finish(self) -> None:
        self._at("finish")

    def close(self) -> None:
        self._at("close")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("after", [0, 1, 20, ITEMS])
def test_a_source_that_raises_ends_the_run(kind: Any, after: int) -> None:
    def source() -> Iterator[int]:
        yield from range(after)
        raise OSError("share not mounted")

    ran = run_pipeline(source, [Stage(bad.tenfold, kind=kind)], chunk_size=8)

    assert isinstance(ran.error, SourceFailed)
    assert "share not mounted" in str(ran.error)
    assert isinstance(ran.error.__cause__, OSError)
    assert ran.report.state == "failed"
    assert ran.report.items_read <= after
    assert len(ran.rows) % 8 == 0, "a chunk whose end was not read must not be committed"
    assert set(ran.rows) <= set(EXPECTED[:after])


@pytest.mark.parametrize("error", [SystemExit("bye"), KeyboardInterrupt(), GeneratorExit(), MemoryError()])
def test_a_source_may_raise_anything(error: BaseException) -> None:
    def source() -> Iterator[int]:
        yield 1
        raise error

    ran = run_pipeline(source, [Stage(bad.tenfold)])

    assert isinstance(ran.error, SourceFailed)
    assert type(error).__name__ in str(ran.error)


@pytest.mark.parametrize("wrong", [None, 7, "text", b"bytes"])
def test_a_source_function_must_return_items(wrong: Any) -> None:
    ran = run_pipeline(lambda: wrong, [Stage(bad.tenfold)])

    assert isinstance(ran.error, SourceFailed)
    assert isinstance(ran.error.__cause__, PlanError)
    assert "Pipeline.source" in str(ran.error)


def test_a_source_that_cannot_be_prepared_fails_before_anything_starts() -> None:
    class Unprepared(Source):
        def prepare(self) -> None:
            raise LookupError("no such connection")

        def __iter__(self) -> Iterator[int]:
            raise AssertionError("never asked")

    sink = Broken("")

    with pytest.raises((LookupError, RunFailed), match="no such connection"):
        Pipeline(Unprepared(), [Stage(bad.tenfold)], sink).run()

    assert "commit" not in sink.calls


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("step", ["open", "commit", "third commit", "finish", "close"])
@pytest.mark.parametrize("error", [OSError("disk full"), SystemExit("disk full")], ids=["error", "exit"])
def test_a_sink_that_raises_ends_the_run(kind: Any, step: str, error: BaseException) -> None:
    sink = Broken(step, error)

    ran = run_pipeline(range(ITEMS), [Stage(bad.tenfold, kind=kind)], sink, chunk_size=8, ordered=True)

    assert isinstance(ran.error, SinkFailed)
    assert "disk full" in str(ran.error)
    assert ran.error.__cause__ is error
    assert ran.report.state == "failed"
    assert sink.calls.count("close") == 1
    assert sink.calls[-1] == "close"
    expected_rows = {"open": 0, "commit": 0, "third commit": 16}.get(step, ITEMS)
    assert ran.rows == EXPECTED[:expected_rows]
    assert ran.report.items_committed == expected_rows


def test_a_sink_that_cannot_be_prepared_fails_before_anything_starts() -> None:
    sink = Broken("prepare", LookupError("no such connection"))

    with pytest.raises((LookupError, RunFailed), match="no such connection"):
        Pipeline(range(ITEMS), [Stage(bad.tenfold, kind="process")], sink).run()

    assert "open" not in sink.calls


def test_the_first_error_of_a_sink_is_the_one_that_is_raised() -> None:
    """A connection that broke in ``commit`` usually breaks ``close``, too: that is not the cause."""

    class Twice(Broken):
        def close(self) -> None:
            self.calls.append("close")
            raise ConnectionError("already closed")

    ran = run_pipeline(range(ITEMS), [Stage(bad.tenfold)], Twice("commit"), chunk_size=8)

    assert isinstance(ran.error, SinkFailed)
    assert "disk full" in str(ran.error)


def test_a_sink_is_called_on_one_thread_and_in_order() -> None:
    threads = set()

    class Watched(Broken):
        def _at(self, step: str) -> None:
            if step != "prepare":
                threads.add(threading.get_ident())
            super()._at(step)

    sink = Watched("")

    ran = run_pipeline(range(ITEMS), [Stage(bad.tenfold)], sink, chunk_size=8)

    assert ran.error is None
    assert len(threads) == 1
    assert sink.calls[:2] == ["prepare", "open"]
    assert sink.calls[-2:] == ["finish", "close"]
    assert len([call for call in sink.calls if "commit" in call]) == 5


@pytest.mark.parametrize("kind", KINDS)
def test_chunks_that_are_in_already_are_skipped(kind: Any) -> None:
    class Half(RecordingSink):
        def open(self) -> Mapping[str, CommittedChunk]:
            return {f"{index:08d}": CommittedChunk(f"{index:08d}", 8, 8) for index in (0, 2, 4)}

    ran = run_pipeline(range(ITEMS), [Stage(bad.tenfold, kind=kind)], Half(), chunk_size=8, ordered=True)

    assert ran.rows == EXPECTED[8:16] + EXPECTED[24:32]
    assert (ran.report.items_skipped, ran.report.chunks_skipped) == (24, 3)
    assert (ran.report.items_committed, ran.report.chunks_committed) == (16, 2)


def test_every_chunk_is_in_already() -> None:
    class All(RecordingSink):
        def open(self) -> Mapping[str, CommittedChunk]:
            return {f"{index:08d}": CommittedChunk(f"{index:08d}", 8, 8) for index in range(5)}

    ran = run_pipeline(range(ITEMS), [Stage(bad.same, kind="process")], All(), chunk_size=8)

    assert ran.rows == []
    assert (ran.report.items_read, ran.report.items_skipped) == (ITEMS, ITEMS)


def test_a_sink_function_is_called_with_lists() -> None:
    chunks: list[list[int]] = []

    ran = run_pipeline(range(20), [Stage(bad.tenfold)], chunks.append, chunk_size=8, ordered=True)  # type: ignore[arg-type]

    assert chunks == [EXPECTED[:8], EXPECTED[8:16], EXPECTED[16:20]]
    assert ran.report.rows_committed == 20


def test_a_chunk_without_rows_is_committed_all_the_same() -> None:
    """Or a retry would read and process it again for nothing."""
    sink = RecordingSink()

    ran = run_pipeline(range(16), [Stage(lambda item: DROP)], sink, chunk_size=8)

    assert [chunk.items_filtered for chunk in sink.chunks] == [8, 8]
    assert (ran.report.items_filtered, ran.report.chunks_committed) == (16, 2)


def test_an_empty_source_is_a_success() -> None:
    sink = Broken("")

    ran = run_pipeline([], [Stage(bad.tenfold, kind="process")], sink)

    assert ran.error is None
    assert ran.report.items_read == 0
    assert sink.calls == ["prepare", "open", "finish", "close"]


def test_dead_letters_are_committed_with_their_chunk() -> None:
    sink = RecordingSink()

    run_pipeline(range(ITEMS), [Stage(bad.AtBad(bad.raise_value))], sink, chunk_size=8, tolerance=1, ordered=True)

    assert [[each.position for each in chunk.dead_letters] for chunk in sink.chunks] == [
        [7],
        [],
        [],
        [],
        [],
    ]
    assert [len(chunk.rows) for chunk in sink.chunks] == [7, 8, 8, 8, 8]
