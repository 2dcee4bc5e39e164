"""How soon a worker process works: the first one, and the replacement of a dead one."""

from __future__ import annotations

import json
import multiprocessing as mp
import os
import signal
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from airflow_parallel_provider import ListSink, Pipeline, Retry, Stage
from benchmarks.airflow_task import run_task
from benchmarks.spec import OURS, Measured, Medians, Params, Workload, check

IN_TASK = f"{OURS}, in a task"

START = Workload(
    name="start",
    title="Time to the first result of a process stage",
    what="2 worker processes, 10 trivial items; airflow.sdk is imported in the parent, as in every task",
    timed="first_result: from before pool or pipeline are built to the first result; total: to the end of all workers",
    metric="first_result",
    unit="s",
    best="low",
    shows=("total",),
    full={"items": 10},
    quick={"items": 10},
    imports="airflow.sdk",
    database=True,
    rounds=3,
    reference=IN_TASK,
)

REPLACEMENT = Workload(
    name="replacement",
    title="A replacement for a worker that was killed",
    what="1 worker process; the third item kills it with SIGKILL; airflow.sdk is imported in the parent",
    timed="gap: from just before the kill to the first line that runs in the new worker; at_work: to its first call",
    metric="at_work",
    unit="ms",
    best="low",
    shows=("gap",),
    full={"items": 20},
    quick={"items": 10},
    imports="airflow.sdk",
    rounds=5,
    limit=20.0,
)
WORKLOADS = {START.name: START, REPLACEMENT.name: REPLACEMENT}


def double(number: int) -> int:
    return number * 2


def _first(began: float, first: int, rest: Any) -> Measured:
    first_result = time.perf_counter() - began
    got = [first, *rest]
    check(sorted(got) == [number * 2 for number in range(10)], str(got))
    return {"first_result": first_result}


@START.contestant(IN_TASK, "an @task of a DAG file, run by dag.test(); the function lives in the DAG file; stream()")
def in_task(params: Params) -> Measured:
    return run_task("bench_start.py")


@START.contestant(OURS, "Pipeline(..., chunk_size=1).stream() of a process stage with 2 workers")
def start_ours(params: Params) -> Measured:
    began = time.perf_counter()
    rows = Pipeline(range(10), [Stage(double, kind="process", workers=2)], chunk_size=1).stream()
    measured = _first(began, next(rows), rows)
    return {**measured, "total": time.perf_counter() - began}


def _start_pool(method: str) -> Measured:
    began = time.perf_counter()
    with mp.get_context(method).Pool(2) as pool:
        results = pool.imap_unordered(double, range(10))
        measured = _first(began, next(results), results)
    return {**measured, "total": time.perf_counter() - began}


@START.contestant("Pool, fork", "Pool(2) by fork: what a task must not do (Airflow issue 71707), as the lower bound")
def start_fork(params: Params) -> Measured:
    return _start_pool("fork")


@START.contestant("Pool, spawn", "Pool(2) by spawn, which imports the main module, and with it Airflow, once more")
def start_spawn(params: Params) -> Measured:
    return _start_pool("spawn")


@START.contestant("Pool, forkserver", "Pool(2) by forkserver without preload")
def start_forkserver(params: Params) -> Measured:
    return _start_pool("forkserver")


@START.contestant("ProcessPoolExecutor, spawn", "ProcessPoolExecutor(2) by spawn")
def start_executor(params: Params) -> Measured:
    began = time.perf_counter()
    with ProcessPoolExecutor(2, mp_context=mp.get_context("spawn")) as pool:
        results = pool.map(double, range(10))
        measured = _first(began, next(results), results)
    return {**measured, "total": time.perf_counter() - began}


@START.contestant("joblib", "Parallel(2, generator_unordered), loky")
def start_joblib(params: Params) -> Measured:
    from joblib import Parallel, delayed

    began = time.perf_counter()
    with Parallel(2, return_as="generator_unordered") as parallel:
        results = parallel(delayed(double)(number) for number in range(10))
        measured = _first(began, next(results), results)
    return {**measured, "total": time.perf_counter() - began}


@START.contestant("mpire, spawn", "WorkerPool(2, start_method='spawn')")
def start_mpire(params: Params) -> Measured:
    from mpire import WorkerPool

    began = time.perf_counter()
    with WorkerPool(2, start_method="spawn") as pool:
        results = pool.imap_unordered(double, range(10), chunk_size=1)
        measured = _first(began, next(results), results)
    return {**measured, "total": time.perf_counter() - began}


