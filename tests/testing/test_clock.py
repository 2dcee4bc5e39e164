"""``fast_retries``: pauses are noted instead of waited for, and only inside the block."""

from __future__ import annotations

import pytest

from airflow_parallel_provider import ListSink, Pipeline, Retry, Stage
from airflow_parallel_provider.testing.clock import VirtualClock, fast_retries
from airflow_parallel_provider.testing.fault_plan import Fail, FaultPlan
from tests.testing import functions


@pytest.mark.parametrize("kind", ["thread", "process", "inline"])
def test_a_real_run_does_not_wait(kind: str) -> None:
    stage = Stage(functions.same, kind=kind, retry=Retry(4, backoff=1000, max_backoff=3000))  # type: ignore[arg-type]
    faulty = FaultPlan(Fail("same", at=1, times=3)).wrap(Pipeline(range(3), [stage], ListSink(), timeout=30))

    with fast_retries() as clock:
        report = faulty.run()

    assert report.items_committed == 3
    assert clock.pauses == [1000, 2000, 3000]
    assert clock.seconds == 6000


def test_afterwards_pauses_are_real_again() -> None:
    retry = Retry(3, backoff=0.25, jitter=False)

    with fast_retries() as clock:
        assert retry.pause(2) == 0

    assert retry.pause(2) == 0.5
    assert clock.pauses == [0.5]


def test_an_error_inside_ends_it_too() -> None:
    with pytest.raises(KeyError), fast_retries():
        raise KeyError

    assert Retry(backoff=3, jitter=False).pause(1) == 3


def test_a_clock_tells_itself() -> None:
    clock = VirtualClock()
    clock.record(1.5)
    clock.record(2)

    assert repr(clock) == "VirtualClock(2 pauses, 3.5 s)"
