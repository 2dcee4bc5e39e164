"""A stage's ``budget`` and ``rate_limit`` together with a table that resumes: ordered, replaced, merged, by shards."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from airflow_parallel_provider import Pipeline, SinkTable, Stage
from airflow_parallel_provider.errors import BudgetSpent, RunFailed
from tests.support.databases import TestDatabase, on_two_backends
from tests.support.sync import at_once

pytestmark = [pytest.mark.airflow, pytest.mark.timeout(120)]

Make = Callable[..., Pipeline]


@pytest.fixture
def make(database: TestDatabase, monkeypatch: pytest.MonkeyPatch) -> Make:
    monkeypatch.setattr("airflow_parallel_provider.sql.database.get_connection", lambda *_: database.connection)

    def made(*stages: Any, source: Any = range(60), **options: Any) -> Pipeline:
        names = ("tolerance", "load_key", "generation", "family", "ordered", "attempt")
        run = {name: options.pop(name) for name in names if name in options}
        sink = SinkTable("scores", conn_id="warehouse", schema=database.schema, lock_timeout=30, **options)
        return Pipeline(source, stages, sink, **{"chunk_size": 5, "load_key": "nightly", **run})

    return made


class Paid:
    """A function that counts its calls by item, whatever thread makes them."""

    def __init__(self) -> None:
        self.calls: list[int] = []
        self._lock = threading.Lock()

    def __call__(self, number: int) -> dict[str, Any]:
        with self._lock:
            self.calls.append(number)
        return {"id": number, "value": number % 7}


def row(number: int) -> dict[str, Any]:
    return {"id": number, "value": number % 7}


async def asynchronous(number: int) -> dict[str, Any]:
    return row(number)


def ids(database: TestDatabase) -> list[int]:
    return [each for (each,) in database.rows(columns=database.quote("id"))]


def tries(run: Callable[[int], object], most: int = 12) -> int:
    """Try again until the load is complete, as Airflow's retries do; how many tries it took."""
    for number in range(1, most + 1):
        with contextlib.suppress(BudgetSpent):
            run(number)
            return number
    raise AssertionError(f"not complete after {most} tries")


@on_two_backends
def test_in_order_each_try_goes_on_where_the_one_before_ended(database: TestDatabase, make: Make) -> None:
    paid = Paid()
    seen: list[int] = []

    def run(number: int) -> None:
        before = len(paid.calls)
        stage = Stage(paid, workers=4, budget=17)
        try:
            make(stage, Stage(lambda each: each, kind="inline", name="after"), ordered=True, attempt=number).run()
        finally:
            assert len(paid.calls) - before <= 17
            seen.append(len(ids(database)))
            assert ids(database) == list(range(seen[-1])), "whole chunks from the beginning, none missing between"

    # In order no later chunk overtakes an earlier one, so the 15 items of whole chunks are in after each try.
    assert tries(run) == 4
    assert seen == [15, 30, 45, 60]


@on_two_backends
@pytest.mark.parametrize("how", ["append", "merge", "replace"])
def test_every_way_of_writing_resumes(database: TestDatabase, make: Make, how: Any) -> None:
    paid = Paid()
    more = {"primary_key": "id"} if how == "merge" else {}

    def run(number: int) -> object:
        return make(Stage(paid, workers=2, budget=25), attempt=number, write_disposition=how, **more).run()

    assert 3 <= tries(run) <= 6
    assert sorted(ids(database)) == list(range(60))


@on_two_backends
@pytest.mark.parametrize("kind", ["process", "async"])
def test_every_kind_of_stage_resumes(database: TestDatabase, make: Make, kind: Any) -> None:
    def run(number: int) -> object:
        stage = Stage(asynchronous if kind == "async" else row, kind=kind, workers=2, budget=25)
        return make(stage, attempt=number, ordered=True).run()

    assert tries(run) == 3
    assert ids(database) == list(range(60))


@on_two_backends
def test_shards_have_a_share_each_and_their_next_tries_complete_the_load(database: TestDatabase, make: Make) -> None:
    stage = Stage(Paid(), workers=2, budget=24)  # 12 for each of two shards of 30 items
    make(stage).begin()

    def shard(index: int) -> int:
        return tries(lambda number: make(stage, attempt=number).run(shard=(index, 2)))

    made: dict[int, int] = {}
    at_once(*(partial(lambda index: made.update({index: shard(index)}), index) for index in range(2)))
    report = make(stage).finish()

    assert sum(made.values()) >= 4, "a try of a shard pays for two chunks of five at most, and there are twelve"
    assert (report.rows_committed, report.state) == (60, "success")
    assert ids(database) == list(range(60))


@on_two_backends
def test_a_load_whose_shards_have_spent_their_budget_is_not_complete(database: TestDatabase, make: Make) -> None:
    stage = Stage(Paid(), workers=1, budget=24)
    make(stage, write_disposition="replace").begin()
    for index in range(2):
        with pytest.raises(BudgetSpent, match="12 of budget=12"):
            make(stage, write_disposition="replace").run(shard=(index, 2))

    with pytest.raises(RunFailed):
        make(stage, write_disposition="replace").finish()


@on_two_backends
def test_a_rate_per_minute_is_shared_by_the_shards(database: TestDatabase, make: Make) -> None:
    """Faster than the shared rate is not possible; slower is no failure."""
    stage = Stage(row, workers=2, rate_limit="3000/minute")  # 25 per second for each of two shards of 30 items
    make(stage).begin()
    took: list[float] = []

    def run(index: int) -> None:
        began = time.monotonic()
        make(stage).run(shard=(index, 2))
        took.append(time.monotonic() - began)

    at_once(*(partial(run, index) for index in range(2)))

    assert make(stage).finish().rows_committed == 60
    assert sum(took) >= (60 - 2 * 3) / 25, "each shard may begin with a few at once"
