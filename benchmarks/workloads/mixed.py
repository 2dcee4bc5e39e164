"""Waiting, computing, waiting: the pipeline of seed 000."""

from __future__ import annotations

import asyncio
import multiprocessing as mp
import time
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing.pool import ThreadPool
from typing import Any

from airflow_parallel_provider import Pipeline, Stage
from benchmarks.common import Count, InMemorySource, burn, dask_running, ray_running
from benchmarks.queues import queued
from benchmarks.spec import OURS, Laps, Measured, Medians, Params, Workload, check

WORK = Workload(
    name="mixed",
    title="Mixed: fetch waits 5 ms, process computes 2 ms, save waits 3 ms",
    what="1 000 items; 8 threads fetch, 2 processes compute, 8 threads save. Bound: 1 000 x 2 ms / 2 = 1 s.",
    timed="steady: first item asked of the source to last result saved; total: with start and end of all workers",
    metric="efficiency",
    unit="of the bound",
    best="high",
    shows=("steady", "total"),
    full={"items": 1000},
    quick={"items": 200},
)
WORKLOADS = {WORK.name: WORK}
FETCH, COMPUTE, SAVE = 0.005, 0.002, 0.003


def fetch(number: int) -> int:
    time.sleep(FETCH)
    return number


def process(number: int) -> int:
    burn(COMPUTE)
    return number * 2


def save(number: int) -> int:
    time.sleep(SAVE)
    return number


def whole(number: int) -> int:
    return save(process(fetch(number)))


def ended(laps: Laps, params: Params, rows: int, total: int) -> Measured:
    items = params["items"]
    check(rows == items and total == items * (items - 1), f"{rows} rows, sum {total}")
    measured = laps.over()
    bound = items * COMPUTE / 2
    return {"efficiency": bound / measured["steady"], "total_efficiency": bound / measured["total"], **measured}


def counted(laps: Laps, params: Params, results: Iterable[int]) -> tuple[int, int]:
    rows = total = 0
    for each in results:
        rows += 1
        total += each
    laps.done()
    return rows, total


@WORK.contestant(OURS, "Stage(fetch, workers=8), Stage(process, kind='process', workers=2), Stage(save, workers=8)")
def ours(params: Params) -> Measured:
    laps = Laps()
    sink = Count(laps)
    stages = [Stage(fetch, workers=8), Stage(process, kind="process", workers=2), Stage(save, workers=8)]
    Pipeline(InMemorySource(laps, range(params["items"])), stages, sink).run()
    return ended(laps, params, sink.rows, sink.sum)


@WORK.contestant(
    "asyncio + executors, by hand",
    "one coroutine per item, at most 64 at a time; ThreadPoolExecutor(8), ProcessPoolExecutor(2) started before",
)
def by_hand(params: Params) -> Measured:
    laps = Laps()

    async def main() -> list[int]:
        loop = asyncio.get_running_loop()
        places = asyncio.Semaphore(64)
        results: list[int] = []

        async def one(number: int) -> None:
            try:
                fetched = await loop.run_in_executor(fetchers, fetch, number)
                done = await loop.run_in_executor(computers, process, fetched)
                results.append(await loop.run_in_executor(savers, save, done))
            finally:
                places.release()

        async with asyncio.TaskGroup() as group:
            for number in laps.source(range(params["items"])):
                await places.acquire()
                group.create_task(one(number))
        laps.done()
        return results

    with ThreadPoolExecutor(8) as fetchers, ThreadPoolExecutor(8) as savers, ProcessPoolExecutor(2) as computers:
        list(computers.map(process, range(4)))
        results = asyncio.run(main())
    return ended(laps, params, len(results), sum(results))


