"""``stream()``: the consumer may be slow, stop early, fail, or never come."""

from __future__ import annotations

import gc
import itertools
from collections.abc import Iterator
from typing import Any

import pytest

from airflow_parallel_provider import Pipeline, Stage, StopToken
from airflow_parallel_provider.errors import RunStopped, SourceFailed, ToleranceExceeded
from tests.support import saboteurs as bad
from tests.support.running import check_report
from tests.support.saboteurs import EXPECTED, ITEMS, WITHOUT_BAD, AtBad
from tests.support.sync import WAIT_SECONDS, Clock, Gate

KINDS = ["thread", "process", "async", "inline"]


async def tenfold(item: int) -> int:
    return item * 10


def stage_of(kind: Any) -> Stage:
    return Stage(tenfold if kind == "async" else bad.tenfold, kind=kind)


class Counted:
    """A source without end that counts what was drawn from it, and knows whether it was closed."""

    def __init__(self) -> None:
        self.drawn = 0
        self.closed = False

    def __iter__(self) -> Iterator[int]:
        try:
            for item in itertools.count():
                self.drawn += 1
                yield item
        finally:
            self.closed = True


@pytest.mark.parametrize("kind", KINDS)
def test_all_rows_come_in_order(kind: Any) -> None:
    stream = Pipeline(range(ITEMS), [stage_of(kind)], chunk_size=8, ordered=True).stream()

    assert list(stream) == EXPECTED


def test_the_report_is_the_value_of_the_generator() -> None:
    stream = Pipeline(range(ITEMS), [Stage(bad.tenfold)], chunk_size=8).stream()

    with pytest.raises(StopIteration) as ended:
        while True:
            next(stream)

    report = ended.value.value
    check_report(report)
    assert report.rows_committed == ITEMS


@pytest.mark.parametrize("kind", KINDS)
def test_a_consumer_that_stops_early_stops_everything(kind: Any) -> None:
    """The guards see that nothing is left; the source is not read to its end (this one has none)."""
    source = Counted()
    clock = Clock()

    for row in Pipeline(source, [stage_of(kind)], chunk_size=10, max_in_flight=100, ordered=True).stream():
        if row == 40:
            clock.restart()
            break

    del row
    assert clock.seconds < WAIT_SECONDS
    assert source.drawn <= 50 + 10 + 100 + 1
    assert source.closed


def test_a_consumer_that_raises_stops_everything() -> None:
    source = Counted()

    with pytest.raises(LookupError):
        for _ in Pipeline(source, [stage_of("process")], chunk_size=10).stream():
            raise LookupError

    gc.collect()  # the traceback keeps the generator until here
    assert source.closed


def test_a_stream_that_is_closed_twice() -> None:
    stream = Pipeline(Counted(), [Stage(bad.tenfold)], chunk_size=10).stream()
    next(stream)

    stream.close()
    stream.close()

    assert list(stream) == []


def test_a_stream_nobody_reads_starts_nothing() -> None:
    source = Counted()

    stream = Pipeline(source, [Stage(bad.tenfold, kind="process")]).stream()
    del stream

    assert source.drawn == 0


def test_a_slow_consumer_slows_the_source() -> None:
    source = Counted()
    stream = Pipeline(source, [Stage(bad.tenfold)], chunk_size=10, max_in_flight=50).stream()

    for count in range(1, 201):
        next(stream)
        # The chunk that the consumer holds, one that waits for it, what is in flight, and one item looked ahead.
        assert source.drawn <= count + 10 + 10 + 50 + 1
    stream.close()


def test_a_stop_reaches_a_stream() -> None:
    token = StopToken()
    rows = []

    with pytest.raises(RunStopped, match="enough"):
        for row in Pipeline(Counted(), [Stage(bad.tenfold)], chunk_size=10).stream(stop=token):
            rows.append(row)
            if len(rows) == 25:
                token.stop("enough")

    assert len(rows) >= 25


def test_a_stop_reaches_a_stream_whose_worker_hangs() -> None:
    token, gate, clock = StopToken(), Gate(), Clock()

    def call(item: int) -> int:
        if item == 15:
            clock.restart()
            token.stop("enough")
            gate.pass_through()
        return item

    try:
        with pytest.raises(RunStopped, match="enough"):
            list(Pipeline(range(100), [Stage(call, workers=1)], chunk_size=10, ordered=True).stream(stop=token))
        assert clock.seconds < WAIT_SECONDS
    finally:
        gate.open()


def test_a_failed_run_raises_after_the_rows_that_were_good() -> None:
    def source() -> Iterator[int]:
        yield from range(25)
        raise OSError("share gone")

    rows = []

    with pytest.raises(SourceFailed, match="share gone") as caught:
        for row in Pipeline(source, [Stage(bad.tenfold)], chunk_size=10, ordered=True).stream():
            rows.append(row)

    assert rows == EXPECTED[: len(rows)]
    assert caught.value.report is not None
    check_report(caught.value.report)


def test_tolerance_holds_for_a_stream() -> None:
    stages = [Stage(AtBad(bad.raise_value))]

    with pytest.raises(ToleranceExceeded):
        list(Pipeline(range(ITEMS), stages).stream())
    assert list(Pipeline(range(ITEMS), stages, ordered=True, tolerance=1).stream()) == WITHOUT_BAD


def test_two_streams_at_once() -> None:
    one = Pipeline(range(ITEMS), [stage_of("process")], chunk_size=8, ordered=True).stream()
    two = Pipeline(range(ITEMS), [stage_of("process")], chunk_size=8, ordered=True).stream()

    both = [value for pair in zip(one, two, strict=True) for value in pair]

    assert both[::2] == both[1::2] == EXPECTED
