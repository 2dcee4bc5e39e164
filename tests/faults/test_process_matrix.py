"""39 + 1: forty items, one bad, two worker processes. No other item suffers, and the right one is named.

Each fault alone, in order, and in the middle of three stages. No local library of the peers passes all of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from airflow_parallel_provider import Retry, Stage
from tests.faults.zoo import ALL, DEATHS, HARMLESS, RAISES, STALLS, Fault
from tests.support import saboteurs as bad
from tests.support.running import Ran, run_pipeline
from tests.support.saboteurs import BAD, EXPECTED, ITEMS, WITHOUT_BAD, AtBad, AtBadBatch

SHAPES = ["alone", "ordered", "middle", "middle ordered"]


def around(stage: Stage, shape: str) -> list[Stage]:
    """The stage under test alone, or between two others."""
    if shape.startswith("middle"):
        return [Stage(bad.same, name="before", workers=2), stage, Stage(bad.same, name="after", workers=2)]
    return [stage]


def run_matrix(stage: Stage, shape: str, source: Any = range(ITEMS), **options: Any) -> Ran:
    settings: dict[str, Any] = {"chunk_size": 16, "tolerance": ITEMS, "timeout": 40.0} | options
    return run_pipeline(source, around(stage, shape), ordered=shape.endswith("ordered"), **settings)


def assert_39_and_1(ran: Ran, shape: str, cause: tuple[str, ...]) -> None:
    """Thirty-nine results, one failure, attached to the right item, with its reason."""
    assert ran.error is None, ran.error
    assert ran.positions == [BAD]
    dead_letter = ran.dead_letters[0]
    assert dead_letter.stage == "sabotage"
    for text in cause:
        assert text in dead_letter.cause
    assert (ran.rows if shape.endswith("ordered") else sorted(ran.rows)) == WITHOUT_BAD
    assert [(each["stage"], each["count"]) for each in ran.report.failures] == [("sabotage", 1)]
    assert ran.report.failures[0]["sample"]["position"] == BAD
    assert ran.report.items_dead_lettered == 1
    assert ran.report.items_committed == ITEMS - 1
    assert ran.report.seconds < 35


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("fault", ALL, ids=lambda fault: fault.name)
def test_one_bad_item_costs_one_item(fault: Fault, shape: str) -> None:
    stage = Stage(fault.function, name="sabotage", kind="process", workers=2, timeout=fault.timeout)

    ran = run_matrix(stage, shape)

    assert_39_and_1(ran, shape, fault.cause)
    numbers = ran.report.stages[1 if shape.startswith("middle") else 0]
    assert (numbers.failed, numbers.timed_out > 0, numbers.workers_lost > 0) == (1, fault.timed_out, fault.lost)


@pytest.mark.parametrize("fault", [*DEATHS[:1], *STALLS[:1], *RAISES[:1]], ids=lambda fault: fault.name)
def test_one_bad_item_with_retries_is_tried_that_often(fault: Fault) -> None:
    """Lost and stuck calls are transient: tried again like any other, then given up."""
    retry = Retry(2, backoff=0.01)
    stage = Stage(fault.function, name="sabotage", kind="process", workers=2, timeout=fault.timeout, retry=retry)

    ran = run_matrix(stage, "alone")

    assert_39_and_1(ran, "alone", fault.cause)
    assert ran.dead_letters[0].attempts == 2
    assert ran.report.stages[0].retried == 1


@pytest.mark.parametrize("fault", [*DEATHS[:1], *STALLS[:1], *RAISES[:1]], ids=lambda fault: fault.name)
@pytest.mark.parametrize("kind", ["one", "two neighbors", "first and last"])
def test_a_batch_is_bisected_until_the_guilty_are_alone(fault: Fault, kind: str) -> None:
    guilty = {"one": (BAD,), "two neighbors": (BAD, BAD + 1), "first and last": (0, ITEMS - 1)}[kind]
    act = fault.function.act if isinstance(fault.function, AtBad) else None
    assert act is not None
    function = AtBadBatch(act, guilty)
    timeout = 0.5 if fault.timeout else None
    stage = Stage(function, name="sabotage", kind="process", workers=2, batch_size=8, timeout=timeout)

    ran = run_matrix(stage, "alone", chunk_size=ITEMS)

    assert ran.error is None
    assert ran.positions == sorted(guilty)
    assert [each.item for each in ran.dead_letters] == sorted(guilty)
    assert ran.rows == [row for row in EXPECTED if row // 10 not in guilty]
    assert ran.report.stages[0].failed == len(guilty)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("act", HARMLESS, ids=lambda act: act.__name__)
def test_a_worker_may_do_silly_things(act: Callable[[], Any], shape: str) -> None:
    """Closed streams, floods of output, children, threads: all forty items succeed, and the guards see nothing left."""
    stage = Stage(AtBad(act), name="sabotage", kind="process", workers=2)

    ran = run_matrix(stage, shape)

    assert ran.error is None
    assert (ran.rows if shape.endswith("ordered") else sorted(ran.rows)) == EXPECTED
    assert ran.dead_letters == []
    assert ran.report.seconds < 35


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    ("item", "cause"),
    [
        (bad.return_lock, ("TypeError", "lock")),
        (bad.return_bomb, ("ValueError", "cannot be put together again")),
        (bad.ExitOnLoad, ("WorkerLost", "exit code 5")),
        (bad.return_too_deep, ("recursion",)),
    ],
    ids=["unpicklable", "raises when unpickled", "ends the worker when unpickled", "too deep"],
)
def test_one_item_that_cannot_travel(item: Callable[[], Any], cause: tuple[str, ...], shape: str) -> None:
    def source() -> Iterator[Any]:
        for number in range(ITEMS):
            yield item() if number == BAD else number

    stage = Stage(bad.tenfold, name="sabotage", kind="process", workers=2)

    ran = run_matrix(stage, shape, source)

    assert_39_and_1(ran, shape, cause)


@pytest.mark.parametrize("shape", SHAPES)
def test_an_exception_group_is_one_failure(shape: str) -> None:
    stage = Stage(AtBad(raise_group), name="sabotage", kind="process", workers=2)

    ran = run_matrix(stage, shape)

    assert_39_and_1(ran, shape, ("ExceptionGroup", "several"))


def raise_group() -> None:
    raise ExceptionGroup("several", [ValueError("one"), OSError("two")])


@pytest.mark.parametrize("shape", SHAPES)
def test_every_item_is_bad(shape: str) -> None:
    """Forty deaths of workers: none is replaced in vain, the run ends, and every item is accounted for."""
    stage = Stage(kill_always, name="sabotage", kind="process", workers=2)

    ran = run_matrix(stage, shape)

    assert ran.report.items_dead_lettered + ran.report.items_unfinished == ITEMS
    assert ran.rows == []
    if ran.error is None:
        assert ran.positions == list(range(ITEMS))
        assert [each["count"] for each in ran.report.failures] == [ITEMS]


def kill_always(item: int) -> None:
    bad.kill_self()
