"""DispatchSizer: a target duration, a cap, and smaller and smaller pieces near the end."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_parallel_provider.engine.stages.dispatch_size import CAP, DISPATCH_BYTES, DispatchSizer
from tests.support.given import quick


def settled(each: float, *, target: float = 0.008, workers: int = 2, dispatches: int = 60) -> DispatchSizer:
    """After many dispatches of calls that take ``each`` seconds."""
    grouping = DispatchSizer(target, workers)
    for _ in range(dispatches):
        grouping.observe(grouping.size, grouping.size * each)
    return grouping


def test_begins_with_one_call() -> None:
    assert DispatchSizer(0.008, 2).limit(1_000_000) == 1


def test_grows_at_most_twofold_per_hand() -> None:
    grouping, sizes = DispatchSizer(0.008, 2), []

    for _ in range(6):
        grouping.observe(grouping.size, grouping.size * 1e-6)
        sizes.append(grouping.size)

    assert sizes == [2, 4, 8, 16, 32, 64]


@pytest.mark.parametrize(("each", "expected"), [(0.001, 8), (0.0001, 80), (0.008, 1), (1.0, 1)])
def test_ends_where_a_hand_takes_the_target(each: float, expected: int) -> None:
    assert settled(each).size == pytest.approx(expected, abs=1)


def test_is_capped_however_short_the_calls_are() -> None:
    assert settled(0.0).size == CAP


def test_slow_calls_make_it_small_at_once() -> None:
    grouping = settled(1e-5)
    assert grouping.size > 500

    grouping.observe(grouping.size, grouping.size * 0.5)

    assert grouping.size == 1


def test_mixed_durations_make_smaller_hands_than_even_ones_of_the_same_mean() -> None:
    mixed = DispatchSizer(0.008, 2)
    for number in range(200):
        mixed.observe(10, 10 * (0.0019 if number % 10 == 0 else 0.0))

    assert mixed.size < settled(0.00019).size


def test_the_rest_is_shared_among_the_workers() -> None:
    grouping = settled(1e-6, workers=4)

    assert grouping.size == CAP
    assert grouping.limit(80) == 10
    assert grouping.limit(8) == 1
    assert grouping.limit(1) == 1


def test_more_workers_get_smaller_shares() -> None:
    grouping = settled(1e-6, workers=1)
    before = grouping.limit(100)

    grouping.workers = 5

    assert (before, grouping.limit(100)) == (50, 10)


@quick
@given(st.integers(0, 100_000), st.integers(1, 64), st.floats(0.0, 1.0))
def test_a_hand_is_never_empty_nor_more_than_a_fair_share(waiting: int, workers: int, each: float) -> None:
    grouping = settled(each, workers=workers, dispatches=15)

    most = grouping.limit(waiting)

    assert 1 <= most <= CAP
    assert most <= max(1, -(-waiting // (2 * workers)))


@quick
@given(st.integers(1, 5000), st.integers(1, 16))
def test_what_is_left_goes_out_in_smaller_and_smaller_pieces(waiting: int, workers: int) -> None:
    """The last piece of a run is one call, so no worker ends long after the others."""
    grouping, pieces = settled(1e-6, workers=workers, dispatches=12), []

    while waiting:
        pieces.append(min(waiting, grouping.limit(waiting)))
        waiting -= pieces[-1]

    assert pieces == sorted(pieces, reverse=True)
    assert pieces[-1] == 1


@quick
@given(st.lists(st.tuples(st.integers(1, 3000), st.floats(0.0, 100.0)), max_size=50))
def test_whatever_is_observed_the_size_stays_within_its_bounds(dispatches: list[tuple[int, float]]) -> None:
    grouping = DispatchSizer(0.008, 2)

    for calls, seconds in dispatches:
        before = grouping.size
        grouping.observe(calls, seconds)
        assert 1 <= grouping.size <= min(CAP, 2 * max(before, calls))


@pytest.mark.parametrize(
    ("bytes_per_call", "expected"), [(100, CAP), (DISPATCH_BYTES // 10, 10), (DISPATCH_BYTES, 1), (1 << 30, 1)]
)
def test_heavy_calls_travel_in_few(bytes_per_call: int, expected: int) -> None:
    grouping = DispatchSizer(1.0, 1)

    for _ in range(20):
        grouping.observe_bytes(grouping.size, grouping.size * bytes_per_call)
        grouping.observe(grouping.size, grouping.size * 1e-6)

    assert grouping.size == expected
