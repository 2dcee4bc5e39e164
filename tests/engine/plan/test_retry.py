"""Retry: pauses that grow, are bounded and jitter; which errors may be tried again."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_parallel_provider.engine.plan.retry import Retry
from airflow_parallel_provider.errors import PlanError, TerminalError, TransientError
from tests.support.given import quick


class Hopeless(ValueError, TerminalError):
    pass


class Transient(ValueError, TransientError):
    pass


def test_pauses_double_up_to_their_bound() -> None:
    retry = Retry(9, backoff=0.5, max_backoff=6.0, jitter=False)

    assert [retry.pause(attempt) for attempt in range(1, 8)] == [0.5, 1.0, 2.0, 4.0, 6.0, 6.0, 6.0]


def test_jitter_draws_from_zero_to_the_pause() -> None:
    retry = Retry(3, backoff=2.0, max_backoff=60.0)

    drawn = [retry.pause(2) for _ in range(400)]

    assert all(0 <= pause <= 4.0 for pause in drawn)
    assert min(drawn) < 1.0
    assert max(drawn) > 3.0


@quick
@given(st.integers(1, 5000), st.floats(0.001, 100.0), st.floats(0.0, 1000.0), st.booleans())
def test_no_pause_is_negative_or_beyond_the_bound(attempt: int, backoff: float, most: float, jitter: bool) -> None:
    retry = Retry(5000, backoff=backoff, max_backoff=most, jitter=jitter)

    assert 0 <= retry.pause(attempt) <= most


# The last one: 2**1500 is too large for a float, which must not count as "the longest pause".
@pytest.mark.parametrize("attempt", [1, 2, 1000, 1500])
def test_no_backoff_is_no_pause(attempt: int) -> None:
    assert Retry(5000, backoff=0, jitter=False).pause(attempt) == 0.0


ACCEPTED: list[tuple[Any, BaseException, bool]] = [
    (None, ValueError(), True),
    (None, Transient(), True),
    (None, Hopeless(), False),
    (None, KeyboardInterrupt(), False),
    (None, SystemExit(), False),
    (OSError, ConnectionError(), True),
    (OSError, ValueError(), False),
    ((OSError, ValueError), ValueError(), True),
    ((OSError, ValueError), KeyError(), False),
    (ValueError, Hopeless(), False),
    (KeyboardInterrupt, KeyboardInterrupt(), True),
    (lambda error: "again" in str(error), ValueError("try again"), True),
    (lambda error: "again" in str(error), ValueError("never"), False),
    (lambda error: True, Hopeless(), False),
]


def test_which_errors_may_be_tried_again() -> None:
    for on, error, accepted in ACCEPTED:
        assert Retry(3, on=on).accepts(error) is accepted, (on, error)


REFUSED: dict[str, tuple[Any, ...]] = {
    "attempts": (0, -1, 1.5, True, "3", None),
    "backoff": (-1, float("inf"), float("nan"), True, "1"),
    "max_backoff": (-1, float("inf"), float("nan"), True, "1"),
    "on": ("ValueError", 5, (), (ValueError, 3), int),
}


@pytest.mark.parametrize("field", REFUSED)
def test_what_is_out_of_range_is_refused_by_name(field: str) -> None:
    for value in REFUSED[field]:
        with pytest.raises(PlanError) as caught:
            Retry(**{field: value})
        assert caught.value.field == f"Retry.{field}", value
