"""``FaultPlan``: the fault strikes the item it names, wherever that item is, and nothing else changes."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from airflow_parallel_provider import ListSink, Pipeline, Retry, Stage
from airflow_parallel_provider.testing.checks import assert_conserved, assert_dead_letters
from airflow_parallel_provider.testing.clock import fast_retries
from airflow_parallel_provider.testing.fault_plan import Fail, FaultPlan, Fired, Kill, Stall
from airflow_parallel_provider.testing.inline import run_inline
from tests.testing import functions


def process(function: Any, **options: Any) -> Stage:
    return Stage(function, kind="process", workers=1, **options)


def rows_of(pipeline: Pipeline) -> list[Any]:
    assert pipeline.sink is not None
    rows: list[Any] = pipeline.sink.rows  # type: ignore[attr-defined]
    return rows


def test_a_failure_that_passes() -> None:
    plan = FaultPlan(Fail("same", at=7, times=2))
    faulty = plan.wrap(Pipeline(range(10), [Stage(functions.same, retry=Retry(3))], ListSink(), ordered=True))

    with fast_retries() as clock:
        report = faulty.run()

    assert rows_of(faulty) == list(range(10))
    assert plan.fired() == [Fired("error", "same", 7, 2)]
    assert report.stages[0].retried == 2
    assert clock.pauses == [0.5, 1.0]


def test_a_failure_that_never_passes() -> None:
    plan = FaultPlan(Fail("same", at=[2, 7], times=None, error=ConnectionError))
    faulty = plan.wrap(Pipeline(range(10), [Stage(functions.same, retry=Retry(3))], ListSink(), tolerance=2))

    with fast_retries():
        report = faulty.run()

    assert_dead_letters(faulty.sink, [2, 7], stage="same", cause="ConnectionError: injected at stage same")
    assert plan.count("error") == 6
    assert_conserved(report)


def test_an_error_of_the_tests_own() -> None:
    class Strange(Exception):
        def __init__(self, code: int, *, detail: str) -> None:
            super().__init__(f"{code} {detail}")

    plan = FaultPlan(Fail("same", at=0, error=Strange(7, detail="as made")))

    result = run_inline(plan.wrap(Pipeline([1], [Stage(functions.same)], tolerance=1)))

    assert_dead_letters(result, [0], cause="Strange: 7 as made")


def test_kill_and_stall_of_processes() -> None:
    stages = [process(functions.tenfold, timeout=3.0), process(functions.not_seven, batch_size=5, name="batches")]
    plan = FaultPlan(
        Kill("tenfold", at=3), Stall("tenfold", at=4), Kill("batches", at=8, times=None), Kill("batches", at=12)
    )
    faulty = plan.wrap(Pipeline(range(20), stages, ListSink(), ordered=True, tolerance=3))

    report = faulty.run()

    assert rows_of(faulty) == [item * 10 for item in range(20) if item not in (3, 4, 8)]
    assert_dead_letters(faulty.sink, [3, 4, 8])
    assert report.stages[0].workers_lost == plan.count("kill", "tenfold") == 1
    assert report.stages[0].timed_out == plan.count("stall") == 1
    assert report.stages[1].workers_lost == plan.count("kill", "batches") >= 3
    assert_conserved(report)
    plan.assert_fired()


@pytest.mark.parametrize("kind", ["thread", "async"])
def test_a_stall_in_the_task_process(kind: Any) -> None:
    function = functions.plus_one if kind == "async" else functions.same
    stage = Stage(function, kind=kind, workers=2, timeout=3.0, name="stage")
    plan = FaultPlan(Stall("stage", at=5))
    faulty = plan.wrap(Pipeline(range(10), [stage], ListSink(), tolerance=1))

    report = faulty.run()

    assert_dead_letters(faulty.sink, [5], cause="ItemTimeout")
    assert report.stages[0].timed_out == 1
    assert report.items_committed == 9


def test_an_item_keeps_its_position_through_every_kind_of_stage() -> None:
    stages = [
        Stage(functions.only_even),  # 6 becomes the fourth item
        Stage(functions.twice),  # and two results
        Stage(functions.twice_async, kind="async"),
        process(functions.Adder),
        Stage(functions.AsyncAdder, kind="async"),
        Stage(functions.drop_nothing_all, kind="async", batch_size=4),
        Stage(functions.same, name="last"),
    ]
    pipeline = Pipeline(range(10), stages, ListSink(), chunk_size=4, tolerance=4)
    plan = FaultPlan(Fail("last", at=6, times=None))
    faulty = plan.wrap(pipeline)

    report = faulty.run()

    assert_dead_letters(faulty.sink, [6], stage="last")
    expected = [item + extra for item in (0, 2, 4, 8) for extra in (10, 1010, 1010, 2010)]
    assert Counter(rows_of(faulty)) == Counter(expected)
    assert plan.count() == 4
    assert_conserved(report)


def test_a_result_of_several_items_meets_the_fault_of_any_of_them() -> None:
    stages = [Stage(functions.total, batch_size=4), Stage(functions.same, retry=Retry(2))]
    plan = FaultPlan(Fail("same", at=6))

    result = run_inline(plan.wrap(Pipeline(range(8), stages)))

    assert result.rows == [6, 22]
    assert plan.fired() == [Fired("error", "same", 6, 1)]
    assert result.report.items_filtered == 6


def test_a_result_of_results_of_several_items_does_too() -> None:
    stages = [Stage(functions.total, batch_size=4), Stage(functions.total, batch_size=2, name="again")]
    plan = FaultPlan(Fail("last", at=6, times=None))
    pipeline = Pipeline(range(16), [*stages, Stage(functions.same, name="last")], tolerance=16)

    result = run_inline(plan.wrap(pipeline))

    assert result.rows == [92]
    assert len(plan.fired()) == 1


def test_a_table_stays_a_table() -> None:
    stages = [Stage(functions.as_table, batch_size=4), Stage(functions.table_sum)]
    pipeline = Pipeline(range(8), stages, tolerance=4)
    plan = FaultPlan(Fail("table_sum", at=6, times=None))

    assert run_inline(pipeline).report.items_committed == 8
    result = run_inline(plan.wrap(pipeline))

    assert result.rows == [6]
    assert (result.report.items_committed, result.report.items_dead_lettered) == (4, 4)


def test_a_table_reaches_the_sink_bare() -> None:
    result = run_inline(FaultPlan().wrap(Pipeline(range(4), [Stage(functions.as_table, batch_size=4)])))

    assert [type(row) for row in result.rows] == [functions.Table]


@pytest.mark.parametrize("returned", [None, "text", {"a": 1}, 7])
def test_what_no_batch_may_return_is_still_refused(returned: Any) -> None:
    from airflow_parallel_provider.errors import WrongReturn

    pipeline = Pipeline(range(4), [Stage(lambda _: returned, batch_size=4)])

    with pytest.raises(WrongReturn):
        run_inline(FaultPlan().wrap(pipeline))


def test_nobody_sees_the_tags() -> None:
    def fail(item: int) -> int:
        raise ValueError(f"got {item!r}")

    stage = Stage(fail, name="fail")
    result = run_inline(FaultPlan().wrap(Pipeline(["a"], [stage], tolerance=1)))

    assert result.dead_letters[0].item == "a"
    assert result.report.failures[0]["sample"]["item"] == "'a'"
    assert "ValueError: got 'a'" in result.dead_letters[0].cause


def test_setup_and_teardown_still_work() -> None:
    calls = []

    def setup() -> str:
        calls.append("setup")
        return "resource"

    def use(item: int, resource: str) -> str:
        return f"{resource} {item}"

    stage = Stage(use, setup=setup, teardown=lambda _: calls.append("teardown"), workers=1)
    faulty = FaultPlan().wrap(Pipeline([1], [stage], ListSink()))
    faulty.run()

    assert rows_of(faulty) == ["resource 1"]
    assert calls == ["setup", "teardown"]
