"""SourceReader: chunks of the right items, skips, the budget, and a source that raises."""

from __future__ import annotations

import contextlib
import queue
from collections.abc import Iterable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_parallel_provider.engine.dataflow.bundle import Bundle
from airflow_parallel_provider.engine.dataflow.channel import END, Channel, ChannelBroken
from airflow_parallel_provider.engine.dataflow.chunk import Chunk, chunk_id
from airflow_parallel_provider.engine.dataflow.in_flight import InFlightLimit
from airflow_parallel_provider.engine.dataflow.router import Router
from airflow_parallel_provider.engine.dataflow.source_reader import SourceReader
from airflow_parallel_provider.engine.interfaces.records import CommittedChunk
from airflow_parallel_provider.engine.interfaces.source import as_source
from airflow_parallel_provider.errors import LoadMismatch, SourceFailed
from tests.support.fakes import FakeContext, SeenCondition, taken, up_to, watch_readers
from tests.support.given import quick
from tests.support.sync import WAIT_SECONDS, Gate, in_background


class CollectingInput:
    """A first stage that passes everything on at once, unless it has a channel."""

    batch_size: int | None = None
    in_order = False

    def __init__(self, run: FakeRun) -> None:
        self.run = run

    def accept(self, bundle: Bundle) -> float:
        if self.run.trouble is not None:
            raise self.run.trouble
        if self.run.channel is not None:
            return self.run.channel.put(bundle)
        self.run.router.route(1, bundle.chunk, bundle.keys, bundle.values)
        return self.run.router.complete_items(0, bundle.chunk, bundle.size)

    def arrived(self, items: int) -> None:
        self.run.arrived += items

    def close(self) -> None:
        self.run.closed = True


def _committed(source: Any, index: int, size: int) -> CommittedChunk:
    items = len(source) if hasattr(source, "__len__") else source.__length_hint__()
    return CommittedChunk(chunk_id(index), max(0, min(size, items - index * size)), 0)


class FakeSinkWriter:
    """Notes what the source reader says of the chunks."""

    def __init__(self) -> None:
        self.skipped: list[int] = []
        self.ended: int | None = None

    def skip(self, index: int) -> None:
        self.skipped.append(index)

    def end(self, chunks: int) -> None:
        self.ended = chunks


class FakeRun(FakeContext):
    """A run of one stage around a source reader."""

    def __init__(
        self, source: Any, *, chunk_size: int = 4, skip: Iterable[int] = (), limit: int = 1000, call_size: int = 1
    ) -> None:
        super().__init__()
        self._call_size = call_size
        self.channel: Channel | None = None
        self.trouble: BaseException | None = None
        self.arrived = 0
        self.closed = False
        self.chunks: list[Chunk] = []
        self.in_flight = InFlightLimit(limit)
        self.router = Router([CollectingInput(self)], self._complete)
        self.sink_writer: Any = FakeSinkWriter()
        self.committed = {chunk_id(index): _committed(source, index, chunk_size) for index in skip}
        self._chunk_size = chunk_size
        self._source = as_source(source)

    @property
    def skipped(self) -> list[int]:
        skipped: list[int] = self.sink_writer.skipped
        return skipped

    @property
    def ended(self) -> int | None:
        ended: int | None = self.sink_writer.ended
        return ended

    def read(self) -> FakeRun:
        """Read to the end, on this thread."""
        self.source_reader().run()
        return self

    def source_reader(self) -> SourceReader:
        self.reader = SourceReader(
            self._source,
            self,
            self.router,
            self.sink_writer,
            self.in_flight,
            chunk_size=self._chunk_size,
            stages=1,
            channel=self.channel,
            call_size=self._call_size,
        )
        self.reader.resume_after(self.committed, None)
        return self.reader

    def _complete(self, chunk: Chunk) -> None:
        self.chunks.append(chunk)
        self.in_flight.release(chunk.size)


@quick
@given(st.integers(0, 40), st.integers(1, 12), st.booleans(), st.sets(st.integers(0, 5)), st.integers(1, 12))
def test_chunks_hold_the_items_of_their_place(
    items: int, size: int, listed: bool, skip: set[int], call_size: int
) -> None:
    """Read in bulk (a list), or collected (a generator) one by one or a batch at once: the same chunks."""
    values = [f"item {number}" for number in range(items)]

    run = FakeRun(values if listed else iter(values), chunk_size=size, skip=skip, call_size=call_size).read()

    expected = {index: values[at : at + size] for index, at in enumerate(range(0, items, size))}
    assert run.ended == len(expected)
    assert {chunk.index: chunk.rows for chunk in run.chunks} == {
        index: rows for index, rows in expected.items() if index not in skip
    }
    assert run.skipped == [index for index in expected if index in skip]
    assert run.reader.chunks_skipped == len(run.skipped)
    assert run.reader.items_skipped == sum(len(expected[index]) for index in run.skipped)
    assert run.reader.items_read == items
    assert run.arrived == items - run.reader.items_skipped
    for chunk in run.chunks:
        assert chunk.first_position == chunk.index * size
        assert [key for run in chunk.row_keys for key in run] == list(range(chunk.size))
    assert run.in_flight.used == 0


