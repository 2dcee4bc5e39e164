"""What a stage did with its time, and what each worker did."""

from __future__ import annotations

from array import array

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_parallel_provider.engine.metrics.stage_metrics import StageMetrics
from airflow_parallel_provider.engine.metrics.worker_metrics import MOST_SHOWN, WorkerMetrics, for_report, prune
from tests.support.given import quick


def milliseconds(*durations: float) -> array[int]:
    return array("Q", [round(each * 1e6) for each in durations])


def test_nothing_called_has_no_quantiles() -> None:
    metrics = StageMetrics()

    assert metrics.quantiles() == (None, None, None)
    assert metrics.deciles() == []
    assert metrics.called(milliseconds()) == 0.0


def test_durations_are_counted_and_added_up() -> None:
    metrics = StageMetrics()

    assert metrics.called(milliseconds(1, 2, 3)) == pytest.approx(0.006)
    metrics.called(milliseconds(4))

    assert metrics.calls == 4
    assert metrics.busy == pytest.approx(0.010)


def test_quantiles_are_within_one_percent() -> None:
    metrics = StageMetrics()
    metrics.called(milliseconds(*range(1, 1001)))

    p50, p95, p99 = metrics.quantiles()

    assert p50 == pytest.approx(500, rel=0.02)
    assert p95 == pytest.approx(950, rel=0.02)
    assert p99 == pytest.approx(990, rel=0.02)


def test_deciles_go_from_the_shortest_to_the_longest() -> None:
    metrics = StageMetrics()
    metrics.called(milliseconds(*range(1, 101)))

    deciles = metrics.deciles()

    assert len(deciles) == 11
    assert deciles == sorted(deciles)
    assert deciles[0] == pytest.approx(1, rel=0.02)
    assert deciles[10] == pytest.approx(100, rel=0.02)


def test_thousands_of_tiny_calls_keep_their_shape() -> None:
    """They are put in sixteen slices; 1 in 10 takes ten times as long."""
    metrics = StageMetrics()
    for _ in range(5):
        metrics.called(array("Q", [1000] * 1800 + [10_000] * 200))

    assert metrics.calls == 10_000
    p50, p95, _ = metrics.quantiles()
    assert p50 == pytest.approx(0.001, rel=0.05)
    assert p95 == pytest.approx(0.010, rel=0.2)


@quick
@given(st.lists(st.integers(0, 19_999), min_size=1, max_size=300))
def test_slices_lose_no_call(durations: list[int]) -> None:
    metrics = StageMetrics()

    metrics.called(array("Q", durations))

    assert len(metrics.deciles()) == 11
    assert metrics._sketch.count == len(durations) == metrics.calls


@quick
@given(st.lists(st.integers(20_000, 10**12), min_size=1, max_size=300))
def test_durations_are_kept_to_one_percent(durations: list[int]) -> None:
    metrics = StageMetrics()

    for each in durations:
        metrics.called(array("Q", [each]))

    ordered = sorted(durations)
    expected = [ordered[int(at / 10 * (len(ordered) - 1))] / 1e6 for at in range(11)]
    assert metrics.deciles() == pytest.approx(expected, rel=0.0115)


def test_waiting_is_kept_apart() -> None:
    metrics = StageMetrics()

    metrics.waited(starved=1.0)
    metrics.waited(blocked=0.5)
    metrics.arrived(7)

    assert (metrics.starved, metrics.blocked, metrics.items_in) == (1.0, 0.5, 7)


def test_a_tally_is_plain_json_with_its_rate() -> None:
    metrics = WorkerMetrics("score", 2, calls=40, failed=1, busy=1.23456, peak_rss=5, lost=1)

    plain = metrics.as_dict()

    assert plain["failure_rate"] == 0.025
    assert plain["busy_seconds"] == 1.2346
    assert (plain["stage"], plain["number"], plain["peak_rss_bytes"], plain["lost"]) == ("score", 2, 5, 1)
    assert WorkerMetrics("score", 1).as_dict()["failure_rate"] == 0.0


def test_of_many_workers_those_that_failed_or_worked_most_are_shown_in_their_order() -> None:
    worker_metrics = [WorkerMetrics("score", number, busy=float(number)) for number in range(200)]
    worker_metrics[3].failed = 1
    worker_metrics[5].lost = 1

    numbers = [each["number"] for each in for_report(worker_metrics)]

    assert len(numbers) == MOST_SHOWN
    assert numbers == sorted(numbers)
    assert {3, 5, 199, 198} <= set(numbers)
    assert 10 not in numbers


def test_ended_workers_that_no_report_shows_are_forgotten() -> None:
    worker_metrics = [WorkerMetrics("score", number, busy=float(number), ended=number < 190) for number in range(200)]
    worker_metrics[3].failed = 1

    left = prune(worker_metrics)

    assert [each.number for each in left] == [3, *range(190 - 63, 200)]
    assert for_report(left) == for_report(worker_metrics)


def test_recent_quantiles_are_those_since_the_last_look_and_all_are_in_the_whole() -> None:
    metrics = StageMetrics()
    metrics.called(milliseconds(*[1] * 50))
    assert metrics.recent_quantiles()[0] == pytest.approx(1, rel=0.02)
    metrics.called(milliseconds(*[100] * 50))
    assert metrics.quantiles()[2] == pytest.approx(100, rel=0.02)

    assert metrics.recent_quantiles()[0] == pytest.approx(100, rel=0.02)

    assert metrics.recent_quantiles() == (None, None, None)
    assert metrics.deciles()[0] == pytest.approx(1, rel=0.02)
