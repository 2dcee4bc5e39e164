"""The checks of what an author declares: what they let pass, and what their errors say."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest

from airflow_parallel_provider.checks import check_number, check_positive, check_seconds, check_whole
from airflow_parallel_provider.errors import PlanError


@pytest.mark.parametrize(
    ("check", "value"),
    [
        (lambda value: check_whole("A.b", value), 1),
        (lambda value: check_whole("A.b", value, 0, 5), 5),
        (lambda value: check_whole("A.b", value, optional=True), None),
        (lambda value: check_number("A.b", value, 0.5, 2), 2),
        (lambda value: check_positive("A.b", value), 1e-9),
        (lambda value: check_positive("A.b", value, optional=True), None),
        (lambda value: check_seconds("A.b", value), 0),
        (lambda value: check_seconds("A.b", value, most=math.inf), 1e9),
    ],
)
def test_values_within_bounds_pass(check: Callable[[Any], None], value: Any) -> None:
    check(value)


@pytest.mark.parametrize(
    ("check", "values", "cure"),
    [
        (lambda value: check_whole("A.b", value), [0, -1, True, 1.0, "1", None], "give a whole number, 1 or more"),
        (
            lambda value: check_whole("A.b", value, unit="items", optional=True),
            [0, 2.5],
            "give a whole number of items, 1 or more, or leave it out",
        ),
        (lambda value: check_whole("A.b", value, 10, 2000), [9, 2001], "give a whole number from 10 to 2,000"),
        (lambda value: check_number("A.b", value, 0.5, 2), [0.4, 3, True, math.nan], "give a number from 0.5 to 2"),
        (lambda value: check_positive("A.b", value), [0, -1, math.inf, math.nan, None], "give seconds, more than 0"),
        (
            lambda value: check_positive("A.b", value, unit="items per second", optional=True),
            [0, False],
            "give items per second, more than 0, or leave it out",
        ),
        (lambda value: check_seconds("A.b", value), [-1, 90_000, math.inf], "give seconds, from 0 to 86,400"),
        (lambda value: check_seconds("A.b", value, most=math.inf), [-1, math.inf, "1"], "give seconds, 0 or more"),
    ],
)
def test_other_values_are_refused_with_a_cure(check: Callable[[Any], None], values: list[Any], cure: str) -> None:
    for value in values:
        with pytest.raises(PlanError) as refused:
            check(value)
        assert str(refused.value) == f"A.b={value!r}: {cure}"
