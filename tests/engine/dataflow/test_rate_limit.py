"""RateLimit: the rate holds over any window, batches go into debt, bursts are small. All in virtual time."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_parallel_provider.engine.dataflow.rate_limit import RateLimit
from tests.support.given import quick


def drive(limit: RateLimit, seconds: float, batch: int = 1) -> list[tuple[float, int]]:
    """Take as soon as it is allowed, for some seconds: when and how many."""
    now, gone = 0.0, []
    while now <= seconds:
        pause = limit.pause(now)
        if pause > 0:
            now += pause
            continue
        limit.spend(batch)
        gone.append((now, batch))
    return gone


@pytest.mark.parametrize("per_second", [0.5, 3.0, 10.0, 1000.0])
def test_single_items_go_at_the_rate(per_second: float) -> None:
    seconds = 100 / per_second

    gone = drive(RateLimit(per_second), seconds)

    burst = max(1.0, per_second * RateLimit.BURST_SECONDS)
    assert 100 <= len(gone) <= 100 + burst + 1


def test_the_first_item_goes_at_once() -> None:
    assert RateLimit(0.1).pause(7.0) == 0.0


def test_the_pause_says_when_the_next_one_may_go() -> None:
    limit = RateLimit(4.0)
    limit.pause(0.0)
    limit.spend(1)

    assert limit.pause(0.0) == pytest.approx(0.25)
    assert limit.pause(0.1) == pytest.approx(0.15)
    assert limit.pause(0.25) == 0.0


def test_a_batch_larger_than_the_allowance_goes_and_is_paid_for() -> None:
    limit = RateLimit(10.0)
    assert limit.pause(0.0) == 0.0

    limit.spend(50)

    assert limit.pause(0.0) == pytest.approx(5.0)
    assert limit.pause(4.9) > 0
    assert limit.pause(5.0) == 0.0


def test_batches_go_at_the_rate_of_their_items() -> None:
    gone = drive(RateLimit(100.0), 10.0, batch=25)

    assert 1000 <= sum(items for _, items in gone) <= 1000 + 5 + 25


def test_a_long_pause_is_not_saved_up() -> None:
    limit = RateLimit(100.0)
    limit.pause(0.0)

    limit.pause(3600.0)

    assert limit.allowed == 5, "a twentieth of a second's worth"


@pytest.mark.parametrize(("per_second", "burst"), [(1.0, 1), (19.0, 1), (40.0, 2), (1000.0, 50)])
def test_allowed_is_bounded_by_the_burst(per_second: float, burst: int) -> None:
    limit = RateLimit(per_second)

    assert limit.pause(0.0) == 0.0
    assert limit.allowed == burst


@quick
@given(
    st.floats(0.1, 5000.0),
    st.lists(st.tuples(st.floats(0.0, 3.0), st.integers(1, 400)), min_size=1, max_size=40),
)
def test_no_window_holds_more_than_the_rate_and_one_burst(per_second: float, asked: list[tuple[float, int]]) -> None:
    """Any number of items at any time: those before the last one of a window keep to the rate."""
    limit, now, gone = RateLimit(per_second), 0.0, []
    burst = max(1.0, per_second * RateLimit.BURST_SECONDS)
    for pause, items in asked:
        now += pause
        if limit.pause(now) == 0.0:
            limit.spend(items)
            gone.append((now, items))

    for first in range(len(gone)):
        for last in range(first, len(gone)):
            before_last = sum(items for _, items in gone[first:last])
            assert before_last <= burst + per_second * (gone[last][0] - gone[first][0]) + 1e-6


@quick
@given(st.floats(0.1, 5000.0), st.integers(1, 1000))
def test_waiting_as_long_as_it_says_is_always_enough(per_second: float, debt: int) -> None:
    limit = RateLimit(per_second)
    limit.pause(0.0)
    limit.spend(debt)

    assert limit.pause(limit.pause(0.0)) == 0.0
