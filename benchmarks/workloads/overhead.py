"""The cost of the engine itself per item, in CPU time of all processes together."""

from __future__ import annotations

import multiprocessing as mp
import resource
import time
from collections.abc import Callable, Iterable

from airflow_parallel_provider import Pipeline, Stage
from benchmarks.airflow_task import run_task
from benchmarks.common import Count, InMemorySource, dask_running, ray_running
from benchmarks.spec import OURS, Laps, Measured, Medians, Params, Workload, check

IN_TASK = f"{OURS}, 3 stages, in a task"
TASK_INSTANCE_US = 340_000
"""CPU time of one mapped task instance of Airflow 3.3 (measured by the project on the same kind of machine)."""

WORK = Workload(
    name="overhead",
    title="CPU time of the engine per item, trivial functions, automatic grouping",
    what="200 000 items (ray 5 000, dask 2 000); airflow.sdk is imported; start and end of workers included",
    timed="CPU of this process and all its children over the whole run, less that of a loop that calls the functions",
    metric="us_per_item",
    unit="us",
    best="low",
    shows=("items_per_second",),
    full={"items": 200_000},
    quick={"items": 20_000},
    imports="airflow.sdk",
    database=True,
    rounds=3,
    limit=120.0,
    reference=IN_TASK,
)
WORKLOADS = {WORK.name: WORK}


def add_one(number: int) -> int:
    return number + 1


def double(number: int) -> int:
    return number * 2


def cpu() -> float:
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def loop_cpu(items: int, functions: list[Callable[[int], int]]) -> float:
    """CPU seconds of the calls alone."""
    began = time.process_time()
    for number in range(items):
        value = number
        for function in functions:
            value = function(value)
    return time.process_time() - began


def ended(items: int, used: float, seconds: float, functions: list[Callable[[int], int]]) -> Measured:
    own = loop_cpu(items, functions)
    return {
        "us_per_item": (used - own) / items * 1e6,
        "items_per_second": items / seconds,
        "cpu": used,
        "seconds_wall": seconds,
    }


def run_ours(params: Params, stages: list[Stage], functions: list[Callable[[int], int]]) -> Measured:
    items = params["items"]
    laps = Laps()
    sink = Count(laps)
    before, began = cpu(), time.perf_counter()
    report = Pipeline(InMemorySource(laps, range(items)), stages, sink).run()
    used, seconds = cpu() - before, time.perf_counter() - began
    check(sink.rows == items, f"{sink.rows} rows")
    return {**ended(items, used, seconds, functions), "cpu_of_report": report.cpu_seconds}


@WORK.contestant(
    IN_TASK, "ParallelPipelineOperator in a DAG file, run by dag.test(): 4 threads -> 2 processes -> 4 threads"
)
def in_task(params: Params) -> Measured:
    items = params["items"]
    measured = run_task("bench_overhead.py", BENCH_ITEMS=str(items))
    return ended(items, measured["cpu_seconds"], measured["seconds"], [add_one, double, add_one])


@WORK.contestant(f"{OURS}, 3 stages", "4 threads -> 2 processes -> 4 threads")
def three_stages(params: Params) -> Measured:
    stages = [
        Stage(add_one, workers=4),
        Stage(double, kind="process", workers=2),
        Stage(add_one, workers=4, name="last"),
    ]
    return run_ours(params, stages, [add_one, double, add_one])


@WORK.contestant(f"{OURS}, 1 process stage", "Stage(function, kind='process', workers=2)")
def one_process_stage(params: Params) -> Measured:
    return run_ours(params, [Stage(double, kind="process", workers=2)], [double])


@WORK.contestant(f"{OURS}, 1 thread stage", "Stage(function, workers=4)")
def one_thread_stage(params: Params) -> Measured:
    return run_ours(params, [Stage(double, workers=4)], [double])


@WORK.contestant(f"{OURS}, no stage", "source -> sink: what chunks and their commit cost")
def no_stage(params: Params) -> Measured:
    return run_ours(params, [], [])


def _peer(items: int, work: Callable[[], Iterable[int]]) -> Measured:
    before, began = cpu(), time.perf_counter()
    rows = sum(1 for _ in work())
    used, seconds = cpu() - before, time.perf_counter() - began
    check(rows == items, f"{rows} rows")
    return ended(items, used, seconds, [double])


@WORK.contestant("Pool, chunksize=1", "Pool(2).imap_unordered, one function")
def pool(params: Params) -> Measured:
    def work() -> Iterable[int]:
        with mp.Pool(2) as workers:
            yield from workers.imap_unordered(double, range(params["items"]))
            workers.close()
            workers.join()

    return _peer(params["items"], work)


@WORK.contestant("Pool, chunksize=1000", "Pool(2).imap_unordered, chunksize=1000 chosen by the user, one function")
def pool_chunks(params: Params) -> Measured:
    def work() -> Iterable[int]:
        with mp.Pool(2) as workers:
            yield from workers.imap_unordered(double, range(params["items"]), 1000)
            workers.close()
            workers.join()

    return _peer(params["items"], work)


@WORK.contestant("joblib", "Parallel(2, generator_unordered), loky, automatic batches, one function")
def joblib(params: Params) -> Measured:
    from joblib import Parallel, delayed
    from joblib.externals.loky import get_reusable_executor

    def work() -> Iterable[int]:
        yield from Parallel(2, return_as="generator_unordered")(delayed(double)(x) for x in range(params["items"]))
        get_reusable_executor().shutdown(wait=True)

    return _peer(params["items"], work)


@WORK.contestant("ray", "2 CPUs, one task per item, 5 000 items; only the parent's own CPU is counted")
def ray_tasks(params: Params) -> Measured:
    items = min(5000, params["items"])
    with ray_running() as ray:
        task = ray.remote(double)
        ray.get([task.remote(number) for number in range(8)])
        return _peer(items, lambda: ray.get([task.remote(number) for number in range(items)]))


@WORK.contestant("dask", "LocalCluster of 2 processes, client.map, 2 000 items; only the parent's own CPU is counted")
def dask(params: Params) -> Measured:
    items = min(2000, params["items"])
    with dask_running() as client:
        client.gather(client.map(double, range(-8, 0), pure=False))
        return _peer(items, lambda: client.gather(client.map(double, range(items), pure=False)))


@WORK.target("engine per item, 3 stages, in a task: <= 20 us CPU", 20.0, unit="us", at_most=True, of=IN_TASK)
def in_task_overhead(medians: Medians) -> float | None:
    return medians.get(IN_TASK, {}).get("us_per_item")
