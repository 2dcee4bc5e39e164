"""Workers of real, small runs: they grow, are replaced, keep to a rate, and help out where one is held up."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from airflow_parallel_provider import ListSink, Pipeline, Stage, StopToken
from airflow_parallel_provider.engine import crew, limits
from airflow_parallel_provider.engine.nursery.client import NurseryClient, NurseryLost
from airflow_parallel_provider.engine.scaling import MOST_DECISIONS
from airflow_parallel_provider.engine.slots import process
from airflow_parallel_provider.errors import PlanError, RunStopped
from tests.support.running import run_pipeline
from tests.support.sync import Clock, Meeting, Once, in_background

PIPELINE_TIMEOUT = 20.0


# -- growing ----------------------------------------------------------------------------------------------------------


class Crowd:
    """A function that waits a little, and knows how many have waited in it at the same time."""

    def __init__(self) -> None:
        self.inside = self.most = 0
        self._lock = threading.Lock()

    def __call__(self, item: int) -> int:
        with self._lock:
            self.inside += 1
            self.most = max(self.most, self.inside)
        time.sleep(0.004)  # the work of this stage is to wait
        with self._lock:
            self.inside -= 1
        return item


def test_a_stage_of_waiting_threads_grows_and_the_report_says_why() -> None:
    crowd = Crowd()

    def until_it_has_grown() -> Iterator[int]:
        clock = Clock()
        for item in itertools.count():
            if crowd.most == 4 or clock.seconds > 10:
                return
            yield item

    ran = run_pipeline(until_it_has_grown, [Stage(crowd, name="wait", workers=(1, 4))], chunk_size=50)

    assert crowd.most == 4
    assert ran.report.stages[0].workers == 4
    first, *others = ran.report.decisions
    assert (first["stage"], first["before"], first["after"]) == ("wait", 1, 2)
    assert "calls waited while its workers were busy" in first["reason"]
    assert first["at"] > 0
    assert any(each["after"] == 4 for each in others)
    assert len(ran.report.decisions) <= MOST_DECISIONS


def test_a_fixed_number_of_workers_stays() -> None:
    ran = run_pipeline(range(100), [Stage(Crowd(), workers=3)], chunk_size=50)

    assert ran.report.decisions == []
    assert ran.report.stages[0].workers == 3


@pytest.fixture
def _two_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (limits, crew):
        monkeypatch.setattr(module, "usable_cpus", lambda: 2)


def same(item: Any) -> Any:
    return item


@pytest.mark.usefixtures("_two_cpus")
@pytest.mark.parametrize(
    ("workers", "warning"),
    [
        ((1, 9), "stage same: workers=(1, 9) was capped at 2, because this task may use 2 CPUs"),
        (3, "the plan asks for 3 worker processes, but this task may use 2 CPUs"),
    ],
)
def test_more_processes_than_cpus_are_warned_of(workers: Any, warning: str) -> None:
    ran = run_pipeline(range(4), [Stage(same, kind="process", workers=workers)])

    assert len(ran.report.warnings) == 1
    assert ran.report.warnings[0].startswith(warning)


@pytest.mark.usefixtures("_two_cpus")
def test_as_many_processes_as_cpus_are_no_reason_to_warn() -> None:
    assert run_pipeline(range(4), [Stage(same, kind="process", workers=2)]).report.warnings == []


def test_a_range_of_processes_is_capped_and_a_number_taken_at_its_word(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "usable_cpus", lambda: 4)

    ranges = {workers: Stage(same, kind="process", workers=workers).worker_range for workers in (7, (2, 9), (6, 9))}
    assert ranges == {7: (7, 7), (2, 9): (2, 4), (6, 9): (6, 6)}
    assert Stage(same, kind="process").worker_range == (1, 4)
    assert Stage(same, workers=(2, 99)).worker_range == (2, 99)


# -- replacing --------------------------------------------------------------------------------------------------------


def who(item: int) -> tuple[int, int]:
    return item, os.getpid()


def test_workers_that_have_served_their_time_are_replaced_and_nothing_is_lost() -> None:
    """The source goes on until four workers have been seen."""
    seen: set[int] = set()

    def note(row: tuple[int, int]) -> tuple[int, int]:
        seen.add(row[1])
        return row

    def until_four() -> Iterator[int]:
        clock = Clock()
        for item in itertools.count():
            if len(seen) >= 4 or clock.seconds > 10:
                return
            yield item

    short = Stage(who, name="short", kind="process", workers=1, worker_lifespan=5)
    ran = run_pipeline(until_four, [short, Stage(note, kind="inline")], chunk_size=20, timeout=PIPELINE_TIMEOUT)

    assert ran.error is None
    assert len(seen) >= 4
    assert sorted(item for item, _ in ran.rows) == list(range(ran.report.items_read))
    first = ran.report.stages[0]
    assert (first.calls, first.workers_lost, first.retried) == (ran.report.items_read, 0, 0)
    assert first.workers == 1, "a successor takes a place, it is not one more"


# -- the rate ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["thread", "process", "async"])
def test_a_rate_limit_holds_for_all_workers_together(kind: Any) -> None:
    """Sixty items at two hundred per second, ten of them at once."""

    async def asynchronous(item: int) -> int:
        return item

    function: Any = asynchronous if kind == "async" else same
    clock = Clock()
    ran = run_pipeline(range(60), [Stage(function, kind=kind, workers=3, rate_limit=200.0)], timeout=PIPELINE_TIMEOUT)

    assert clock.seconds >= (60 - 10 - 1) / 200
    assert len(ran.rows) == 60


def test_a_rate_limit_counts_the_items_of_batches() -> None:
    clock = Clock()

    ran = run_pipeline(range(40), [Stage(same, batch_size=10, workers=2, rate_limit=100.0)], timeout=PIPELINE_TIMEOUT)

    assert clock.seconds >= (40 - 10 - 5) / 100
    assert sorted(ran.rows) == list(range(40))


# Fails today: an inline stage has a channel of its own making, without the rate; the limit is silently not kept.
def test_a_rate_limit_of_an_inline_stage_is_kept_or_refused() -> None:
    clock = Clock()

    with contextlib.suppress(PlanError):
        run_pipeline(range(20), [Stage(same, kind="inline", rate_limit=50.0)], timeout=PIPELINE_TIMEOUT)

        assert clock.seconds >= (20 - 3 - 1) / 50


# -- helping out ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class HeldUp:
    """Its first call waits until it is let go; the worker set up second begins only when that call has begun."""

    first: Once
    begun: Meeting
    go: Meeting
    release: Meeting

    def setup(self) -> None:
        if not self.first():
            Path(self.go.path).read_text()

    def process(self, item: int) -> tuple[int, int]:
        if item == 0:
            self.begun.arrive(str(os.getpid()))
            Path(self.release.path).read_text()
        return item, os.getpid()


def test_what_a_held_up_worker_has_not_begun_is_done_by_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It holds two messages. The first call ends only after all the others have been done."""
    monkeypatch.setattr(process, "STALLED_SECONDS", 0.05)
    monkeypatch.setattr(process, "LOOK_SECONDS", 0.02)
    begun, go, release = (Meeting.at(tmp_path / name) for name in ("begun", "go", "release"))
    held: list[int] = []
    done: list[int] = []

    def start_second() -> None:
        held.append(int(begun.expect()))
        go.arrive()

    def count(row: tuple[int, int]) -> tuple[int, int]:
        done.append(row[0])
        if len(done) == 5:
            release.arrive()
        return row

    function = HeldUp(Once(str(tmp_path / "once")), begun, go, release)
    stages = [Stage(function, name="held", kind="process", workers=2), Stage(count, kind="inline")]
    with in_background(start_second):
        ran = run_pipeline(range(6), stages, ordered=True, timeout=PIPELINE_TIMEOUT)

    assert ran.error is None
    assert [item for item, _ in ran.rows] == list(range(6))
    pids = dict(ran.rows)
    assert pids[0] == held[0]
    assert held[0] not in {pids[item] for item in range(1, 6)}, "all the others were done elsewhere"
    assert ran.report.stages[0].retried == 0
    assert ran.report.stages[0].calls == 6


# -- the nursery ------------------------------------------------------------------------------------------------------


def kill_the_nursery(item: int) -> int:
    os.kill(os.getppid(), signal.SIGKILL)
    signal.pause()
    return item


def test_a_stop_while_the_nursery_is_started_again_is_a_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody ended the whole process group: what was asked for is told, not what broke meanwhile."""
    stop, starts, start = StopToken(), itertools.count(), NurseryClient.start

    def begin(client: NurseryClient) -> Any:
        if next(starts) == 0:
            return start(client)
        stop.stop("the whole group was ended")
        raise NurseryLost("the run is being torn down")

    monkeypatch.setattr(NurseryClient, "start", begin)

    with pytest.raises(RunStopped, match="the whole group was ended"):
        Pipeline(range(9), [Stage(kill_the_nursery, kind="process", workers=1)], ListSink()).run(stop=stop)
    assert next(starts) == 2
