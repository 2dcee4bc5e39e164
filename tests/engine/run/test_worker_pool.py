"""Workers of real, small runs: they grow, are replaced, keep to a rate, and help out where one is held up."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from airflow_parallel_provider import ListSink, Pipeline, Stage, StopToken
from airflow_parallel_provider.engine.functions.status_page import IDLE
from airflow_parallel_provider.engine.processes.client import ForkServerClient, ForkServerLost
from airflow_parallel_provider.engine.resources import cpus
from airflow_parallel_provider.engine.run import run as run_module
from airflow_parallel_provider.engine.run import shutdown, worker_pool
from airflow_parallel_provider.engine.run.run import Run
from airflow_parallel_provider.engine.stages.autoscaler import MOST_DECISIONS, Autoscaler
from airflow_parallel_provider.engine.workers import process
from airflow_parallel_provider.engine.workers.base import Worker
from airflow_parallel_provider.errors import PlanError, RunStopped
from tests.support.running import run_pipeline
from tests.support.sync import Clock, Gate, Meeting, Once, in_background

PIPELINE_TIMEOUT = 60.0
STOP_BUDGET = 5.0


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
            # Where others use the machine, growing may look in vain and is tried again only seconds later.
            if crowd.most == 4 or clock.seconds > PIPELINE_TIMEOUT:
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
    for module in (cpus, worker_pool):
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
    monkeypatch.setattr(cpus, "usable_cpus", lambda: 4)

    ranges = {workers: Stage(same, kind="process", workers=workers).worker_range for workers in (7, (2, 9), (6, 9))}
    assert ranges == {7: (7, 7), (2, 9): (2, 4), (6, 9): (6, 6)}
    assert [Stage(same, kind="process").worker_range, Stage(same, workers=(2, 99)).worker_range] == [(1, 4), (2, 99)]


def test_stages_that_grow_at_the_same_look_share_the_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each would take the CPU that is left; it is there once."""
    asked: list[int] = []
    monkeypatch.setattr(cpus, "usable_cpus", lambda: 3)
    monkeypatch.setattr(worker_pool, "usable_cpus", lambda: asked.append(3) or 3)
    sink = ListSink()
    stages = [Stage(same, name=name, kind="process", workers=(1, 3)) for name in ("first", "second")]
    run = Run(Pipeline(range(9), stages, sink), sink)
    monkeypatch.setattr(run.pool, "_add", lambda stage: None)  # nothing is started here
    run.pool._scalers = {stage.index: Autoscaler(stage, 1, 3) for stage in run.stages}
    now = time.monotonic()
    for stage in run.stages:
        stage.set_workers(1)
    run.pool._scale(now)  # the first look has nothing to compare with
    for stage in run.stages:  # both are busy, and calls wait
        stage.metrics.calls, stage.metrics.busy, stage.channel.calls = 10, 1.0, 100

    run.pool._scale(now + 1.0)

    assert sorted(stage.workers for stage in run.stages) == [1, 2]
    assert asked == [3], "the answer takes a millisecond"


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
            if len(seen) >= 4 or clock.seconds > PIPELINE_TIMEOUT / 2:
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


@dataclass(frozen=True)
class ReadyWhenMet:
    """All but the first worker come to a meeting when they are set up."""

    first: Once
    meeting: Meeting

    def setup(self) -> None:
        if not self.first():
            self.meeting.arrive()

    def process(self, item: int) -> int:
        return item


def test_the_successor_of_a_worker_that_was_retired_meanwhile_ends_too(tmp_path: Path) -> None:
    """Else there would be one more worker than the stage has, and with each such time another one."""
    function = ReadyWhenMet(Once(str(tmp_path / "once")), Meeting.at(tmp_path / "meeting"))
    rest, stop, sink = Gate(), StopToken(), ListSink()

    def items() -> Iterator[int]:
        yield 0
        rest.pass_through()

    def retire_the_first() -> None:
        first, second = _wait_for_slots(run, 2)
        run.stages[0].channel.retire(1)
        first.thread.join(PIPELINE_TIMEOUT)
        function.meeting.expect()
        second.thread.join(PIPELINE_TIMEOUT)
        left.extend((first.thread.is_alive(), second.thread.is_alive()))
        stop.stop("seen enough")
        rest.open()

    left: list[bool] = []
    stage = Stage(function, name="s", kind="process", workers=1, worker_lifespan=1)
    run = Run(Pipeline(items, [stage], sink), sink, stop=stop)
    with in_background(retire_the_first), pytest.raises(RunStopped):
        run.execute()

    assert left == [False, False]


