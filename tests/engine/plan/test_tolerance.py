"""Tolerance: items or a fraction of them; early, late and at the end."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from airflow_parallel_provider.engine.plan.tolerance import Tolerance
from airflow_parallel_provider.errors import PlanError
from tests.support.given import quick


@pytest.mark.parametrize(("failed", "exceeded"), [(0, False), (3, False), (4, True)])
@pytest.mark.parametrize("total", [None, 10, 1_000_000])
def test_a_whole_number_counts_dead_letters_whatever_the_total(failed: int, exceeded: bool, total: int | None) -> None:
    tolerance = Tolerance(3)

    assert tolerance.exceeded(failed, failed, total) is exceeded
    assert tolerance.exceeded(failed, failed, total, final=True) is exceeded


def test_a_fraction_of_a_known_length_is_a_number_of_items_from_the_start() -> None:
    tolerance = Tolerance(0.1)

    assert not tolerance.exceeded(10, 10, 100), "the first ten of a hundred may all fail"
    assert tolerance.exceeded(11, 11, 100)


def test_a_fraction_of_an_unknown_length_is_not_judged_by_the_first_items() -> None:
    tolerance = Tolerance(0.1)

    assert not tolerance.exceeded(1, 1, None), "not 100 %"
    assert not tolerance.exceeded(10, 10, None)
    assert tolerance.exceeded(11, 11, None), "a hundred items could not excuse it"
    assert not tolerance.exceeded(11, 110, None)


def test_a_fraction_is_judged_by_what_was_read_at_the_end() -> None:
    tolerance = Tolerance(0.1)

    assert tolerance.exceeded(2, 10, None, final=True)
    assert tolerance.exceeded(2, 10, 1000, final=True), "the source gave fewer than it said"
    assert not tolerance.exceeded(1, 10, None, final=True)


@pytest.mark.parametrize("value", [0, 0.0])
@pytest.mark.parametrize("total", [None, 50])
def test_nothing_tolerated_is_exceeded_by_the_first(value: float, total: int | None) -> None:
    tolerance = Tolerance(value)

    assert tolerance.exceeded(1, 40, total)
    assert not tolerance.exceeded(0, 0, total)
    assert not tolerance.exceeded(0, 0, total, final=True)


def test_everything_may_fail() -> None:
    assert not Tolerance(1.0).exceeded(50, 50, None, final=True)


def test_one_is_an_item_and_one_point_zero_is_all() -> None:
    assert Tolerance(1).exceeded(2, 2, 100)
    assert not Tolerance(1.0).exceeded(100, 100, 100)


# 0.29 * 100 is 28.999999999999996 in floating point.
@quick
@given(st.integers(0, 1000), st.integers(1, 1000))
@example(29, 100)
@example(1, 49)
def test_a_fraction_allows_exactly_what_it_says(failed: int, items: int) -> None:
    failed = min(failed, items)
    tolerance = Tolerance(failed / items)

    assert not tolerance.exceeded(failed, items, items, final=True)
    assert tolerance.exceeded(failed + 1, items, items, final=True)


# In an earlier version the last one raised OverflowError instead of the one clear error.
@pytest.mark.parametrize("value", [-1, -0.1, 1.5, True, "5", None, float("nan"), float("-inf"), float("inf")])
def test_what_is_no_tolerance_is_refused_by_name(value: Any) -> None:
    with pytest.raises(PlanError, match="tolerance"):
        Tolerance(value)


def test_the_error_for_a_float_above_one_says_what_to_write() -> None:
    with pytest.raises(PlanError, match="for items write 5"):
        Tolerance(5.0)


@pytest.mark.parametrize(("value", "text"), [(5, "5 failures"), (1, "1 failure"), (0.01, "1% of the items")])
def test_reads_as_a_person_says_it(value: float, text: str) -> None:
    assert str(Tolerance(value)) == text
