"""Autoscaler: grows where calls wait, is judged by throughput, steps back, shrinks, never beyond its room."""

from __future__ import annotations

import heapq
import itertools
import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from airflow_parallel_provider.engine.stages.autoscaler import DECIDE_SECONDS, HOLD_SECONDS, Autoscaler, Decision

ROOM = 100


class Line:
    """A stage whose counters the test writes, look by look."""

    def __init__(self, low: int, high: int, workers: int | None = None) -> None:
        self.workers = low if workers is None else workers
        self.channel = SimpleNamespace(calls=0)
        self.metrics = SimpleNamespace(lock=threading.Lock(), calls=0, busy=0.0, starved=0.0)
        self.now = 50.0
        stage: Any = self
        self.scaler = Autoscaler(stage, low, high)
        self.look(calls=0, waiting=0)  # the first look has nothing to compare with

    def look(
        self,
        *,
        calls: int = 10,
        waiting: int = 100,
        busy: float = 1.0,
        starved: float = 0.0,
        room: int = ROOM,
        seconds: float = DECIDE_SECONDS,
    ) -> int | None:
        """Let time pass, decide, do as decided; return the new number of workers."""
        self.now += seconds
        self.metrics.calls += calls
        self.metrics.busy += busy * seconds * self.workers
        self.metrics.starved += starved * seconds * self.workers
        self.channel.calls = waiting
        decided = self.scaler.decide(self.now, room)
        if decided is None:
            return None
        self.workers, self.reason = decided
        return self.workers

    def looks(self, seconds: float, **look: Any) -> list[int]:
        """Every decision within some seconds of looks."""
        decided = [self.look(**look) for _ in range(round(seconds / DECIDE_SECONDS))]
        return [workers for workers in decided if workers is not None]


def test_the_first_look_decides_nothing() -> None:
    line = Line(1, 8)

    assert line.scaler.decide(line.now, ROOM) is None, "no time has passed"
    assert line.workers == 1


def test_grows_twofold_when_calls_wait_and_workers_are_busy() -> None:
    line = Line(1, 8)

    assert line.look(waiting=25) == 2
    assert line.reason == "25 calls waited while its workers were busy"


def test_grows_on_while_each_step_brings_throughput() -> None:
    line = Line(1, 8)

    sizes = [workers for _ in range(40) if (workers := line.look(calls=10 * line.workers)) is not None]

    assert sizes == [2, 4, 8]


@pytest.mark.parametrize(
    "look",
    [{"waiting": 0}, {"waiting": 3}, {"busy": 0.5}, {"room": 0}],
    ids=["nothing waits", "less than one call per worker waits", "workers idle", "no room"],
)
def test_does_not_grow(look: dict[str, Any]) -> None:
    line = Line(4, 8)

    assert line.looks(2.0, **look) == []


def test_does_not_grow_beyond_its_most() -> None:
    line = Line(1, 3, workers=2)

    assert line.look() == 3
    assert line.looks(5.0, calls=1000) == []


def test_does_not_grow_beyond_the_room_there_is() -> None:
    line = Line(4, 64)

    assert line.look(room=1) == 5


def test_a_step_that_brings_nothing_is_taken_back() -> None:
    line = Line(1, 8)

    line.look(calls=10)
    assert line.looks(1.0, calls=10) == [1]
    assert "2 workers finished 100 calls/s, 1 had finished 100" in line.reason


def test_a_step_that_brings_throughput_is_kept() -> None:
    line = Line(1, 2)

    line.look(calls=10)

    assert line.looks(5.0, calls=20) == []
    assert line.workers == 2


def test_a_fifth_more_for_twice_the_workers_is_not_enough() -> None:
    line = Line(2, 4)

    line.look(calls=100)

    assert line.looks(1.0, calls=120) == [2]


def test_a_stage_that_grew_in_vain_is_left_alone_and_longer_each_time() -> None:
    line = Line(1, 8)
    grew = []

    for _ in range(round(20 / DECIDE_SECONDS)):
        if line.look(calls=10) == 2:
            grew.append(line.now)

    pauses = [after - before for before, after in itertools.pairwise(grew)]
    assert len(pauses) >= 2
    assert pauses[0] > HOLD_SECONDS
    assert pauses[1] - pauses[0] == pytest.approx(HOLD_SECONDS, abs=2 * DECIDE_SECONDS), "2 s, then 4 s"


def test_growth_is_not_judged_before_enough_calls_have_ended() -> None:
    """Two workers, fewer than four calls each: such a rate says nothing yet."""
    line = Line(1, 8)
    line.look(calls=10)

    assert line.looks(1.0, calls=0) == []


def test_growth_is_judged_in_the_end_even_if_hardly_anything_ended() -> None:
    line = Line(1, 8)
    line.look(calls=10)

    assert line.looks(4.0, calls=0) == [1]


