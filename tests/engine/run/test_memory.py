"""Memory: the source is slowed in time, workers over their limit are replaced, and the report knows the peak."""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from airflow_parallel_provider import Stage
from airflow_parallel_provider.engine.run.memory import HARD, RESUME_AT, SLOW_AT, MemoryMonitor
from airflow_parallel_provider.engine.workers.process import ProcessWorker
from tests.support.running import run_pipeline
from tests.support.sync import Meeting, Once

MB = 1 << 20


class FakeSlot(ProcessWorker):
    """A process worker whose worker has a process id and nothing else."""

    def __init__(self, pid: int | None, limit: int | None = None) -> None:
        self.stage = SimpleNamespace(stage=SimpleNamespace(memory_limit=limit))  # type: ignore[assignment]
        self.fake_pid = pid
        self.seen: list[int] = []
        self.asked: list[tuple[int, bool]] = []

    @property
    def pid(self) -> int | None:
        return self.fake_pid

    def record_rss(self, rss: int) -> None:
        self.seen.append(rss)

    def over_limit(self, rss: int, *, end_now: bool) -> None:
        self.asked.append((rss, end_now))


class World:
    """Processes and what they hold."""

    def __init__(self, *, limit: int | None = None, stage_limit: int | None = None) -> None:
        self.rss = {os.getpid(): 0}
        self.paused: list[bool] = []
        self.warnings: list[str] = []
        stages = [SimpleNamespace(memory_limit=stage_limit)]
        state: Any = SimpleNamespace(plan=SimpleNamespace(memory_limit=limit, stages=stages), warn=self.warnings.append)
        in_flight: Any = SimpleNamespace(pause=lambda *, paused: self.paused.append(paused))
        self.watch = MemoryMonitor(state, in_flight)

    def process(self, pid: int | None = None) -> Any:
        pid = os.getpid() if pid is None else pid
        if pid not in self.rss:
            raise psutil.NoSuchProcess(pid)
        return SimpleNamespace(
            memory_info=lambda: SimpleNamespace(rss=self.rss[pid]),
            cpu_times=lambda: SimpleNamespace(user=0.5, system=0.25),
        )


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Any:
    def make(**options: Any) -> World:
        made = World(**options)
        monkeypatch.setattr(psutil, "Process", made.process)
        return made

    return make


def test_the_peak_is_that_of_all_processes_together(world: Any) -> None:
    made = world()
    made.rss |= {os.getpid(): 100, 7: 20, 8: 30}

    made.watch.sample([FakeSlot(7), FakeSlot(8), object()])
    made.rss[8] = 5
    made.watch.sample([FakeSlot(7), FakeSlot(8)])

    assert made.watch.peak == 150
    assert made.watch.workers_cpu == 1.5, "two workers, 0.75 s each"


def test_a_worker_between_two_lives_or_dead_holds_nothing(world: Any) -> None:
    made = world()
    workers = [FakeSlot(None), FakeSlot(99)]

    made.watch.sample(workers)

    assert [worker.seen for worker in workers] == [[0], [0]]


@pytest.mark.parametrize(
    ("rss", "asked"),
    [(90, []), (100, []), (101, [(101, False)]), (125, [(125, False)]), (126, [(126, True)])],
)
def test_a_worker_over_its_limit_is_replaced_and_far_over_it_ended(
    world: Any, rss: int, asked: list[tuple[int, bool]]
) -> None:
    made = world(stage_limit=100)
    made.rss[7] = rss
    worker = FakeSlot(7, limit=100)
    assert HARD == 1.25

    made.watch.sample([worker])

    assert worker.asked == asked


def test_the_source_is_slowed_before_the_limit_and_goes_on_well_below(world: Any) -> None:
    made = world(limit=1000)
    for rss in (100, 840, 860, 990, 800, 760, 740, 800):
        made.rss[os.getpid()] = rss
        made.watch.sample([])

    assert (SLOW_AT, RESUME_AT) == (0.85, 0.75)
    assert made.paused == [False, False, True, True, True, True, False, False]
    assert len(made.warnings) == 1
    assert "memory_limit=1,000 bytes: the source was slowed" in made.warnings[0]


def test_without_a_limit_nothing_is_watched_or_slowed(world: Any) -> None:
    made = world()
    made.rss[os.getpid()] = 10**12

    made.watch.sample([])

    assert not made.watch.limited
    assert made.paused == []
    assert world(limit=1).watch.limited
    assert world(stage_limit=1).watch.limited


# -- real processes ---------------------------------------------------------------------------------------------------


