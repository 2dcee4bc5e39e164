"""sub_map: results in order, lazy, bounded, errors with their number, nothing left running."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from airflow_parallel_provider.engine.subtasks import sub_map
from airflow_parallel_provider.errors import PlanError
from tests.support.sync import Gate, Sequencer


def test_results_come_in_the_order_of_the_items_whatever_is_done_first() -> None:
    sequencer = Sequencer()

    def backwards(number: int) -> int:
        with sequencer(3 - number):
            return number * 10

    assert list(sub_map(backwards, range(4), workers=4)) == [0, 10, 20, 30]


def test_sub_tasks_run_at_the_same_time() -> None:
    together = threading.Barrier(3, timeout=20)

    assert list(sub_map(lambda _: together.wait() >= 0, range(3), workers=3)) == [True] * 3


def test_never_more_than_so_many_at_a_time() -> None:
    running, most, lock = 0, 0, threading.Lock()

    def count(_: int) -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        with lock:
            running -= 1

    list(sub_map(count, range(200), workers=2))

    assert 1 <= most <= 2


def test_nothing_happens_before_the_first_result_is_asked_for() -> None:
    called: list[int] = []

    results = sub_map(called.append, [1, 2, 3])

    assert called == []
    next(results)
    assert 1 in called
    results.close()  # type: ignore[attr-defined]  # a generator


def test_a_long_list_of_items_is_read_only_as_far_as_needed() -> None:
    given: list[int] = []

    def endless() -> Iterator[int]:
        while True:
            given.append(len(given))
            yield given[-1]

    results = sub_map(lambda number: number, endless(), workers=3)

    assert [next(results) for _ in range(5)] == [0, 1, 2, 3, 4]
    assert len(given) <= 5 + 2 * 3
    results.close()  # type: ignore[attr-defined]


def test_no_items_no_results() -> None:
    assert list(sub_map(len, [])) == []


def test_the_first_error_says_which_sub_task_it_was_and_what_has_not_begun_never_does() -> None:
    gate, begun = Gate(), []

    def look_up(number: int) -> int:
        begun.append(number)
        if number == 2:
            raise LookupError("no such article")
        if number > 2:
            gate.pass_through()
        return number

    results = sub_map(look_up, range(100), workers=2)
    assert [next(results), next(results)] == [0, 1]
    opener = threading.Timer(0.0, gate.open)  # the call that waits at the gate is let go while the error travels
    opener.start()
    with pytest.raises(LookupError) as caught:
        next(results)
    opener.join()

    assert caught.value.__notes__ == ["in sub-task 2"]
    assert max(begun) <= 2 + 2 * 2, "what was under way at most"
    assert list(results) == []


def test_giving_up_early_ends_the_threads() -> None:
    before = set(threading.enumerate())
    results = sub_map(lambda number: number, range(1000), workers=4)

    next(results)
    results.close()  # type: ignore[attr-defined]

    assert set(threading.enumerate()) <= before


def test_an_error_of_the_items_themselves_passes_through() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise OSError("no more pages")

    with pytest.raises(OSError, match="no more pages"):
        list(sub_map(lambda number: number, items()))


def test_context_variables_are_those_of_the_caller() -> None:
    """Airflow's log fields and the current span live there."""
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("units", default="unset")
    token = variable.set("of the task")
    try:
        assert set(sub_map(lambda _: variable.get(), range(10), workers=3)) == {"of the task"}
    finally:
        variable.reset(token)


def test_a_wrong_number_of_workers_is_refused_at_once() -> None:
    wrong: list[Any] = [0, -1, 1.5, True, "4", None]
    for workers in wrong:
        with pytest.raises(PlanError, match=r"sub_map\(workers\)"):
            sub_map(len, [], workers=workers)
