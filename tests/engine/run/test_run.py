"""How chunks, batches and channels play together: each test is a mechanism that once hung or lost something."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from airflow_parallel_provider import DROP, Stage, StopToken
from airflow_parallel_provider.engine.interfaces.failed_part import FailedPart
from tests.support import saboteurs as bad
from tests.support.running import RecordingSink, run_pipeline
from tests.support.sync import WAIT_SECONDS, Gate


def each(items: list[int]) -> list[int]:
    return list(items)


@pytest.mark.parametrize(("batch_size", "queue_size"), [(1, 1), (1, 7), (3, 3), (3, 4)])
def test_a_chunk_larger_than_the_next_channel_is_handed_on_whole(batch_size: int, queue_size: int) -> None:
    """The next stage must not be closed before its last batches are in: they go in piece by piece while it works."""
    stages = [Stage(bad.same, workers=1), Stage(each, batch_size=batch_size, queue_size=queue_size)]

    ran = run_pipeline(range(20), stages, ordered=True, chunk_size=20, timeout=30.0)

    assert ran.error is None
    assert ran.rows == list(range(20))


@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize("kind", ["thread", "inline", "process"])
def test_the_last_batch_need_not_be_full(kind: Any, ordered: bool) -> None:
    """Again and again, because what is tested is a race between the last batch and the close of its channel."""
    for _ in range(3 if kind == "process" else 30):
        stages = [Stage(bad.same, workers=3), Stage(each, kind=kind, batch_size=7)]

        ran = run_pipeline(range(24), stages, ordered=ordered, chunk_size=8, timeout=30.0)

        assert ran.error is None
        assert sorted(ran.rows) == list(range(24))


def test_batches_are_as_full_as_can_be_and_never_mix_chunks() -> None:
    sizes: list[list[int]] = []

    def record(items: list[int]) -> list[int]:
        sizes.append(items)
        return items

    run_pipeline(range(25), [Stage(record, batch_size=4, workers=1)], chunk_size=10, ordered=True)

    assert sizes == [
        [0, 1, 2, 3],
        [4, 5, 6, 7],
        [8, 9],
        [10, 11, 12, 13],
        [14, 15, 16, 17],
        [18, 19],
        [*range(20, 24)],
        [24],
    ]


def test_order_holds_although_later_items_are_done_first() -> None:
    """Item 0 is the last one to be done: everything behind it must wait for it, in every later stage, too."""
    gate = Gate()

    def overtaken(item: int) -> int:
        if item == 0:
            gate.pass_through()
        if item == 30:
            gate.open()
        return item

    stages = [Stage(overtaken, workers=4), Stage(lambda items: [item for item in items if item % 2], batch_size=5)]
    ran = run_pipeline(range(40), stages, ordered=True, chunk_size=40)

    assert ran.rows == list(range(1, 40, 2))


@pytest.mark.parametrize("shape", ["one to one", "fewer", "more", "tables"])
def test_every_result_of_a_batch_has_an_owner(shape: str) -> None:
    functions: dict[str, Any] = {
        "one to one": each,
        "fewer": lambda items: items[:1],
        "more": lambda items: [item for item in items for _ in range(3)],
        "tables": lambda items: [tuple(items)],
    }
    sink = RecordingSink()

    ran = run_pipeline(range(12), [Stage(functions[shape], batch_size=4, workers=1)], sink, chunk_size=6)

    committed = {"one to one": 12, "more": 12, "fewer": 4, "tables": 4}[shape]
    assert ran.report.items_committed == committed
    assert ran.report.items_filtered == 12 - committed
    assert [chunk.items_filtered for chunk in sink.chunks] == [(12 - committed) // 2] * 2


def test_an_item_with_rows_and_a_failure_is_dead_lettered_once() -> None:
    """One of its three parts fails: the item counts as given up, its other rows are kept."""

    def three(item: int) -> Any:
        yield from ((item, part) for part in range(3))

    def fail(part: tuple[int, int]) -> tuple[int, int]:
        if part in {(2, 0), (2, 2)}:
            raise ValueError(str(part))
        return part

    ran = run_pipeline(range(5), [Stage(three), Stage(fail)], ordered=True, tolerance=2)

    assert ran.error is None
    assert (ran.report.items_dead_lettered, ran.report.items_committed) == (1, 4)
    assert [each.position for each in ran.dead_letters] == [2, 2]
    assert [each.item for each in ran.dead_letters] == [(2, 0), (2, 2)]
    assert (2, 1) in ran.rows
    assert ran.report.rows_committed == 13


@pytest.mark.parametrize(("tolerance", "passes"), [(2, True), (1, False), (0.14, True), (0.13, False)])
@pytest.mark.parametrize("kind", ["thread", "process"])
def test_a_failed_part_is_one_failure_and_as_much_of_its_item_as_it_is(
    kind: str, tolerance: float, passes: bool
) -> None:
    """Two of the fifteen parts of five items fail, at the stage that makes them or at the next one."""
    for stages in ([Stage(three_parts, kind=kind)], [Stage(three_whole_parts), Stage(whole, kind=kind)]):
        ran = run_pipeline(range(5), stages, ordered=True, tolerance=tolerance)

        assert (ran.error is None) is passes
        if passes:
            assert [(letter.position, letter.item) for letter in ran.dead_letters] == [(2, (2, 0)), (2, (2, 2))]
            assert ran.rows == [(item, part) for item in range(5) for part in range(3) if (item, part) not in BAD]
            assert (ran.report.items_dead_lettered, ran.report.items_committed) == (1, 4)


BAD = {(2, 0), (2, 2)}


def three_parts(item: int) -> Any:
    for part in range(3):
        yield FailedPart((item, part), "ValueError", "bad") if (item, part) in BAD else (item, part)


def three_whole_parts(item: int) -> Any:
    yield from ((item, part) for part in range(3))


def whole(part: tuple[int, int]) -> Any:
    if part in BAD:
        raise ValueError("bad")
    return part


def test_an_item_of_which_all_parts_failed() -> None:
    async def fail(item: int) -> Any:
        yield DROP
        yield FailedPart(item, "ValueError", "bad")

    ran = run_pipeline(range(3), [Stage(fail, kind="async")], tolerance=1.0)

    assert ran.error is None
    assert sorted(letter.item for letter in ran.dead_letters) == [0, 1, 2]
    assert (ran.report.items_dead_lettered, ran.rows) == (3, [])


def test_a_drop_in_a_batch_keeps_the_places_of_the_others() -> None:
    def odd(items: list[int]) -> list[Any]:
        return [item if item % 2 else DROP for item in items]

    def fail_five(item: int) -> int:
        if item == 5:
            raise ValueError
        return item

    ran = run_pipeline(range(10), [Stage(odd, batch_size=10), Stage(fail_five)], tolerance=1, ordered=True)

    assert ran.rows == [1, 3, 7, 9]
    assert ran.positions == [5]
    assert ran.report.items_filtered == 5


def test_a_thread_that_was_given_up_makes_no_further_calls() -> None:
    """The rest of its dispatch went to others: when it returns, it must not make those calls a second time."""
    calls: list[int] = []
    left: list[threading.Thread] = []
    gate = Gate()

    def call(item: int) -> int:
        calls.append(item)
        if item == 400:
            left.append(threading.current_thread())
            gate.pass_through()
        if item == 999:
            gate.open()
            left[0].join(WAIT_SECONDS)
        return item

    try:
        ran = run_pipeline(range(1000), [Stage(call, workers=1, timeout=3.0)], tolerance=1, timeout=150.0)
    finally:
        gate.open()

    assert ran.positions == [400]
    assert sorted(calls) == list(range(1000))


@pytest.mark.parametrize("kind", ["thread", "inline"])
def test_a_thread_left_behind_by_a_stop_makes_no_further_calls(kind: Any) -> None:
    """The task is over: a call that was under way may end, but no new one may begin."""
    calls: list[int] = []
    left: list[threading.Thread] = []
    gate, token = Gate(), StopToken()

    def call(item: int) -> int:
        calls.append(item)
        if item == 400:
            left.append(threading.current_thread())
            token.stop("enough")
            gate.pass_through()
        return item

    options = {} if kind == "inline" else {"workers": 1}
    try:
        run_pipeline(range(1000), [Stage(call, kind=kind, **options)], stop=token)  # type: ignore[arg-type]
    finally:
        gate.open()
    left[0].join(WAIT_SECONDS)

    assert not left[0].is_alive()
    assert calls == list(range(401))