@WORK.contestant(
    "threads -> Pool -> threads, by hand", "ThreadPool(8) -> Pool(2) -> ThreadPool(8), imap_unordered each"
)
def glued_pool(params: Params) -> Measured:
    laps = Laps()
    with mp.Pool(2) as pool, ThreadPool(8) as fetchers, ThreadPool(8) as savers:
        pool.map(process, range(4), chunksize=1)
        fetched = fetchers.imap_unordered(fetch, laps.source(range(params["items"])))
        rows, total = counted(laps, params, savers.imap_unordered(save, pool.imap_unordered(process, fetched)))
    return ended(laps, params, rows, total)


@WORK.contestant(
    "threads -> mpire -> threads, by hand", "ThreadPool(8) -> WorkerPool(2), chunk_size=1 -> ThreadPool(8)"
)
def glued_mpire(params: Params) -> Measured:
    from mpire import WorkerPool

    laps = Laps()
    items = params["items"]
    with WorkerPool(2) as pool, ThreadPool(8) as fetchers, ThreadPool(8) as savers:
        fetched = fetchers.imap_unordered(fetch, laps.source(range(items)))
        computed = pool.imap_unordered(process, fetched, iterable_len=items, chunk_size=1)
        rows, total = counted(laps, params, savers.imap_unordered(save, computed))
    return ended(laps, params, rows, total)


def _spdl(laps: Laps, params: Params, builder: Any) -> Measured:
    pipeline = builder.add_sink(64).build(num_threads=16)
    with pipeline.auto_stop():
        rows, total = counted(laps, params, pipeline)
    return ended(laps, params, rows, total)


@WORK.contestant(
    "spdl, ProcessPoolExecutor",
    "pipe(fetch, concurrency=8).pipe(process, executor=PPE(2), concurrency=4).pipe(save, concurrency=8)",
)
def spdl_executor(params: Params) -> Measured:
    from spdl.pipeline import PipelineBuilder

    laps = Laps()
    with ProcessPoolExecutor(2) as executor:
        list(executor.map(process, range(4)))
        builder = PipelineBuilder().add_source(laps.source(range(params["items"]))).pipe(fetch, concurrency=8)
        builder = builder.pipe(process, executor=executor, concurrency=4).pipe(save, concurrency=8)
        return _spdl(laps, params, builder)


@WORK.contestant(
    "spdl, process region",
    "pipe(fetch, concurrency=8).to(2 processes).pipe(process).to(MAIN_PROCESS).pipe(save, concurrency=8)",
)
def spdl_region(params: Params) -> Measured:
    from spdl.pipeline import PipelineBuilder
    from spdl.pipeline.defs import MAIN_PROCESS, ProcessPoolExecutorConfig

    laps = Laps()
    builder = PipelineBuilder().add_source(laps.source(range(params["items"]))).pipe(fetch, concurrency=8)
    builder = builder.to(ProcessPoolExecutorConfig(max_workers=2)).pipe(process).to(MAIN_PROCESS)
    return _spdl(laps, params, builder.pipe(save, concurrency=8))


@WORK.contestant("pypeln", "thread.map(workers=8) -> process.map(workers=2) -> thread.map(workers=8), maxsize=64 each")
def pypeln(params: Params) -> Measured:
    import pypeln as pl

    laps = Laps()
    stage = pl.thread.map(fetch, laps.source(range(params["items"])), workers=8, maxsize=64)
    stage = pl.process.map(process, stage, workers=2, maxsize=64)
    stage = pl.thread.map(save, stage, workers=8, maxsize=64)
    rows, total = counted(laps, params, stage)
    return ended(laps, params, rows, total)


@WORK.contestant("mpire, whole function", "WorkerPool(8), fetch + process + save in one call, chunk_size=1")
def whole_mpire(params: Params) -> Measured:
    from mpire import WorkerPool

    laps, items = Laps(), params["items"]
    with WorkerPool(8) as pool:
        source = laps.source(range(items))
        rows, total = counted(laps, params, pool.imap_unordered(whole, source, iterable_len=items, chunk_size=1))
    return ended(laps, params, rows, total)


