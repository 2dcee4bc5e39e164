"""Automatic bounds: they grow with fast and light items, and with nothing else."""

from __future__ import annotations

from array import array
from typing import Any

import pytest

from airflow_parallel_provider import Stage
from airflow_parallel_provider.engine.dataflow.chunk import Chunk
from airflow_parallel_provider.engine.dataflow.in_flight import InFlightLimit
from airflow_parallel_provider.engine.dataflow.router import Router
from airflow_parallel_provider.engine.functions.outcome import Outcome
from airflow_parallel_provider.engine.metrics.failure_causes import Causes
from airflow_parallel_provider.engine.stages.stage_run import LIGHT_BYTES, StageRun
from tests.support.fakes import FakeContext, Sized

MICROSECOND, SECOND = 1_000, 1_000_000_000


class FakeRun(FakeContext):
    """What a stage tells its run."""

    def __init__(self) -> None:
        super().__init__()
        self.causes = Causes()
        self.in_flight = InFlightLimit(0)

    @property
    def room(self) -> int:
        """How many items may be in flight by now."""
        return self.in_flight.limit

    def record_dead_letter(self, share: float, *, items: int) -> None:
        raise AssertionError(share, items)


def keep(value: Any) -> Any:
    return value


def after(dispatches: int, *, each_ns: int, result: Any = 1, **stage: Any) -> tuple[StageRun, FakeRun]:
    """A stage of two workers after so many dispatches of the size it chooses; each call takes so many nanoseconds."""
    run = FakeRun()
    made = StageRun(0, Stage(keep, workers=2, **stage), run, run.in_flight, in_order=False)
    router = Router([made], lambda _: None)
    made.connect(router)
    chunk, metrics = Chunk(0, 0, 1), made.new_worker_metrics()
    at = 0
    for _ in range(dispatches):
        size = made.channel.capacity
        router.route(0, chunk, range(at, at + size), [1] * size)
        at += size
        dispatch = made.get()
        assert dispatch
        calls = sum(len(bundle.values) for bundle in dispatch)
        made.settle(dispatch, Outcome([result] * calls, nanoseconds=array("Q", [each_ns]) * calls), metrics)
        while (rest := made.channel.get(lambda _: 1 << 30, block=False)) is not None:
            calls = sum(len(bundle.values) for bundle in rest)
            made.settle(rest, Outcome([result] * calls, nanoseconds=array("Q", [each_ns]) * calls), metrics)
    return made, run


def test_fast_light_items_get_room() -> None:
    stage, run = after(12, each_ns=MICROSECOND)

    assert stage.channel.capacity > 1000
    assert run.room == 2 * stage.channel.capacity


def test_slow_items_get_none() -> None:
    stage, run = after(12, each_ns=SECOND)

    assert (stage.channel.capacity, run.room) == (8, 0)


def test_fast_functions_with_large_results_get_little() -> None:
    large = Sized(1 << 20)

    stage, run = after(12, each_ns=MICROSECOND, result=large)

    assert stage.channel.capacity <= LIGHT_BYTES >> 20
    assert run.room <= 2 * (LIGHT_BYTES >> 20)


@pytest.mark.parametrize("size", [3, 50])
def test_a_bound_that_the_author_gave_stays(size: int) -> None:
    stage, run = after(12, each_ns=MICROSECOND, queue_size=size)

    assert (stage.channel.capacity, run.room) == (size, 0)


def test_max_in_flight_that_the_author_gave_stays() -> None:
    in_flight = InFlightLimit(10, may_grow=False)

    in_flight.grow(20)

    assert in_flight.limit == 10
