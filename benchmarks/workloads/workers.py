"""Hundreds of workers at the same time: the memory that each of them needs."""

from __future__ import annotations

import asyncio
import gc
import threading
from concurrent.futures import ThreadPoolExecutor

import psutil

from airflow_parallel_provider import Pipeline, Stage
from benchmarks.common import Count
from benchmarks.spec import OURS, Measured, Medians, Params, Workload, check

WORK = Workload(
    name="workers",
    title="500 thread workers, 5 000 coroutines",
    what="as many items as workers, all of them in the function at the same moment; airflow.sdk is imported",
    timed="resident memory when the last worker has arrived, less that after a run with one worker, per worker",
    metric="kb_per_worker",
    unit="KB",
    best="low",
    shows=("workers", "growth_mib"),
    full={"threads": 500, "coroutines": 5000},
    quick={"threads": 200, "coroutines": 1000},
    imports="airflow.sdk",
    rounds=3,
    limit=90.0,
)
THREADS, COROUTINES = f"{OURS}, 500 threads", f"{OURS}, 5 000 coroutines"
WORK.reference = THREADS
WORKLOADS = {WORK.name: WORK}
PATIENCE = 30.0


def resident() -> int:
    return int(psutil.Process().memory_info().rss)


class Meeting:
    """A barrier for all workers; the last one to arrive measures the memory."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.here = 0
        self.memory = 0
        self.lock = threading.Lock()
        self.all_here = threading.Event()

    def arrive(self) -> bool:
        """Whether the caller was the last one."""
        with self.lock:
            self.here += 1
            if self.here < self.size:
                return False
        self.memory = resident()
        self.all_here.set()
        return True

    def thread(self, number: int) -> int:
        if not self.arrive() and not self.all_here.wait(PATIENCE):
            raise TimeoutError(f"only {self.here} of {self.size} workers ran at the same time")
        return number

    async def coroutine(self, number: int) -> int:
        self.arrive()
        for _ in range(int(PATIENCE / 0.1)):
            if self.all_here.is_set():
                return number
            await asyncio.sleep(0.1)
        raise TimeoutError(f"only {self.here} of {self.size} workers ran at the same time")


def ended(before: int, meeting: Meeting) -> Measured:
    check(meeting.memory > 0, "the workers never met")
    grown = meeting.memory - before
    return {"kb_per_worker": grown / meeting.size / 1024, "growth_mib": grown / 2**20, "workers": meeting.size}


def run_ours(kind: str, size: int) -> Meeting:
    meeting = Meeting(size)
    function = meeting.coroutine if kind == "async" else meeting.thread
    sink = Count()
    stage = Stage(function, kind=kind, workers=size, name="meet")  # type: ignore[arg-type]
    Pipeline(range(size), [stage], sink, chunk_size=size).run()
    check(sink.rows == size, f"{sink.rows} rows")
    return meeting


def ours(kind: str, size: int) -> Measured:
    run_ours(kind, 1)
    gc.collect()
    before = resident()
    return ended(before, run_ours(kind, size))


@WORK.contestant(THREADS, "Stage(function, workers=500), 500 items in one chunk")
def our_threads(params: Params) -> Measured:
    return ours("thread", params["threads"])


@WORK.contestant(COROUTINES, "Stage(function, kind='async', workers=5000), 5 000 items in one chunk")
def our_coroutines(params: Params) -> Measured:
    return ours("async", params["coroutines"])


@WORK.contestant("ThreadPoolExecutor, 500 threads", "ThreadPoolExecutor(500).map")
def executor(params: Params) -> Measured:
    def run(size: int) -> Meeting:
        meeting = Meeting(size)
        with ThreadPoolExecutor(size) as threads:
            check(len(list(threads.map(meeting.thread, range(size)))) == size, "lost")
        return meeting

    run(1)
    gc.collect()
    before = resident()
    return ended(before, run(params["threads"]))


@WORK.contestant("asyncio, 5 000 tasks", "asyncio.gather of 5 000 coroutines")
def gathered(params: Params) -> Measured:
    def run(size: int) -> Meeting:
        meeting = Meeting(size)

        async def main() -> None:
            check(len(await asyncio.gather(*map(meeting.coroutine, range(size)))) == size, "lost")

        asyncio.run(main())
        return meeting

    run(1)
    gc.collect()
    before = resident()
    return ended(before, run(params["coroutines"]))


@WORK.target("500 thread workers: <= 100 KB each", 100.0, unit="KB", at_most=True, of=THREADS)
def per_thread(medians: Medians) -> float | None:
    return medians.get(THREADS, {}).get("kb_per_worker")


@WORK.target("5 000 coroutines: <= 100 KB each", 100.0, unit="KB", at_most=True, of=COROUTINES)
def per_coroutine(medians: Medians) -> float | None:
    return medians.get(COROUTINES, {}).get("kb_per_worker")
