"""Taking calls back from a busy worker: whatever interleaving, no call is lost and none is counted twice.

The worker's real code and the task process's real code run as two coroutines over one page; every access to the page is
a place where the other side may come in between.
"""

from __future__ import annotations

import itertools
import mmap
from array import array
from collections import Counter, deque
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from greenlet import getcurrent, greenlet

from airflow_parallel_provider.engine.dataflow.bundle import Bundle
from airflow_parallel_provider.engine.dataflow.channel import Dispatch
from airflow_parallel_provider.engine.functions.outcome import Outcome
from airflow_parallel_provider.engine.functions.status_page import (
    CALL,
    LIMIT,
    MESSAGE,
    PAGE_WORDS,
    RECLAIMED,
    RUNNING,
    STATE,
)
from airflow_parallel_provider.engine.ipc import wire
from airflow_parallel_provider.engine.plan.retry import Retry
from airflow_parallel_provider.engine.processes.worker_main import WorkerMain
from airflow_parallel_provider.engine.workers.message import Message, single_calls
from airflow_parallel_provider.engine.workers.process import ProcessWorker, _decode
from airflow_parallel_provider.engine.workers.work_stealing import reclaim_calls, reconcile, worth_it
from tests.support.fakes import batches, calls

SHARED = (MESSAGE, CALL, STATE, LIMIT, RECLAIMED)


class Page(list[int]):
    """The shared page. Each side gives way before it touches a word that the other side touches too."""

    def __init__(self) -> None:
        super().__init__([0] * PAGE_WORDS)

    def __getitem__(self, index: Any) -> Any:
        self._give_way(index)
        return super().__getitem__(index)

    def __setitem__(self, index: Any, value: Any) -> None:
        self._give_way(index)
        super().__setitem__(index, value)

    @staticmethod
    def _give_way(index: int) -> None:
        current = getcurrent()
        if index in SHARED and current.parent is not None:
            current.parent.switch()


class TwoSides:
    """A worker with some messages, and the task process that takes back what it has not begun."""

    def __init__(self, dispatches: list[Dispatch], *, batched: bool) -> None:
        self.page = Page()
        self.made: list[Any] = []
        self.put_back: list[Any] = []
        self.stage: Any = SimpleNamespace(
            stage=SimpleNamespace(batched=batched), put_back=lambda bundle: self.put_back.extend(bundle.values)
        )
        counts = [len(flat(dispatch)) for dispatch in dispatches]
        self.flight = deque(
            Message(at, dispatch, n, n) for at, (dispatch, n) in enumerate(zip(dispatches, counts, strict=True), 1)
        )
        self.answers: list[tuple[int, Outcome]] = []
        self.worker = greenlet(self._work)
        link: Any = SimpleNamespace(page=self.page)
        self.reclaimer = greenlet(lambda: reclaim_calls(self.stage, link, self.flight))

    def _work(self) -> None:
        batched = self.stage.stage.batched
        code: Any = SimpleNamespace(
            receives_serialized=False, returns_serialized=False, batched=batched, retry=Retry(1)
        )
        # One page of memory each: nothing here is large enough for an arena.
        arenas = mmap.mmap(-1, 4096), mmap.mmap(-1, 4096)
        worker = WorkerMain(lambda: code, None, self.page, *arenas)  # type: ignore[arg-type]
        worker.function = code
        worker.send = self._answer  # type: ignore[method-assign]
        for message in list(self.flight):
            values = flat(message.dispatch)
            frame: Any = SimpleNamespace(sequence=message.sequence, load=lambda values=values: values)
            worker._serve(frame, self._call)
            self.page[STATE] = 0

    def _call(self, value: Any) -> Any:
        self.made.append(value)
        return value

    def _answer(self, kind: int, sequence: int, payload: Any, buffers: Any = ()) -> None:
        assert kind == wire.DONE
        self.answers.append((sequence, _decode(wire.Frame(kind, sequence, payload, list(buffers)))))

    def counted(self) -> list[Any]:
        """What counts of the answers, in the end."""
        values: list[Any] = []
        for (sequence, answer), message in zip(self.answers, self.flight, strict=True):
            assert sequence == message.sequence
            dispatch, outcome = reconcile(self.stage, message, answer)
            assert len(flat(dispatch)) == len(outcome.nanoseconds)
            results = outcome.results
            values += results if not self.stage.stage.batched else [[result] for result in results]
        return values

    def play(self, plan: tuple[int, ...]) -> tuple[int, ...]:
        """Let the worker make ``plan[i]`` steps before the i-th step of the reclaiming; return the plan as played.

        What comes after the plan's end: the reclaiming goes on at once, then the worker.
        """
        played = []
        for at in range(100):
            steps = plan[at] if at < len(plan) else 0
            for step in range(steps):
                if self.worker.dead:
                    steps = step
                    break
                self.worker.switch()
            played.append(steps)
            if self.reclaimer.dead:
                break
            self.reclaimer.switch()
        while not self.worker.dead:
            self.worker.switch()
        return tuple(played)