def test_growth_after_which_nothing_waits_is_a_success() -> None:
    """The stage has caught up: it finishes what comes, more it cannot."""
    line = Line(1, 8)
    line.look(calls=10)

    assert line.looks(1.0, calls=10, waiting=0) == []
    assert line.workers == 2


def test_shrinks_after_five_starved_looks() -> None:
    line = Line(1, 16, workers=8)

    assert line.looks(0.4, starved=0.8, waiting=0, busy=0.0) == []
    assert line.look(starved=0.8, waiting=0, busy=0.0) == 5, "three of eight: half of what is idle"
    assert line.reason == "its workers waited for items 80% of the time"


def test_one_look_with_work_begins_the_count_anew() -> None:
    line = Line(1, 16, workers=8)

    line.looks(0.4, starved=1.0, waiting=0, busy=0.0)
    line.look(starved=0.1, waiting=0, busy=0.9)

    assert line.looks(0.4, starved=1.0, waiting=0, busy=0.0) == []


def test_never_shrinks_below_its_least() -> None:
    line = Line(3, 16, workers=8)

    assert line.looks(10.0, starved=1.0, waiting=0, busy=0.0)[-1] == 3


def test_a_share_above_one_is_no_reason_to_lose_more_than_all() -> None:
    """Waiting is booked when it ends, so one look may see the waiting of many."""
    line = Line(2, 16, workers=8)

    sizes = line.looks(0.5, starved=40.0, waiting=0, busy=0.0)

    assert sizes == [2]
    assert "100%" in line.reason


def test_a_stage_without_workers_is_left_alone() -> None:
    line = Line(1, 4)
    line.workers = 0

    assert line.look() is None


def test_a_decision_is_plain_json() -> None:
    decision = Decision(1.23456, "fetch", 2, 4, "because")

    assert decision.as_dict() == {"at": 1.235, "stage": "fetch", "before": 2, "after": 4, "reason": "because"}


class VirtualStage(Line):
    """A stage in virtual time with calls without end: each worker makes one after the other, as the engine counts them.

    :param service: seconds of one call when so many workers are at work.
    """

    def __init__(self, service: Callable[[int], float], low: int, high: int) -> None:
        super().__init__(low, high)
        self._service = service
        self._ends: list[tuple[float, float]] = []
        self._fill()

    def _fill(self) -> None:
        for _ in range(self.workers - len(self._ends)):
            self._begin(self.now)

    def _begin(self, at: float) -> None:
        seconds = self._service(self.workers)
        heapq.heappush(self._ends, (at + seconds, seconds))

    def run(self, seconds: float) -> list[int]:
        """Sizes it had, one after the other."""
        sizes = [self.workers]
        for _ in range(round(seconds / DECIDE_SECONDS)):
            ended, busy, until = 0, 0.0, self.now + DECIDE_SECONDS
            while self._ends[0][0] <= until:
                at, took = heapq.heappop(self._ends)
                ended, busy = ended + 1, busy + took
                if len(self._ends) < self.workers:
                    self._begin(at)
            size = self.look(calls=ended, busy=busy / DECIDE_SECONDS / self.workers)
            if size is not None:
                sizes.append(size)
                self._fill()
        return sizes


@pytest.mark.parametrize("milliseconds", [2, 5, 20, 80])
def test_a_stage_of_short_waits_is_at_its_most_within_three_seconds(milliseconds: int) -> None:
    stage = VirtualStage(lambda workers: milliseconds / 1000, 1, 8)

    assert stage.run(3.0) == [1, 2, 4, 8]


# An earlier version took the rate before growing from one sample. With calls longer than a sample, that is the one in
# which calls happened to end: it was far too high, and growth that doubled the throughput was undone.
@pytest.mark.parametrize("milliseconds", [170, 300, 1000, 2500])
def test_a_stage_of_long_waits_grows_too(milliseconds: int) -> None:
    stage = VirtualStage(lambda workers: milliseconds / 1000, 1, 8)

    sizes = stage.run(60.0)

    assert sizes == [1, 2, 4, 8]


@pytest.mark.parametrize("milliseconds", [2, 20])
def test_a_stage_limited_by_one_lock_ends_where_it_began(milliseconds: int) -> None:
    """Calls take as many times longer as there are workers: no step brings anything."""
    stage = VirtualStage(lambda workers: workers * milliseconds / 1000, 1, 8)

    sizes = stage.run(1.5)

    assert sizes == [1, 2, 1]


def test_a_stage_that_saturates_stops_near_the_knee() -> None:
    """An outside service answers four at a time: eight workers finish no more than four."""
    stage = VirtualStage(lambda workers: 0.01 * max(1.0, workers / 4), 1, 32)

    sizes = stage.run(2.0)

    assert sizes == [1, 2, 4, 8, 4]
