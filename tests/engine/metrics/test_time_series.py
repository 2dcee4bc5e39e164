"""Series: bounded, even, and the last sample is always there."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from airflow_parallel_provider import Pipeline, Stage
from airflow_parallel_provider.engine.metrics.time_series import POINTS, Series
from tests.support.given import quick
from tests.support.sync import Gate


@quick
@given(st.lists(st.integers(1, 50), min_size=1, max_size=200), st.sampled_from([4, 10, 120]))
def test_bounded_and_true(steps: list[int], points: int) -> None:
    series: Series[str] = Series(lambda name: name == "gauge", points)
    seen: list[tuple[float, int]] = []
    now = 0
    for step in steps:
        now += step
        seen.append((now, step))
        series.add(now, {"gauge": step, "sum": now})
        assert len(series) <= points

    assert series.columns["sum"] == series.seconds == sorted(set(series.seconds))
    before = 0.0
    for at, gauge in zip(series.seconds, series.columns["gauge"], strict=True):
        assert gauge in [value for when, value in seen if before < when <= at]
        before = at


def test_of_two_neighbors_a_gauge_keeps_the_larger_and_a_sum_the_later() -> None:
    series: Series[str] = Series(lambda name: name == "gauge", 4)
    for at, gauge in enumerate([1, 9, 2, 3]):
        series.add(at, {"gauge": gauge, "sum": at})

    series.halve()

    assert series.seconds == [1, 3]
    assert series.columns == {"gauge": [9, 3], "sum": [1, 3]}
    assert not series.takes(3 + series.distance / 2)


def test_a_column_is_zero_where_it_has_no_value() -> None:
    series: Series[str] = Series(lambda _: True)
    series.add(0, {"a": 1})
    series.add(1, {"b": 2})

    assert series.columns == {"a": [1, 0], "b": [0, 2]}


def test_a_report_shows_how_full_channels_were_and_how_many_workers_there_were() -> None:
    gate = Gate()

    def wait(item: int) -> int:
        gate.pass_through()
        return item

    def look(snapshot: dict[str, Any]) -> None:
        series = snapshot["series"]
        if len(series["seconds"]) >= 2 and max(series["stages"]["wait"]["queue"]) > 4:
            gate.open()

    stages = [Stage(wait, workers=2, queue_size=8), Stage(lambda item: item, kind="inline", name="inline")]
    report = Pipeline(range(100), stages, lambda rows: None).run(observe=look, observe_every=0.05)

    series = report.series
    assert list(series["stages"]) == ["wait"]
    queue, workers = series["stages"]["wait"]["queue"], series["stages"]["wait"]["workers"]
    assert 2 <= len(series["seconds"]) == len(queue) == len(workers) <= POINTS
    assert 4 < max(queue) <= 8, "it is filled up again only when half of it is free"
    assert max(workers) == 2