def flat(dispatch: Dispatch) -> list[Any]:
    return [value for bundle in dispatch for value in bundle.values]


def dispatches(*, batched: bool) -> list[Dispatch]:
    """A message of three calls in two bundles, and one of two."""
    if batched:
        return [[batches(["a"], ["b"]), batches(["c"])], [batches(["d"], ["e"])]]
    return [[calls("a", "b"), calls("c")], [calls("d", "e")]]


def interleavings(most_breaks: int) -> Iterator[tuple[int, ...]]:
    """Plans with the worker coming in at so many places of the reclaiming at most, for any number of steps."""
    reads = 8  # of the reclaiming, its very beginning included
    length = 40  # more than all steps of the worker

    def extend(plan: tuple[int, ...], left: int) -> Iterator[tuple[int, ...]]:
        yield plan
        if left:
            for gap in range(len(plan), reads):
                for steps in range(1, length - sum(plan)):
                    yield from extend((*plan, *[0] * (gap - len(plan)), steps), left - 1)

    for before in range(length):
        yield from extend((before,), most_breaks)


@pytest.mark.parametrize("batched", [False, True])
def test_no_call_is_lost_and_none_counted_twice(batched: bool) -> None:
    """Every place where the reclaiming may begin, with the worker coming in between at any one place, for any number of
    steps."""
    seen: set[tuple[int, ...]] = set()
    endings: Counter[int] = Counter()
    for plan in itertools.islice(interleavings(1), 0, None, 5 if batched else 1):
        sides = TwoSides(dispatches(batched=batched), batched=batched)
        played = sides.play(plan)
        if played in seen:
            continue
        seen.add(played)

        fates = sorted(flat_values(sides.counted() + sides.put_back))

        assert fates == ["a", "b", "c", "d", "e"], played
        endings[len(sides.put_back)] += 1

    assert len(seen) > 200
    assert set(endings) == {0, 1, 2, 3, 4, 5}, "from nothing taken back to everything"


def test_the_worker_coming_in_at_two_places_changes_nothing() -> None:
    """While it is in its first message, which is when calls are taken back."""
    seen = set()
    for before in range(5, 12):
        for first in range(1, 6):
            for gap in range(5):
                for second in range(1, 5):
                    plan = (before, *[0] * gap, first, 0, second)
                    sides = TwoSides(dispatches(batched=False), batched=False)
                    played = sides.play(plan)
                    if played not in seen:
                        seen.add(played)
                        assert sorted(flat_values(sides.counted() + sides.put_back)) == ["a", "b", "c", "d", "e"], plan

    assert len(seen) > 200


def flat_values(values: list[Any]) -> list[Any]:
    return [each for value in values for each in (value if isinstance(value, list) else [value])]


