"""What a bad item may do in a thread, on an event loop or inline: the same rules as in a process."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from airflow_parallel_provider import Retry, Stage
from airflow_parallel_provider.errors import ToleranceExceeded, WorkersExhausted
from tests.faults.zoo import RAISES, Fault
from tests.support import saboteurs as bad
from tests.support.running import Ran, run_pipeline
from tests.support.saboteurs import BAD, EXPECTED, ITEMS, WITHOUT_BAD, AtBad
from tests.support.sync import Gate


def stage_of(kind: str, act: Callable[[], Any], **options: Any) -> Stage:
    """A stage of any kind in which the bad item meets ``act``."""
    function: Any = AtBad(act)
    if kind == "async":

        async def function(item: int) -> Any:
            await asyncio.sleep(0)
            return act() if item == BAD else bad.tenfold(item)

    return Stage(function, name="sabotage", kind=kind, **options)  # type: ignore[arg-type]


def assert_39_and_1(ran: Ran, *cause: str) -> None:
    assert ran.error is None, ran.error
    assert ran.positions == [BAD]
    assert ran.dead_letters[0].stage == "sabotage"
    for text in cause:
        assert text in ran.dead_letters[0].cause
    assert ran.rows == WITHOUT_BAD


@pytest.mark.parametrize("kind", ["thread", "async", "inline"])
@pytest.mark.parametrize("fault", RAISES, ids=lambda fault: fault.name)
def test_whatever_is_raised_fails_the_item_only(fault: Fault, kind: str) -> None:
    assert isinstance(fault.function, AtBad)

    ran = run_pipeline(range(ITEMS), [stage_of(kind, fault.function.act)], tolerance=1, ordered=True)

    # A coroutine cannot raise StopIteration: Python makes a RuntimeError of it.
    cause = ("RuntimeError",) if (kind, fault.name) == ("async", "raise_stop_iteration") else fault.cause
    assert_39_and_1(ran, *cause)


@pytest.mark.parametrize("kind", ["thread", "async", "inline", "process"])
def test_zero_tolerance_ends_the_run_at_the_first_failure(kind: str) -> None:
    options = {} if kind in ("inline", "async") else {"workers": 1}

    ran = run_pipeline(range(ITEMS), [stage_of(kind, bad.raise_value, **options)], chunk_size=4)

    assert isinstance(ran.error, ToleranceExceeded)
    assert "seven is bad" in str(ran.error)
    assert ran.report.state == "failed"
    assert set(ran.rows).isdisjoint({40, 50, 60}), "the chunk of the bad item must never be committed"
    assert ran.report.failures[0]["sample"]["position"] == BAD


@pytest.mark.parametrize("kind", ["thread", "async", "inline", "process"])
def test_a_transient_failure_is_retried(kind: str, tmp_path: Any) -> None:
    act = FailFirst(str(tmp_path / "tried"))
    retry = Retry(2, backoff=0.001)

    ran = run_pipeline(range(ITEMS), [stage_of(kind, act, retry=retry)], ordered=True)

    assert ran.rows == EXPECTED
    assert ran.report.stages[0].retried == 1
    assert ran.report.failures == []


class FailFirst:
    """Raises in the first call of all processes, succeeds afterwards."""

    def __init__(self, path: str) -> None:
        from tests.support.sync import Once

        self.first = Once(path)

    def __call__(self) -> int:
        if self.first():
            raise ConnectionError("try again")
        return BAD * 10


def test_a_thread_that_never_returns_is_given_up_and_replaced() -> None:
    gate = Gate()
    stage = stage_of("thread", gate.pass_through, workers=1, timeout=0.3)
    try:
        ran = run_pipeline(range(ITEMS), [stage], tolerance=1, ordered=True, chunk_size=8)
    finally:
        gate.open()

    assert_39_and_1(ran, "ItemTimeout")
    assert ran.report.stages[0].timed_out == 1


def test_a_late_answer_of_an_abandoned_thread_counts_for_nothing() -> None:
    """The call returns after it was given up: its result must not turn up as a second fate of the item."""
    gate = Gate()
    abandoned: list[threading.Thread] = []

    def sabotage(item: int) -> int:
        if item == BAD:
            abandoned.append(threading.current_thread())
            gate.pass_through()
        if item == BAD + 1:  # on the thread that took its place: the late answer comes while the run goes on
            gate.open()
            abandoned[0].join(5.0)
        return item * 10

    stage = Stage(sabotage, name="sabotage", workers=1, timeout=1.0)
    try:
        ran = run_pipeline(range(ITEMS), [stage], tolerance=1, ordered=True, chunk_size=ITEMS)
    finally:
        gate.open()

    assert_39_and_1(ran, "ItemTimeout")
    assert not abandoned[0].is_alive()


def test_all_threads_stuck_for_ever_fail_the_run_in_the_end() -> None:
    """Replacing has a limit: a stage that loses every thread it starts does not eat threads without end."""
    gate = Gate()
    stage = Stage(lambda item: gate.pass_through(), name="stuck", workers=2, timeout=0.05)
    try:
        ran = run_pipeline(range(400), [stage], tolerance=1.0, timeout=20.0)
    finally:
        gate.open()

    assert isinstance(ran.error, WorkersExhausted)
    assert "stuck" in str(ran.error)
    assert ran.report.stages[0].timed_out < 400


def test_a_coroutine_that_never_ends_is_cancelled() -> None:
    ended = []

    async def sabotage(item: int) -> int:
        if item == BAD:
            try:
                await asyncio.sleep(3600)
            finally:
                ended.append(item)
        return item * 10

    stage = Stage(sabotage, name="sabotage", kind="async", timeout=0.3)

    ran = run_pipeline(range(ITEMS), [stage], tolerance=1, ordered=True)

    assert_39_and_1(ran, "ItemTimeout")
    assert ended == [BAD]
    assert ran.report.stages[0].timed_out == 1


def test_a_coroutine_that_swallows_its_cancellation_cannot_hold_the_run() -> None:
    async def sabotage(item: int) -> int:
        deadline = asyncio.get_running_loop().time() + 8
        while item == BAD and asyncio.get_running_loop().time() < deadline:
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                await asyncio.sleep(0.05)
        return item * 10

    stage = Stage(sabotage, name="sabotage", kind="async", timeout=0.3)

    ran = run_pipeline(range(ITEMS), [stage], tolerance=1, ordered=True)

    assert_39_and_1(ran, "ItemTimeout")
    assert ran.report.seconds < 7


def test_a_coroutine_that_never_yields_cannot_hold_the_run() -> None:
    """It blocks its whole event loop, so its neighbors on that loop need another one."""
    gate = Gate()

    async def sabotage(item: int) -> int:
        await asyncio.sleep(0)
        if item == BAD:
            gate.pass_through()
        return item * 10

    stage = Stage(sabotage, name="sabotage", kind="async", workers=10, timeout=0.5)
    try:
        ran = run_pipeline(range(ITEMS), [stage], tolerance=1, ordered=True)
    finally:
        gate.open()

    assert_39_and_1(ran, "ItemTimeout")


def test_an_async_generator_may_fail_half_way() -> None:
    """Its first results do not count: an item has either results or a failure."""

    async def sabotage(item: int) -> AsyncIterator[int]:
        yield item * 10
        if item == BAD:
            raise ValueError("half way")

    ran = run_pipeline(range(ITEMS), [Stage(sabotage, name="sabotage", kind="async")], tolerance=1, ordered=True)

    assert_39_and_1(ran, "ValueError", "half way")


@pytest.mark.parametrize("kind", ["thread", "inline", "process"])
def test_a_generator_may_fail_half_way(kind: Any) -> None:
    ran = run_pipeline(range(ITEMS), [Stage(half_way, name="sabotage", kind=kind)], tolerance=1, ordered=True)

    assert_39_and_1(ran, "ValueError", "half way")


def half_way(item: int) -> Iterator[int]:
    yield item * 10
    if item == BAD:
        raise ValueError("half way")


@pytest.mark.parametrize("kind", ["thread", "process"])
def test_ten_thousand_failures_of_three_causes_read_as_three_lines(kind: Any) -> None:
    ran = run_pipeline(range(10_000), [Stage(fail_in_three_ways, name="sabotage", kind=kind)], tolerance=1.0)

    counts = [each["count"] for each in ran.report.failures]
    assert counts == [3334, 3333, 3333]
    assert ran.report.items_dead_lettered == 10_000
    assert str(ran.report).count("sabotage:") == 3


def fail_in_three_ways(item: int) -> None:
    if item % 3 == 0:
        raise ValueError(f"no number {item}")
    if item % 3 == 1:
        raise KeyError(item)
    raise RuntimeError(f"no such thing {item}")