def _wait_for_slots(run: Run, count: int) -> list[Worker]:
    clock = Clock()
    while len(workers := list(run.pool._workers)) < count:
        assert clock.seconds < PIPELINE_TIMEOUT
        time.sleep(0.001)
    return workers


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


# In an earlier version an inline stage made a channel of its own, without the rate, and ignored the limit silently.
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
    monkeypatch.setattr(process, "CHECK_SECONDS", 0.02)
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


def test_what_a_worker_has_answered_before_it_died_is_not_done_again(tmp_path: Path) -> None:
    """It is killed when it is idle and its answers wait to be read, because the next stage is full."""
    calls, runs = tmp_path / "calls", list[Run]()

    def work(item: int) -> int:
        with calls.open("a") as file:
            file.write(f"{item}\n")
        return item

    def kill_the_worker_before(item: int) -> int:
        if item == 0:
            _kill_with_unread_answers(runs[0], lambda: {int(line) for line in calls.read_text().split()})
        return item

    stages = [Stage(work, kind="process", workers=1), Stage(kill_the_worker_before, workers=1, queue_size=1)]
    sink = ListSink()
    runs.append(Run(Pipeline(range(40), stages, sink), sink))
    report = runs[0].execute()

    assert sorted(sink.rows) == list(range(40))
    assert report.stages[0].workers_lost == 1
    assert sorted(map(int, calls.read_text().split())) == list(range(40)), "some calls were made twice"


def _kill_with_unread_answers(run: Run, called: Callable[[], set[int]]) -> None:
    (worker,) = (each for each in run.pool._workers if isinstance(each, process.ProcessWorker))
    clock, next_channel = Clock(), run.stages[1].channel
    while True:  # what a worker has done only shows in the memory it shares
        with next_channel._lock:  # one that has been let in still counts as waiting until it is awake
            blocked = next_channel._writers_waiting and next_channel.items >= next_channel.capacity
        flight = list(worker._in_flight)
        # It is idle for a moment more when it has taken a message: so look first whether it has done the calls of it.
        if blocked and flight and called().issuperset(flight[-1].dispatch[-1].values):
            state, sequence, _ = worker._connection.process.position()
            if state == IDLE and sequence == flight[-1].sequence:
                break
        assert clock.seconds < PIPELINE_TIMEOUT
        time.sleep(0.001)
    child = psutil.Process(worker.pid)
    child.kill()
    while child.status() != psutil.STATUS_ZOMBIE:
        assert clock.seconds < PIPELINE_TIMEOUT
        time.sleep(0.001)


# -- the fork server ---------------------------------------------------------------------------------------------------


def kill_the_fork_server(item: int) -> int:
    os.kill(os.getppid(), signal.SIGKILL)
    signal.pause()
    return item


def test_a_stop_while_the_fork_server_restarts_is_a_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    """A signal ended the whole process group: the error names the stop request, not what broke meanwhile."""
    stop, starts, start = StopToken(), itertools.count(), ForkServerClient.start

    def begin(client: ForkServerClient, launched: Any) -> Any:
        if next(starts) == 0:
            return start(client, launched)
        stop.stop("the whole group was ended")
        raise ForkServerLost("the run is being torn down")

    monkeypatch.setattr(ForkServerClient, "start", begin)

    with pytest.raises(RunStopped, match="the whole group was ended"):
        Pipeline(range(9), [Stage(kill_the_fork_server, kind="process", workers=1)], ListSink()).run(stop=stop)
    assert next(starts) == 2