def fill_memory(item: int) -> int:
    if item == 1:
        data = bytearray(os.urandom(4096)) * (160 * MB // 4096)
        time.sleep(60)  # until it is ended
        return len(data)
    return item


def test_a_call_far_over_the_limit_is_ended_and_the_limit_and_bytes_are_named() -> None:
    stage = Stage(fill_memory, name="fill", kind="process", workers=1, memory_limit=100 * MB)

    ran = run_pipeline(range(3), [stage], tolerance=1, ordered=True, timeout=150.0)

    assert ran.error is None
    assert ran.rows == [0, 2]
    (dead_letter,) = ran.dead_letters
    assert dead_letter.position == 1
    assert dead_letter.cause.startswith("WorkerLost: ")
    assert f"memory_limit={100 * MB:,}" in dead_letter.cause
    held = int(dead_letter.cause.split("ended at ")[1].split(" bytes")[0].replace(",", ""))
    assert held > HARD * 100 * MB
    assert ran.report.stages[0].workers_lost == 1


KEPT: list[bytearray] = []


@dataclass(frozen=True)
class Leak:
    """The first call leaves some bytes behind; the worker that follows says that it is there."""

    size: int
    first: Once
    meeting: Meeting

    def setup(self) -> None:
        if not self.first():
            self.meeting.arrive(str(os.getpid()))

    def process(self, item: int) -> tuple[int, int]:
        if item == 0:
            KEPT.append(bytearray(b"x") * self.size)
        return item, os.getpid()


def test_a_worker_over_its_limit_is_replaced_between_two_calls(tmp_path: Path) -> None:
    meeting, successors = Meeting.at(tmp_path / "meeting"), []
    usual = run_pipeline([1], [Stage(fill_nothing, kind="process", workers=1)]).report.workers[0]["peak_rss_bytes"]
    limit = usual + 20 * MB

    def source() -> Iterator[int]:
        yield 0
        successors.append(int(meeting.expect()))
        yield from range(1, 8)

    leak = Leak(23 * MB, Once(str(tmp_path / "once")), meeting)
    stage = Stage(leak, name="leak", kind="process", workers=1, memory_limit=limit)
    ran = run_pipeline(source, [stage], chunk_size=8, timeout=150.0)

    assert ran.error is None
    assert sorted(item for item, _ in ran.rows) == list(range(8))
    first = dict(ran.rows)[0]
    assert successors[0] != first, "another one has been set up"
    assert {pid for _, pid in ran.rows} <= {first, *successors}
    assert ran.report.stages[0].workers_lost == 0


def test_a_pipeline_with_a_limit_it_cannot_keep_still_ends() -> None:
    """The task process alone is over it: the source is slowed to one chunk at a time, not stopped."""
    ran = run_pipeline(range(40), [Stage(fill_nothing, workers=2)], chunk_size=4, memory_limit=MB, timeout=150.0)

    assert ran.error is None
    assert len(ran.rows) == 40
    assert any("memory_limit" in warning for warning in ran.report.warnings)


def fill_nothing(item: int) -> int:
    return item


def test_peak_of_a_run_does_not_count_a_worker_and_its_successors_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many workers one after another, and no sample before the end."""
    monkeypatch.setattr(MemoryMonitor, "sample", lambda _watch, _slots: None)
    gc.collect()  # what tests before this one left is let go of now, not between the two looks at this process
    processes: set[int] = set()

    def until_six() -> Iterator[int]:
        for item in range(10_000):
            if len(processes) >= 6:
                return
            yield item

    stages = [
        Stage(tell_process, name="short", kind="process", workers=1, worker_lifespan=1),
        Stage(processes.add, kind="inline"),
    ]
    report = run_pipeline(until_six, stages, chunk_size=5, max_in_flight=10).report

    peaks = [each["peak_rss_bytes"] for each in report.workers if each["stage"] == "short"]
    assert len(peaks) >= 6
    together = report.peak_rss_bytes - psutil.Process().memory_info().rss
    assert together < 3.5 * max(peaks), "one, its successor, and what the task process has let go of"


def tell_process(item: int) -> int:
    return os.getpid()


def test_peak_of_a_run_counts_its_workers_however_short_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run of half a second is over before the first look at its workers."""
    monkeypatch.setattr(MemoryMonitor, "sample", lambda _watch, _slots: None)
    report = run_pipeline([1, 2], [Stage(fill_nothing, kind="process", workers=2)], chunk_size=1).report
    workers = [each["peak_rss_bytes"] for each in report.workers]

    assert min(workers) > MB
    assert report.peak_rss_bytes > sum(workers) + MB, "and the task process"