def test_a_source_that_raises_ends_the_run_by_name() -> None:
    def source() -> Iterator[int]:
        yield from range(6)
        raise ConnectionError("the service is down")

    run = FakeRun(source).read()

    assert isinstance(run.failed, SourceFailed)
    line = source.__code__.co_firstlineno + 2
    assert str(run.failed) == f"the source raised ConnectionError: the service is down (test_source_reader.py:{line})"
    assert isinstance(run.failed.__cause__, ConnectionError)
    assert run.ended is None, "an unfinished source must not look finished"
    assert [chunk.rows for chunk in run.chunks] == [[0, 1, 2, 3]]


@pytest.mark.parametrize("error", [SystemExit(2), KeyboardInterrupt(), MemoryError()], ids=repr)
def test_no_kind_of_error_of_a_source_gets_lost(error: BaseException) -> None:
    def source() -> Iterator[int]:
        yield 1
        raise error

    run = FakeRun(source).read()

    assert run.failed is not None
    assert run.failed.__cause__ is error


@pytest.mark.parametrize("listed", [True, False])
def test_an_error_of_the_engine_is_not_blamed_on_the_source(listed: bool) -> None:
    run = FakeRun([1, 2] if listed else iter([1, 2]))
    run.trouble = ZeroDivisionError("our own")

    run.read()

    assert run.failed is None
    assert run.error is run.trouble


def test_a_run_that_is_torn_down_ends_the_reading_without_a_word() -> None:
    run = FakeRun(iter(range(100)))
    run.channel = Channel(1)
    run.channel.break_()

    run.read()

    assert (run.failed, run.error, run.ended) == (None, None, None)
    assert run.reader.ended is not None


def test_a_worker_that_finds_nothing_gets_what_has_been_collected() -> None:
    """A slow source: its first item must not wait for the second one."""
    gate = Gate()

    def source() -> Iterator[str]:
        yield "first"
        gate.pass_through()
        yield "second"

    run = FakeRun(source)
    channel = run.channel = Channel(100)
    source_reader = run.source_reader()

    with in_background(source_reader.run):
        gate.wait_for_visitor()
        got = taken(channel.get(up_to(10), block=False))
        gate.open()

    assert got == ["first"]
    assert taken(channel.get(up_to(10), block=False)) == ["second"]


def test_a_waiting_worker_is_given_each_item_at_once() -> None:
    gate, got = Gate(), []

    def source() -> Iterator[str]:
        gate.pass_through()
        yield "only"
        yield from ()

    run = FakeRun(source)
    channel = run.channel = Channel(100)
    readable = watch_readers(channel)
    source_reader = run.source_reader()

    with in_background(source_reader.run), in_background(lambda: got.append(taken(channel.get(up_to(10))))):
        readable.expect_waiter()
        gate.open()

    assert got == [["only"]]


def test_each_of_several_waiting_workers_gets_an_item_before_the_source_hangs() -> None:
    """The items of a burst: none may stay with the source while a worker has nothing to do."""
    ready, hang, got = Gate(), Gate(), queue.SimpleQueue[Any]()

    def source() -> Iterator[int]:
        ready.pass_through()
        yield from range(3)
        hang.pass_through()

    run = FakeRun(source, chunk_size=100)
    channel = run.channel = Channel(100)
    readable = watch_readers(channel)

    with contextlib.ExitStack() as stack:
        for _ in range(3):
            stack.enter_context(in_background(lambda: got.put(taken(channel.get(up_to(1))))))
        stack.enter_context(in_background(run.source_reader().run))
        stack.callback(hang.open)
        readable.expect_waits(3)
        ready.open()
        assert sorted(got.get(timeout=WAIT_SECONDS) for _ in range(3)) == [[0], [1], [2]]


def test_a_worker_that_has_been_woken_is_not_woken_for_each_item() -> None:
    """Until it runs, the source may yield thousands of items: those go on in bundles."""
    run = FakeRun(iter(range(1000)), chunk_size=1000)
    channel = run.channel = Channel(4000)
    channel.waiting = 1
    readable = watch_readers(channel)

    run.read()

    assert len(readable.notified) <= 6
    assert taken(channel.get(up_to(2000))) == list(range(1000))


