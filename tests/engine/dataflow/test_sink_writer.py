"""Committer: order with skips, rows in source order, every item counted once, ends on every path."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_parallel_provider.engine.dataflow.chunk import Chunk
from airflow_parallel_provider.engine.dataflow.in_flight import InFlightLimit
from airflow_parallel_provider.engine.dataflow.keys import Key, Keys, TableKey, sort_key
from airflow_parallel_provider.engine.dataflow.sink_writer import SinkWriter
from airflow_parallel_provider.engine.interfaces.records import ChunkResult, CommittedChunk, DeadLetter
from airflow_parallel_provider.engine.interfaces.sink import Sink
from airflow_parallel_provider.errors import SinkFailed
from tests.support.fakes import FakeContext
from tests.support.given import quick
from tests.support.sync import WAIT_SECONDS


class FakeRun(FakeContext):
    """What a sink writer tells its run."""

    def __init__(self) -> None:
        super().__init__()
        self.done = False
        self.finishing = True
        self.in_flight = InFlightLimit(1000)
        self.in_flight.acquire(1000)
        self.committed: Mapping[str, CommittedChunk] | None = None

    @property
    def finished_items(self) -> int:
        return 1000 - self.in_flight.used

    def sink_writer(self, sink: Sink, *, ordered: bool) -> SinkWriter:
        return SinkWriter(sink, self, self.in_flight, on_open=self._opened, ordered=ordered)

    def _opened(self, committed: Mapping[str, CommittedChunk]) -> None:
        self.committed = committed

    def may_finish(self) -> bool:
        return self.finishing

    def sink_done(self) -> None:
        self.done = True


class Notebook(Sink):
    """Records the calls; raises where the test says so."""

    def __init__(self, bad: str = "") -> None:
        self.calls: list[str] = []
        self.chunks: list[ChunkResult] = []
        self.bad = bad
        self.arrived = threading.Semaphore(0)

    def _note(self, what: str) -> None:
        self.calls.append(what)
        if what == self.bad:
            raise OSError(f"{what} went wrong")

    def open(self) -> Mapping[str, CommittedChunk]:
        self._note("open")
        return {"00000009": CommittedChunk("00000009", 1, 1)}

    def commit(self, chunk: ChunkResult) -> int:
        self._note("commit")
        self.chunks.append(chunk)
        self.arrived.release()
        return 10 * len(chunk.rows)

    def finish(self) -> None:
        self._note("finish")

    def close(self) -> None:
        self._note("close")

    def describe(self) -> str:
        return "the notebook"


def chunk(index: int, keys: list[Key] | None = None, *, size: int = 2, dead: tuple[int, ...] = ()) -> Chunk:
    made = Chunk(index, index * size, 1)
    made.size = size
    made.row_keys = [range(size)] if keys is None else [keys]
    made.rows = [(index, key) for run in made.row_keys for key in run]
    made.dead = set(dead)
    made.dead_letters = [((at,), DeadLetter(index * size + at, "s", "c", 1, "", None)) for at in dead]
    return made


def committed(*chunks: Chunk, ordered: bool = False, skip: tuple[int, ...] = (), sink: Notebook | None = None) -> Any:
    """Have these chunks committed in this order of completion."""
    sink = sink or Notebook()
    run = FakeRun()
    committer = run.sink_writer(sink, ordered=ordered)
    for index in skip:
        committer.skip(index)
    for each in chunks:
        committer.complete(each)
    committer.end(len(chunks) + len(skip))
    committer.run()
    return committer, sink, run


def test_the_calls_of_a_good_run() -> None:
    committer, sink, run = committed(chunk(0), chunk(1))

    assert sink.calls == ["open", "commit", "commit", "finish", "close"]
    assert run.done
    assert run.failed is None
    assert run.finished_items == 4
    assert run.committed == {"00000009": CommittedChunk("00000009", 1, 1)}
    assert (committer.items_committed, committer.rows_committed, committer.chunks_committed) == (4, 40, 2)


def test_no_chunk_at_all_is_a_good_run_too() -> None:
    _, sink, run = committed()

    assert sink.calls == ["open", "finish", "close"]
    assert run.done


@quick
@given(st.permutations(range(7)), st.sets(st.integers(0, 6)))
def test_ordered_chunks_arrive_in_order_whatever_is_complete_first_or_skipped(
    order: list[int], skipped: set[int]
) -> None:
    run = [chunk(index) for index in order if index not in skipped]

    _, sink, told = committed(*run, ordered=True, skip=tuple(skipped))

    assert [each.index for each in sink.chunks] == sorted(set(range(7)) - skipped)
    assert told.done


def test_unordered_chunks_need_not_wait_for_earlier_ones() -> None:
    sink, run = Notebook(), FakeRun()
    committer = run.sink_writer(sink, ordered=False)
    thread = threading.Thread(target=committer.run, daemon=True)
    thread.start()

    committer.complete(chunk(5))
    assert sink.arrived.acquire(timeout=WAIT_SECONDS)
    committer.complete(chunk(0))
    committer.end(2)
    thread.join(WAIT_SECONDS)

    assert [each.index for each in sink.chunks] == [5, 0]


def test_ordered_chunks_wait_for_a_skip_that_comes_late() -> None:
    sink, run = Notebook(), FakeRun()
    committer = run.sink_writer(sink, ordered=True)
    thread = threading.Thread(target=committer.run, daemon=True)
    thread.start()

    committer.complete(chunk(1))
    committer.complete(chunk(3))
    committer.skip(0)
    assert sink.arrived.acquire(timeout=WAIT_SECONDS)
    assert [each.index for each in sink.chunks] == [1], "the third one waits for the second"
    committer.skip(2)
    committer.end(4)
    thread.join(WAIT_SECONDS)

    assert [each.index for each in sink.chunks] == [1, 3]
    assert run.done


def test_rows_are_put_in_source_order() -> None:
    _, sink, _ = committed(chunk(0, [3, 0, 2, 1], size=4))

    assert [key for _, key in sink.chunks[0].rows] == [0, 1, 2, 3]


@quick
@given(
    st.lists(
        st.one_of(st.integers(0, 50), st.tuples(st.integers(0, 50), st.integers(0, 9))), max_size=40, unique_by=repr
    )
)
def test_rows_of_any_keys_are_put_in_source_order(keys: list[Key]) -> None:
    _, sink, _ = committed(chunk(0, keys, size=51))

    made = [sort_key(key) for _, key in sink.chunks[0].rows]
    assert made == sorted(made)
    assert len(made) == len(keys)


@quick
@given(st.permutations(range(6)), st.sets(st.integers(0, 59), max_size=5), st.integers(0, 2))
def test_runs_of_neighbors_are_put_in_source_order(order: list[int], missing: set[int], listed: int) -> None:
    """Bundles of a chunk return in any order, some as ranges, some with gaps; nothing is lost or counted twice."""
    made = chunk(0, [], size=60, dead=tuple(missing))
    made.row_keys, made.rows = [], []
    for at in order:
        run: Keys = range(10 * at, 10 * at + 10)
        if not missing.isdisjoint(run) or at < listed:
            run = [key for key in run if key not in missing]
        made.row_keys.append(run)
        made.rows += [(0, key) for key in run]

    committer, sink, _ = committed(made)

    assert [key for _, key in sink.chunks[0].rows] == sorted(set(range(60)) - missing)
    assert committer.items_committed == 60 - len(missing)
    assert (committer.items_filtered, committer.items_dead_lettered) == (0, len(missing))


def test_every_item_has_one_fate() -> None:
    """Item 0 has two rows, 1 none, 2 and 3 a table together, 4 a row and yet failed, 5 failed."""
    keys: list[Key] = [(0, 0), (0, 1), TableKey((2, 3)), (4, 0)]

    committer, sink, run = committed(chunk(1, keys, size=6, dead=(5, 4)))

    assert (committer.items_committed, committer.items_filtered, committer.items_dead_lettered) == (3, 1, 2)
    result = sink.chunks[0]
    assert (result.chunk_id, result.index, result.first_position) == ("00000001", 1, 6)
    assert (result.items, result.items_filtered) == (6, 1)
    assert [each.position for each in result.dead_letters] == [10, 11]
    assert run.finished_items == 6


@pytest.mark.parametrize(
    ("bad", "calls"),
    [
        ("open", ["open", "close"]),
        ("commit", ["open", "commit", "close"]),
        ("finish", ["open", "commit", "finish", "close"]),
        ("close", ["open", "commit", "finish", "close"]),
    ],
)
def test_whatever_the_sink_raises_ends_the_run_by_name_and_the_sink_is_closed(bad: str, calls: list[str]) -> None:
    committer, sink, run = committed(chunk(0), sink=Notebook(bad))

    assert sink.calls == calls
    assert isinstance(run.failed, SinkFailed)
    assert "the sink the notebook failed: OSError" in str(run.failed)
    assert isinstance(run.failed.__cause__, OSError)
    assert not run.done
    assert committer.chunks_committed == (0 if bad in ("open", "commit") else 1)


def test_nothing_is_committed_once_the_run_is_ending() -> None:
    sink, run = Notebook(), FakeRun()
    run.committing = False
    committer = run.sink_writer(sink, ordered=False)
    committer.complete(chunk(0))
    committer.end(1)

    committer.run()

    assert sink.calls == ["open", "close"]
    assert not run.done


def test_a_run_judged_as_failed_at_the_end_is_not_sealed() -> None:
    sink, run = Notebook(), FakeRun()
    run.finishing = False
    committer = run.sink_writer(sink, ordered=False)
    committer.complete(chunk(0))
    committer.end(1)

    committer.run()

    assert sink.calls == ["open", "commit", "close"]
    assert not run.done


def test_a_committer_that_waits_ends_when_the_run_is_torn_down() -> None:
    sink, run = Notebook(), FakeRun()
    committer = run.sink_writer(sink, ordered=True)
    committer.complete(chunk(3))
    thread = threading.Thread(target=committer.run, daemon=True)
    thread.start()

    committer.break_()
    thread.join(WAIT_SECONDS)

    assert not thread.is_alive()
    assert sink.calls == ["open", "close"]


def test_chunk_that_another_attempt_has_committed_counts_as_skipped() -> None:
    class Late(Notebook):
        def commit(self, chunk: ChunkResult) -> int | None:  # type: ignore[override]  # as a sink may
            return super().commit(chunk) if chunk.index else None

    writer, _, run = committed(chunk(0, dead=(1,)), chunk(1), sink=Late())

    assert (writer.chunks_committed, writer.chunks_skipped) == (1, 1)
    assert (writer.items_committed, writer.items_skipped, writer.items_dead_lettered) == (2, 2, 0)
    assert writer.rows_committed == 20
    assert run.finished_items == 4
    assert run.done