def test_a_fork_server_that_dies_just_after_a_fork_is_started_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """The worker has been collected before a sample could see it; nothing of it is left, and no work is lost."""
    opened, pidfd_open = itertools.count(), os.pidfd_open

    def too_late(pid: int) -> int:
        if next(opened) == 0:
            raise ProcessLookupError
        return pidfd_open(pid)

    monkeypatch.setattr(os, "pidfd_open", too_late)

    ran = run_pipeline(range(9), [Stage(same, kind="process", workers=1)], ordered=True)

    assert (ran.error, ran.rows) == (None, list(range(9)))
    assert ran.report.warnings == ["the fork server died and was started again"]


def test_a_fork_server_that_dies_after_the_run_is_cleaned_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """A new one is requested, but the run ends before it starts: the rest of the old one must be cleaned up as well."""
    killed: list[ForkServerClient] = []

    def kill_it(snapshot: dict[str, Any]) -> None:
        client = run.pool.fork_servers._client
        if killed or client is None or not run.stages[0].metrics.calls:
            return
        killed.append(client)
        os.kill(client.pid or 0, signal.SIGKILL)
        clock = Clock()
        while run.state.mailbox.empty():  # the worker has asked for another one; this very thread would start it
            assert clock.seconds < PIPELINE_TIMEOUT
            time.sleep(0.001)
        run.state.fail(RunStopped("enough", None, "enough"))

    sink = ListSink()
    plan = Pipeline(itertools.count, [Stage(same, kind="process", workers=1)], sink)
    run = Run(plan, sink, observe=kill_it, observe_every=0.05)
    with pytest.raises(RunStopped):
        run.execute()

    assert [client.pid for client in killed] == [None], "no thread has waited for it"


# -- the end ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class HangsInSecondSetup:
    """One worker does all the work; the other one is never ready."""

    first: Once
    release: Meeting

    def setup(self) -> None:
        if not self.first():
            Path(self.release.path).read_text()

    def process(self, item: int) -> int:
        return item


@pytest.mark.parametrize("kind", ["thread", "process"])
def test_a_stop_after_the_work_does_not_wait_for_workers_that_are_not_ready(
    kind: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All is committed and the run ends by itself; the budget of a stop holds all the same."""
    monkeypatch.setattr(run_module, "END_SECONDS", PIPELINE_TIMEOUT)
    stop, sink = StopToken(), ListSink()
    function = HangsInSecondSetup(Once(str(tmp_path / "once")), Meeting.at(tmp_path / "release"))
    run = Run(Pipeline(range(9), [Stage(function, name="s", kind=kind, workers=2)], sink), sink, stop=stop)
    clock = Clock()

    def stop_when_over() -> None:
        while not run.state.over:
            assert clock.seconds < PIPELINE_TIMEOUT
            time.sleep(0.001)
        clock.restart()
        stop.stop("marked as failed")

    with in_background(stop_when_over):
        report = run.execute()
        seconds = clock.seconds
        os.close(os.open(function.release.path, os.O_RDWR))  # lets a thread go

    assert seconds < STOP_BUDGET
    assert (report.state, report.rows_committed) == ("success", 9)
    left = [warning for warning in report.warnings if warning.endswith("did not end and was left behind")]
    assert len(left) == (kind == "thread"), "a process is ended"


@pytest.mark.usefixtures("_two_cpus")
def test_a_worker_that_is_not_ready_when_all_is_done_is_not_waited_for_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither its process is left, nor the thread that waits for it."""
    monkeypatch.setattr(run_module, "END_SECONDS", 1.0)
    monkeypatch.setattr(shutdown, "GIVE_UP_SECONDS", PIPELINE_TIMEOUT)
    function = HangsInSecondSetup(Once(str(tmp_path / "once")), Meeting.at(tmp_path / "release"))

    ran = run_pipeline(range(9), [Stage(function, name="s", kind="process", workers=2)])

    assert (ran.report.state, sorted(ran.rows)) == ("success", list(range(9)))
    # On a machine that has other things to do the teardown of the other one may take as long.
    assert ran.report.warnings
    assert all(each.endswith("was not done with setup or teardown and was interrupted") for each in ran.report.warnings)