@START.contestant("ray", "ray.init(2 CPUs) and one task per item")
def start_ray(params: Params) -> Measured:
    import ray

    began = time.perf_counter()
    ray.init(num_cpus=2, include_dashboard=False, logging_level="ERROR", log_to_driver=False)
    task = ray.remote(double)
    busy = [task.remote(number) for number in range(10)]
    measured = _first(began, ray.get(busy[0]), ray.get(busy[1:]))
    ray.shutdown()
    return {**measured, "total": time.perf_counter() - began}


@START.target("first result of a process stage in a real task: <= 0.25 s", 0.25, unit="s", at_most=True, of=IN_TASK)
def first_result(medians: Medians) -> float | None:
    return medians.get(IN_TASK, {}).get("first_result")


# -- replacement ----------------------------------------------------------------------------------------------------

DEADLY = 2


class Diary:
    """Moments, recorded by workers that may be killed at any time. All processes share the monotonic clock."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def note(self, what: str) -> None:
        with self.file.open("a", encoding="utf-8") as file:
            file.write(json.dumps([what, os.getpid(), time.monotonic()]) + "\n")

    def read(self) -> list[list[Any]]:
        return [json.loads(line) for line in self.file.read_text(encoding="utf-8").splitlines()]

    def measured(self) -> Measured:
        notes = self.read()
        killed, pid = next((when, pid) for what, pid, when in notes if what == "kill")
        begun = min(when for what, other, when in notes if what == "begin" and when > killed and other != pid)
        calls = [when for what, other, when in notes if what == "call" and when > killed and other != pid]
        measured = {"gap": (begun - killed) * 1e3}
        return {**measured, "at_work": (min(calls) - killed) * 1e3} if calls else measured


_DIARY = Diary(Path(os.environ.get("BENCH_DIARY", os.devnull)))


def begin() -> None:
    _DIARY.note("begin")


def deadly(number: int) -> int:
    if number == DEADLY and not any(what == "kill" for what, _, _ in _DIARY.read()):
        _DIARY.note("kill")
        os.kill(os.getpid(), signal.SIGKILL)
    _DIARY.note("call")
    return number * 2


def deadly_with_resource(number: int, resource: None) -> int:
    return deadly(number)


def _diary() -> Diary:
    """A diary whose file worker processes find through their environment."""
    file = Path(tempfile.mkstemp(dir=os.environ["BENCH_HOME"])[1])
    os.environ["BENCH_DIARY"] = str(file)
    _DIARY.file = file
    return Diary(file)


@REPLACEMENT.contestant(
    OURS, "Stage(kind='process', workers=1, setup=..., retry=Retry(2, backoff=0)); all results arrive"
)
def replacement_ours(params: Params) -> Measured:
    diary = _diary()
    sink = ListSink()
    retry = Retry(2, backoff=0.0)
    stage = Stage(deadly_with_resource, kind="process", workers=1, setup=begin, retry=retry, name="deadly")
    Pipeline(range(params["items"]), [stage], sink, worker_env={"BENCH_DIARY": str(diary.file)}).run()
    check(sorted(sink.rows) == [number * 2 for number in range(params["items"])], str(sink.rows))
    return diary.measured()


@REPLACEMENT.contestant("pebble", "ProcessPool(1, initializer); the item that died is lost, the others arrive")
def replacement_pebble(params: Params) -> Measured:
    from pebble import ProcessPool

    diary = _diary()
    with ProcessPool(1, initializer=begin) as pool:
        futures = [pool.schedule(deadly, args=[number]) for number in range(params["items"])]
        got = [future.result() for future in futures if future.exception() is None]
    check(len(got) == params["items"] - 1, str(got))
    return diary.measured()


@REPLACEMENT.contestant(
    "Pool", "Pool(1, initializer); the item that died is waited for without end, so its result is not"
)
def replacement_pool(params: Params) -> Measured:
    diary = _diary()
    with mp.Pool(1, initializer=begin) as pool:
        results = [pool.apply_async(deadly, [number]) for number in range(params["items"])]
        results[-1].get(10)
    return diary.measured()


@REPLACEMENT.contestant(
    "joblib (loky), whole executor again", "the executor breaks; it is asked for a new one and does the rest"
)
def replacement_loky(params: Params) -> Measured:
    from loky import get_reusable_executor
    from loky.process_executor import BrokenProcessPool

    diary = _diary()
    env = {"BENCH_DIARY": str(diary.file)}
    left = list(range(params["items"]))
    while left:
        executor = get_reusable_executor(max_workers=1, initializer=begin, env=env, reuse=False)
        try:
            list(executor.map(deadly, left))
            left = []
        except BrokenProcessPool:
            continue
    executor.shutdown()
    return diary.measured()


@REPLACEMENT.target("a replacement worker: <= 10 ms (killed to at work again)", 10.0, unit="ms", at_most=True)
def replaced(medians: Medians) -> float | None:
    return medians.get(OURS, {}).get("at_work")
