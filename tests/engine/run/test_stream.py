"""The iterator form: rows, the report as its value, a slow consumer slows, giving up stops."""

from __future__ import annotations

import itertools
from collections.abc import Generator, Iterator
from typing import Any

import pytest

from airflow_parallel_provider import ListSink, Pipeline, RunReport, Stage, StopToken
from airflow_parallel_provider.errors import PlanError, RunFailed, RunStopped, SourceFailed, ToleranceExceeded
from tests.support.running import check_report


def double(item: int) -> int:
    return 2 * item


def consume(rows: Generator[Any, None, RunReport]) -> tuple[list[Any], RunReport]:
    """All rows, and what the generator returns."""
    seen = []
    while True:
        try:
            seen.append(next(rows))
        except StopIteration as end:
            return seen, end.value


def test_rows_come_in_order_and_the_report_is_the_value() -> None:
    rows, report = consume(Pipeline(range(50), [Stage(double, workers=3)], chunk_size=7, ordered=True).stream())

    assert rows == [2 * item for item in range(50)]
    assert (report.state, report.rows_committed, report.chunks_committed) == ("success", 50, 8)
    check_report(report)


def test_nothing_runs_before_the_first_row_is_asked_for() -> None:
    touched: list[int] = []

    def source() -> Iterator[int]:
        touched.append(1)
        yield 1

    rows = Pipeline(source, [Stage(double, kind="inline")]).stream()

    assert touched == []
    assert list(rows) == [2]


def test_a_consumer_that_takes_nothing_holds_the_source_back() -> None:
    given = itertools.count()

    def source() -> Iterator[int]:
        while True:
            yield next(given)

    rows = Pipeline(source, [Stage(double, kind="inline")], chunk_size=5, max_in_flight=10, ordered=True).stream()

    assert [next(rows) for _ in range(5)] == [0, 2, 4, 6, 8]
    rows.close()
    assert next(given) <= 5 * 5, "one chunk taken, one that waits, one that commits, two in flight"


def test_an_error_comes_after_the_rows_that_were_good() -> None:
    def source() -> Iterator[int]:
        yield from range(10)
        raise OSError("gone")

    seen = []
    with pytest.raises(SourceFailed, match="gone") as caught:
        for row in Pipeline(source, [Stage(double, kind="inline")], chunk_size=5, ordered=True).stream():
            seen.append(row)

    assert seen == [0, 2, 4, 6, 8, 10, 12, 14, 16, 18][: len(seen)]
    assert caught.value.report is not None
    assert caught.value.report.state == "failed"


def test_failed_items_fail_the_iteration() -> None:
    with pytest.raises(ToleranceExceeded, match="ZeroDivisionError"):
        list(Pipeline([0], [Stage(lambda item: 1 // item, kind="inline")]).stream())


def test_a_stop_token_ends_it() -> None:
    token = StopToken()
    rows = Pipeline(itertools.count(), [Stage(double, kind="inline")], chunk_size=5).stream(stop=token)
    next(rows)

    token.stop("enough")

    with pytest.raises(RunStopped, match="enough"):
        list(rows)


def test_a_plan_that_cannot_start_raises_in_the_consumer() -> None:
    def not_items() -> Any:
        return 5

    with pytest.raises(RunFailed, match="must return an iterable"):
        list(Pipeline(not_items, [Stage(double, kind="inline")]).stream())


def test_a_pipeline_with_a_sink_is_refused() -> None:
    with pytest.raises(PlanError, match="leave the sink out"):
        Pipeline([1], [], ListSink()).stream()