def test_a_worker_held_up_in_its_first_call_keeps_only_that() -> None:
    sides = TwoSides(dispatches(batched=False), batched=False)
    while super(Page, sides.page).__getitem__(STATE) != RUNNING:
        sides.worker.switch()
    for _ in range(5):  # past the look at what was reclaimed, into the first call
        if not sides.made:
            sides.worker.switch()
    assert sides.made == ["a"]

    while not sides.reclaimer.dead:
        sides.reclaimer.switch()

    assert sides.put_back == ["b", "c", "d", "e"]
    assert [message.remaining for message in sides.flight] == [1, 0]
    while not sides.worker.dead:
        sides.worker.switch()
    assert sides.made == ["a"], "what was taken back is not made here"
    assert sides.counted() == ["a"]


def test_an_idle_worker_is_left_alone() -> None:
    sides = TwoSides(dispatches(batched=False), batched=False)

    sides.play((0,))

    assert sides.put_back == []
    assert sides.counted() == ["a", "b", "c", "d", "e"]


@pytest.mark.parametrize(
    ("kept", "waiting", "queued", "worth"),
    [([3, 2], 1, 0, True), ([1, 0], 1, 0, False), ([1, 1], 1, 0, True), ([3], 0, 0, False), ([3], 1, 5, False)],
)
def test_it_is_worth_it_when_somebody_waits_and_nothing_else_is_there(
    kept: list[int], waiting: int, queued: int, worth: bool
) -> None:
    stage: Any = SimpleNamespace(channel=SimpleNamespace(waiting=waiting, calls=queued))

    assert worth_it(stage, [Message(1, [], 5, number) for number in kept]) is worth


def test_a_call_made_although_it_was_taken_back_is_not_counted() -> None:
    """Should the two sides ever not see each other's words in time: made twice, but counted once."""
    put_back: list[Bundle] = []
    stage: Any = SimpleNamespace(stage=SimpleNamespace(batched=False), put_back=put_back.append)
    outcome = Outcome(["a", "b", "c"], None, {}, array("Q", [1, 2, 3]))

    dispatch, counted = reconcile(stage, Message(1, [calls("a", "b", "c")], 3, 1), outcome)

    assert flat(dispatch) == ["a"]
    assert (counted.results, list(counted.nanoseconds)) == (["a"], [1])
    assert put_back == [], "those were taken back before"


def test_what_was_neither_made_nor_taken_back_goes_back() -> None:
    put_back: list[Bundle] = []
    stage: Any = SimpleNamespace(stage=SimpleNamespace(batched=False), put_back=put_back.append)
    outcome = Outcome(["a"], None, {}, array("Q", [1]))

    dispatch, _ = reconcile(stage, Message(1, [calls("a", "b", "c", "d")], 4, 3), outcome)

    assert flat(dispatch) == ["a"]
    assert flat(put_back) == ["b", "c"]


def test_single_calls_are_the_calls_of_all_bundles() -> None:
    made = single_calls([calls("a", "b"), calls("c")], batched=False)

    assert [bundle.values for bundle in made] == [["a"], ["b"], ["c"]]
    assert [bundle.size for bundle in single_calls([batches([1, 2], [3])], batched=True)] == [2, 1]


# All calls of the message were reclaimed while it waited behind a long one, and then the worker process cannot read it.
def test_a_message_that_was_taken_back_and_cannot_be_read_is_nobodys_failure() -> None:
    charged: list[Bundle] = []
    worker: Any = ProcessWorker.__new__(ProcessWorker)
    worker.stage = SimpleNamespace(
        stage=SimpleNamespace(batched=False, worker_lifespan=None, memory_limit=None),
        put_back=charged.append,
        call_failed=lambda call, *_: charged.append(call),
    )
    worker._by_value = True
    worker._in_flight = deque([Message(2, [calls("bomb")], 1, 0)])
    failure = wire.Frame(wire.UNREADABLE, 2, *dumped_failure())

    worker._receive_result(failure)

    assert charged == []


def dumped_failure() -> tuple[Any, list[Any]]:
    from airflow_parallel_provider.engine.functions.outcome import CallFailure

    payload, buffers = wire.dump(CallFailure("ValueError", "cannot be put together again"))
    return payload, list(buffers)