def test_what_is_too_little_for_a_batch_is_not_passed_on() -> None:
    run = FakeRun(iter(range(1000)), chunk_size=1000, call_size=100)
    channel = run.channel = Channel(4000)
    channel.waiting = 8
    readable = watch_readers(channel)

    run.read()

    assert len(readable.notified) <= 10
    assert taken(channel.get(up_to(2000))) == list(range(1000))


@pytest.mark.parametrize("call_size", [1, 7])
def test_the_count_of_items_read_is_exact_at_each_item(call_size: int) -> None:
    """Also while workers take what has been collected."""
    wrong: list[tuple[int, int]] = []

    def source() -> Iterator[int]:
        for number in range(5000):
            if (count := run.reader.items_read) != number:
                wrong.append((count, number))
            yield number

    run = FakeRun(source, chunk_size=1000, call_size=call_size, limit=10_000)
    channel = run.channel = Channel(10_000)
    got: list[int] = []

    def work() -> None:
        while (dispatch := channel.get(up_to(3))) is not END:
            got.extend(taken(dispatch))
            channel.settled(len(taken(dispatch)))

    source_reader = run.source_reader()
    with in_background(work), in_background(work):
        source_reader.run()
        channel.close()

    assert wrong == []
    assert sorted(got) == list(range(5000))
    assert run.reader.items_read == 5000


def test_seconds_of_reading_are_known_while_it_reads() -> None:
    run = FakeRun([])
    assert run.source_reader().seconds == 0.0

    run.read()

    assert 0.0 <= run.reader.seconds < 5.0


# -- the budget -------------------------------------------------------------------------------------------------------


def watched(limit: int) -> tuple[InFlightLimit, SeenCondition]:
    in_flight = InFlightLimit(limit)
    condition = in_flight._changed = SeenCondition(in_flight._changed._lock)  # type: ignore[attr-defined]
    return in_flight, condition


def test_the_budget_is_never_passed() -> None:
    in_flight, condition = watched(10)
    in_flight.acquire(6)

    with in_background(lambda: in_flight.acquire(5)):
        condition.expect_waiter()
        assert in_flight.used == 6
        in_flight.release(1)

    assert (in_flight.used, in_flight.peak) == (10, 10)


def test_a_budget_that_is_widened_lets_in_who_waits() -> None:
    in_flight, condition = watched(10)
    in_flight.acquire(10)

    with in_background(lambda: in_flight.acquire(5)):
        condition.expect_waiter()
        in_flight.grow(15)
    in_flight.grow(3)

    assert (in_flight.used, in_flight.limit) == (15, 15)


def test_one_chunk_may_always_be_under_way() -> None:
    in_flight = InFlightLimit(3)

    assert in_flight.acquire(5) >= 0
    assert in_flight.used == 5


def test_while_it_is_paused_only_what_is_under_way_goes_on() -> None:
    in_flight, condition = watched(100)
    in_flight.acquire(1)
    in_flight.pause(paused=True)

    with in_background(lambda: in_flight.acquire(1)):
        condition.expect_waiter()
        in_flight.pause(paused=False)

    assert in_flight.used == 2


def test_a_pause_never_stops_a_run_that_has_nothing_left_to_finish() -> None:
    """Memory that does not fall although nothing is in flight would otherwise stop the run forever."""
    in_flight, condition = watched(100)
    in_flight.acquire(1)
    in_flight.pause(paused=True)

    with in_background(lambda: in_flight.acquire(1)):
        condition.expect_waiter()
        in_flight.release(1)

    assert in_flight.used == 1


def test_a_reader_that_waits_for_room_is_woken_when_the_run_is_torn_down() -> None:
    in_flight, condition = watched(1)
    in_flight.acquire(1)

    def wait() -> None:
        with pytest.raises(ChannelBroken):
            in_flight.acquire(1)

    with in_background(wait):
        condition.expect_waiter()
        in_flight.break_()
    wait()


def test_a_committed_chunk_with_other_items_is_reported() -> None:
    """A source that grew between two tries would lose what was added to a chunk that is in already."""
    grown = FakeRun([1, 2, 3], chunk_size=4)
    grown.committed = {chunk_id(0): CommittedChunk(chunk_id(0), 2, 2)}

    grown.read()

    assert isinstance(grown.failed, SourceFailed)
    assert isinstance(grown.failed.__cause__, LoadMismatch)
    assert "3 items" in str(grown.failed)
    assert "with 2" in str(grown.failed)