@WORK.contestant("Pool, whole function", "Pool(8), fetch + process + save in one call, chunksize=1")
def whole_pool(params: Params) -> Measured:
    laps = Laps()
    with mp.Pool(8) as pool:
        pool.map(whole, range(8), chunksize=1)
        source = laps.source(range(params["items"]))
        rows, total = counted(laps, params, pool.imap_unordered(whole, source))
    return ended(laps, params, rows, total)


@WORK.contestant("pebble, whole function", "ProcessPool(8), fetch + process + save in one call, chunksize=1")
def whole_pebble(params: Params) -> Measured:
    from pebble import ProcessPool

    laps = Laps()
    with ProcessPool(8) as pool:
        list(pool.map(whole, range(16), chunksize=1).result())
        source = laps.source(range(params["items"]))
        rows, total = counted(laps, params, pool.map(whole, source, chunksize=1).result())
    return ended(laps, params, rows, total)


@WORK.contestant("joblib, whole function", "Parallel(8, generator_unordered), loky, fetch + process + save in one call")
def whole_joblib(params: Params) -> Measured:
    from joblib import Parallel, delayed

    laps = Laps()
    with Parallel(8, return_as="generator_unordered") as parallel:
        list(parallel(delayed(whole)(number) for number in range(16)))
        calls = (delayed(whole)(number) for number in laps.source(range(params["items"])))
        rows, total = counted(laps, params, parallel(calls))
    return ended(laps, params, rows, total)


@WORK.contestant("threads -> ray actors -> threads", "ThreadPool(8), 2 actors with at most 2 calls each, ThreadPool(8)")
def glued_ray(params: Params) -> Measured:
    laps = Laps()
    with ray_running() as ray, ThreadPool(8) as fetchers, ThreadPool(8) as savers:

        @ray.remote
        class Actor:
            def process(self, number: int) -> int:
                return process(number)

        actors = [Actor.remote() for _ in range(2)]
        ray.get([actor.process.remote(0) for actor in actors])

        def computed() -> Iterable[int]:
            free = actors * 2
            busy: dict[Any, Any] = {}
            for number in fetchers.imap_unordered(fetch, laps.source(range(params["items"]))):
                if not free:
                    ready, _ = ray.wait(list(busy))
                    free.append(busy.pop(ready[0]))
                    yield ray.get(ready[0])
                actor = free.pop()
                busy[actor.process.remote(number)] = actor
            yield from (ray.get(each) for each in busy)

        rows, total = counted(laps, params, savers.imap_unordered(save, computed()))
    return ended(laps, params, rows, total)


@WORK.contestant("dask", "LocalCluster of 2 processes with 8 threads each; three client.map in a row")
def dask(params: Params) -> Measured:
    laps = Laps()
    with dask_running(2, 8) as client:
        client.gather(client.map(whole, range(-16, 0), pure=False))
        numbers = list(laps.source(range(params["items"])))
        futures = client.map(fetch, numbers, pure=False)
        futures = client.map(save, client.map(process, futures, pure=False), pure=False)
        rows, total = counted(laps, params, client.gather(futures))
    return ended(laps, params, rows, total)


def queues(params: Params, workers: tuple[int, int, int]) -> Measured:
    laps = Laps()
    results = list(queued(laps, laps.source(range(params["items"])), [fetch, process, save], workers))
    return ended(laps, params, len(results), sum(results))


@WORK.contestant("queues, 1 process per stage", "seed 002: mp.Queue(64) between fetch, process, save; one process each")
def queues_one(params: Params) -> Measured:
    return queues(params, (1, 1, 1))


@WORK.contestant("queues, 8/2/8 processes", "the same design with 8, 2 and 8 processes")
def queues_many(params: Params) -> Measured:
    return queues(params, (8, 2, 8))


@WORK.target("time <= bound / 0.95 (steady)", 0.95)
def steady_efficiency(medians: Medians) -> float | None:
    return medians.get(OURS, {}).get("efficiency")
