"""``FaultPlan`` in use: seeds, limits, several tries, streams, what is refused."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest

from airflow_parallel_provider import ListSink, Pipeline, PlanError, Retry, Stage
from airflow_parallel_provider.testing.checks import assert_dead_letters
from airflow_parallel_provider.testing.fault_plan import Fail, FaultPlan, Kill, Stall
from airflow_parallel_provider.testing.fault_site import InjectedFault
from airflow_parallel_provider.testing.inline import run_inline
from tests.testing import functions


def process(function: Any, **options: Any) -> Stage:
    return Stage(function, kind="process", workers=1, **options)


def rows_of(pipeline: Pipeline) -> list[Any]:
    assert pipeline.sink is not None
    rows: list[Any] = pipeline.sink.rows  # type: ignore[attr-defined]
    return rows


def test_the_seed_chooses_the_same_items_everywhere() -> None:
    pipeline = Pipeline(range(400), [process(functions.same)], ListSink(), tolerance=1.0)

    def struck(seed: int, *, inline: bool) -> list[int]:
        plan = FaultPlan(Fail("same", rate=0.1), seed=seed)
        faulty = plan.wrap(pipeline)
        if inline:
            run_inline(faulty)
        else:
            faulty.run()
        return [each.position for each in plan.fired()]

    first = struck(1, inline=True)
    assert 20 <= len(first) <= 70
    assert struck(1, inline=False) == first
    assert struck(2, inline=True) != first


def test_a_limit_holds_between_workers() -> None:
    stage = Stage(functions.same, kind="process", workers=2)
    plan = FaultPlan(Fail("same", rate=0.5, limit=5))

    report = plan.wrap(Pipeline(range(200), [stage], ListSink(), tolerance=200)).run()

    assert plan.count() == 5 == report.items_dead_lettered


def test_a_call_that_is_let_pass_does_not_use_up_the_limit() -> None:
    plan = FaultPlan(Fail("same", at=[0, 1], limit=2))

    run_inline(plan.wrap(Pipeline([0, 1], [Stage(functions.same, retry=Retry(3))])))

    assert [each.position for each in plan.fired()] == [0, 1]


def test_a_second_try_does_not_meet_the_same_fault_until_reset() -> None:
    pipeline = Pipeline(range(3), [Stage(functions.same)], tolerance=3)
    plan = FaultPlan(Fail("same", at=1))

    first = run_inline(plan.wrap(pipeline))
    second = run_inline(plan.wrap(pipeline))
    plan.reset()
    third = run_inline(plan.wrap(pipeline))

    assert [len(each.dead_letters) for each in (first, second, third)] == [1, 0, 1]


def test_inline_a_kill_and_a_stall_are_reported_not_done() -> None:
    plan = FaultPlan(Kill("same", at=1), Stall("same", at=2))
    pipeline = plan.wrap(Pipeline(range(4), [process(functions.same, timeout=60)], tolerance=2))

    result = run_inline(pipeline)

    assert result.rows == [0, 3]
    assert [each.cause.split(":")[0] for each in result.dead_letters] == ["WorkerLost", "ItemTimeout"]


def test_items_given_to_run_inline_meet_the_faults_too() -> None:
    plan = FaultPlan(Fail("same", at=1))

    result = run_inline(plan.wrap(Pipeline(range(4), [Stage(functions.same)], tolerance=1)), items=list("ab"))

    assert result.rows == ["a"]


def test_stream_gives_bare_rows() -> None:
    plan = FaultPlan(Fail("same", at=1))
    rows = plan.wrap(Pipeline(range(4), [Stage(functions.same)], tolerance=1, ordered=True)).stream()

    assert list(rows) == [0, 2, 3]


def test_a_stream_can_be_given_up() -> None:
    rows = FaultPlan().wrap(Pipeline(range(1000), [Stage(functions.same)], chunk_size=1, ordered=True)).stream()

    assert next(rows) == 0
    rows.close()


def test_functions_of_a_file_that_no_worker_can_import(tmp_path: Path) -> None:
    path = tmp_path / "dag_file.py"
    path.write_text("OFFSET = 3\n\ndef shift(item):\n    return item + OFFSET\n")
    name = "unusual_prefix_of_a_test_dag_file"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
        plan = FaultPlan(Kill("shift", at=2))
        faulty = plan.wrap(Pipeline(range(5), [process(module.shift)], ListSink(), ordered=True, tolerance=1))
        faulty.run()
    finally:
        del sys.modules[name]

    assert rows_of(faulty) == [3, 4, 6, 7]


def test_the_pipeline_itself_is_not_touched() -> None:
    pipeline = Pipeline(range(3), [Stage(functions.same)], ListSink())
    plan = FaultPlan(Fail("same", at=0, times=None))
    plan.wrap(pipeline)

    pipeline.run()

    assert rows_of(pipeline) == [0, 1, 2]
    assert plan.fired() == []


def test_faults_that_never_struck_are_named() -> None:
    plan = FaultPlan(Fail("same", at=0), Fail("same", at=[1, 99]), Fail("same", rate=1e-9))
    run_inline(plan.wrap(Pipeline(range(3), [Stage(functions.same)], tolerance=3)))

    with pytest.raises(AssertionError, match="did not strike") as caught:
        plan.assert_fired()

    assert len(str(caught.value).splitlines()) == 3


def test_closing_removes_what_was_noted() -> None:
    with FaultPlan(Fail("same", at=0)) as plan:
        directory = Path(plan._directory)
        assert directory.is_dir()

    assert not directory.exists()


def test_a_plan_lives_as_long_as_its_pipeline() -> None:
    faulty = FaultPlan(Fail("same", at=1)).wrap(Pipeline(range(3), [Stage(functions.same)], tolerance=1))

    assert_dead_letters(run_inline(faulty), [1], cause=InjectedFault.__name__)


@pytest.mark.parametrize(
    ("fault", "field"),
    [
        (lambda: Fail("a"), "Fail.at"),
        (lambda: Fail("a", at=1, rate=0.1), "Fail.at"),
        (lambda: Fail("a", at=-1), "Fail.at"),
        (lambda: Fail("a", at=[]), "Fail.at"),
        (lambda: Kill("a", rate=1.5), "Kill.rate"),
        (lambda: Stall("a", at=1, times=0), "Stall.times"),
        (lambda: Stall("a", at=1, limit=True), "Stall.limit"),
        (lambda: FaultPlan("a"), "FaultPlan.faults[0]"),  # type: ignore[arg-type]
        (lambda: FaultPlan(Fail("nowhere", at=1)).wrap(Pipeline([1], [Stage(functions.same)])), "Fail.stage"),
        (lambda: FaultPlan(Kill("same", at=1)).wrap(Pipeline([1], [Stage(functions.same)])), "Kill.stage"),
        (lambda: FaultPlan(Stall("same", at=1)).wrap(Pipeline([1], [Stage(functions.same)])), "Stall.stage"),
    ],
)
def test_a_plan_that_cannot_work_is_refused(fault: Any, field: str) -> None:
    with pytest.raises(PlanError) as caught:
        fault()

    assert caught.value.field == field
