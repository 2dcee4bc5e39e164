"""The queueing simulation against cases that can be worked out by hand."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_parallel_provider import Pipeline
from airflow_parallel_provider.engine.analysis.simulate import simulate
from airflow_parallel_provider.errors import PlanError
from tests.support.given import examples
from tests.support.made import ITEMS, report, stage


def seconds(*stages: Any, **options: Any) -> float:
    return simulate(report(*stages), **options).seconds


def test_one_server_takes_the_sum_of_its_calls() -> None:
    assert seconds(stage(ms=10)) == pytest.approx(ITEMS * 0.010)


@pytest.mark.parametrize("workers", [1, 2, 4, 7])
def test_many_servers_share_the_sum(workers: int) -> None:
    assert seconds(stage(ms=10, workers=workers)) == pytest.approx(10.0 / workers, rel=0.01)


@pytest.mark.parametrize("stages", [2, 3, 5])
def test_a_balanced_line_takes_one_more_step_per_stage(stages: int) -> None:
    """n items, k stages of one worker and the same service time s: (n + k - 1) s."""
    line = [stage(f"s{number}", ms=10) for number in range(stages)]

    assert seconds(*line) == pytest.approx((ITEMS + stages - 1) * 0.010)


@pytest.mark.parametrize("order", [(2, 8), (8, 2)])
def test_an_unbalanced_line_takes_as_long_as_its_slowest_stage(order: tuple[int, int]) -> None:
    first, second = order

    predicted = simulate(report(stage("a", ms=first), stage("b", ms=second)))

    assert predicted.seconds == pytest.approx(ITEMS * 0.008 + 0.002)
    slow, fast = ("a", "b") if first == 8 else ("b", "a")
    assert predicted.bottleneck == slow
    assert predicted.busy[slow] == pytest.approx(1.0, abs=0.01)
    assert predicted.busy[fast] == pytest.approx(0.25, abs=0.01)


def test_a_full_channel_blocks_the_stage_before() -> None:
    """With room for one, a line of random times is slower than with room for many: blocking after service."""
    times = [0.0, 2.0, 4.0, 6.0, 8.0, 10.0, 12.0, 14.0, 16.0, 18.0, 20.0]

    def line(room: int) -> float:
        return seconds(*[stage(f"s{number}", service_ms=times, queue_size=room) for number in range(3)])

    tight, wide = line(1), line(1000)

    assert tight > 1.15 * wide
    assert wide == pytest.approx(10.0, rel=0.1)


@examples(15)
@given(st.lists(st.floats(0.1, 50.0), min_size=11, max_size=11).map(sorted))
def test_random_times_keep_their_measured_mean(quantiles: list[float]) -> None:
    mean = sum(quantiles) / len(quantiles)

    predicted = seconds(stage(service_ms=quantiles, busy_seconds=ITEMS * mean / 1000))

    assert predicted == pytest.approx(ITEMS * mean / 1000, rel=0.15)


@examples(12)
@given(st.integers(1, 6), st.integers(1, 6), st.integers(1, 4), st.sampled_from([1, 3, 20, 5000]))
def test_more_workers_are_never_slower_by_more_than_noise(first: int, second: int, more: int, room: int) -> None:
    times = [1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 9.0, 12.0, 30.0]
    line = report(stage("a", service_ms=times, queue_size=room), stage("b", service_ms=times, queue_size=room))

    before = simulate(line, workers={"a": first, "b": second}).seconds
    after = simulate(line, workers={"a": first, "b": second + more}).seconds

    assert after <= 1.06 * before


def test_a_long_run_is_scaled_from_fewer_items() -> None:
    long = report(stage(ms=1, calls=1_000_000), items_read=1_000_000)

    assert simulate(long).seconds == pytest.approx(1000.0, rel=0.01)


def test_machines_share_the_items() -> None:
    assert seconds(stage(ms=10), machines=4) == pytest.approx(2.5)
    assert seconds(stage(ms=10), machines=10 * ITEMS) == pytest.approx(0.010)


@pytest.mark.parametrize(
    ("shards", "machines", "expected"),
    [
        (1, 1, 10.5),
        (4, 4, 3.0),
        (4, 2, 6.0),  # two rounds, and each shard has a start and an end
        (8, 4, 3.5),
        (3, 3, 3.9),  # 34 of 100 chunks
        (200, 100, 1.1),  # half of them have a chunk, the others find out that they have none
    ],
)
def test_shards_have_whole_chunks_and_a_start_each(shards: int, machines: int, expected: float) -> None:
    long = report(stage(ms=10), chunks_committed=100, seconds=10.5)

    assert simulate(long, shards=shards, machines=machines).seconds == pytest.approx(expected)


def test_start_of_a_shard_is_counted_once_a_round() -> None:
    long = report(stage(ms=10), chunks_committed=100, seconds=10.0)

    assert simulate(long, shards=8, machines=4, shard_start=2.0).seconds == pytest.approx(2 * (2.0 + 1.3), rel=0.05)


def test_a_source_that_each_shard_reads_anew_bounds_them() -> None:
    long = report(stage(ms=10), chunks_committed=100, seconds=10.0, source_busy_seconds=4.0)

    assert simulate(long, shards=10, machines=10).seconds == pytest.approx(1.0)
    assert simulate(long, shards=10, machines=10, rereads=True).seconds == pytest.approx(4.0)


def test_waits_that_cannot_be_simulated_are_shared_too() -> None:
    """20 s with the workers, of which 10 were calls; 1 s before."""
    long = report(stage(ms=10), chunks_committed=100, seconds=21.0, sink_busy_seconds=2.0, sink_busy_fraction=0.1)

    assert simulate(long, shards=4, machines=4).seconds == pytest.approx(1.0 + 5.0)


def test_a_shard_commits_its_share() -> None:
    long = report(stage(ms=10, workers=10), chunks_committed=100, seconds=6.5, sink_busy_seconds=6.0)

    assert simulate(long, shards=4, machines=4).seconds == pytest.approx(0.5 + 1.5)


def test_other_numbers_of_workers_do_not_change_the_start_of_shards() -> None:
    long = report(stage(ms=10), chunks_committed=100, seconds=10.5)

    assert simulate(long, shards=4, machines=4, workers={"work": 5}).seconds == pytest.approx(0.5 + 0.5)


def test_items_of_an_earlier_try_are_not_simulated() -> None:
    half = report(stage(ms=10, calls=ITEMS // 2), items_skipped=ITEMS // 2)

    assert simulate(half).seconds == pytest.approx(5.0)


def test_batches_count_by_their_share_of_an_item() -> None:
    """Ten calls of a hundred items each: the run takes what the calls take."""
    assert seconds(stage(ms=500, calls=10)) == pytest.approx(5.0)


def test_a_stage_that_multiplies_items_costs_its_successor_more() -> None:
    assert seconds(stage("split", ms=1), stage("each", ms=1, calls=5 * ITEMS)) == pytest.approx(5.0, rel=0.01)


def test_processes_beyond_the_cpus_bring_nothing() -> None:
    line = report(stage(kind="process", workers=2, ms=10))

    with_two, with_four, with_eight = (
        simulate(line, workers={"work": workers}, cpus=4).seconds for workers in (2, 4, 8)
    )

    assert with_two == pytest.approx(5.0, rel=0.01)
    assert with_four == pytest.approx(2.5, rel=0.01)
    assert with_eight == pytest.approx(2.5, rel=0.02)


def test_threads_that_wait_are_not_bound_to_the_cpus() -> None:
    assert seconds(stage(ms=10), workers={"work": 16}, cpus=2) == pytest.approx(10.0 / 16, rel=0.02)


def test_the_same_question_has_the_same_answer() -> None:
    line = report(stage("a", service_ms=[1.0, 5.0, 50.0]), stage("b", service_ms=[2.0, 3.0, 40.0]))

    assert simulate(line) == simulate(line)


def test_a_pipeline_can_be_asked() -> None:
    line = report(stage(ms=10))

    assert Pipeline.simulate(line, workers={"work": 2}) == simulate(line, workers={"work": 2})


def test_stages_that_were_never_called_take_no_time() -> None:
    assert seconds(stage("a", ms=10), stage("b", calls=0)) == pytest.approx(10.0)


# An earlier version accepted 1.5: it only refused numbers below 1.
@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"workers": {"wrk": 2}}, "simulate(workers)"),
        ({"workers": {"work": 0}}, "simulate(workers['work'])"),
        ({"workers": {"work": 1.5}}, "simulate(workers['work'])"),
        ({"machines": 0}, "simulate(machines)"),
        ({"machines": 1.5}, "simulate(machines)"),
        ({"shards": 0}, "simulate(shards)"),
        ({"shards": 2.5}, "simulate(shards)"),
        ({"shards": 2, "shard_start": -1}, "simulate(shard_start)"),
    ],
    ids=str,
)
def test_what_cannot_be_simulated_is_refused_by_name(options: dict[str, Any], field: str) -> None:
    with pytest.raises(PlanError) as caught:
        simulate(report(stage()), **options)

    assert caught.value.field == field


def test_a_report_without_calls_is_refused() -> None:
    with pytest.raises(PlanError, match="no measured calls"):
        simulate(report(stage(calls=0), items_read=0))
