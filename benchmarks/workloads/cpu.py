"""Computing only: one millisecond per item, without batches."""

from __future__ import annotations

import multiprocessing as mp
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor

from airflow_parallel_provider import Pipeline, Stage
from benchmarks.common import Count, InMemorySource, burn, dask_running, ray_running
from benchmarks.spec import OURS, Laps, Measured, Medians, Params, Workload, check

WORK = Workload(
    name="cpu",
    title="Computing only: 1 ms of CPU per item, single items",
    what="2 000 items, 2 worker processes. The grouping of calls is left to each library's default. Bound: 1 s.",
    timed="steady: first item asked of the source to last result; total: with start and end of all workers",
    metric="efficiency",
    unit="of 2 cores",
    best="high",
    shows=("steady", "total"),
    full={"items": 2000},
    quick={"items": 300},
)
WORKLOADS = {WORK.name: WORK}
COMPUTE = 0.001


def process(number: int) -> int:
    burn(COMPUTE)
    return number * 2


def ended(laps: Laps, params: Params, results: Iterable[int]) -> Measured:
    got = list(results)
    return totalled(laps, params, len(got), sum(got))


def totalled(laps: Laps, params: Params, rows: int, total: int) -> Measured:
    items = params["items"]
    check(rows == items and total == items * (items - 1), f"{rows} rows, sum {total}")
    measured = laps.over()
    bound = items * COMPUTE / 2
    return {"efficiency": bound / measured["steady"], "total_efficiency": bound / measured["total"], **measured}


@WORK.contestant(OURS, "Stage(process, kind='process', workers=2)")
def ours(params: Params) -> Measured:
    laps = Laps()
    sink = Count(laps)
    Pipeline(InMemorySource(laps, range(params["items"])), [Stage(process, kind="process", workers=2)], sink).run()
    return totalled(laps, params, sink.rows, sink.sum)


@WORK.contestant("Pool", "Pool(2).imap_unordered, chunksize=1 (its default)")
def pool(params: Params) -> Measured:
    laps = Laps()
    with mp.Pool(2) as workers:
        workers.map(process, range(4), chunksize=1)
        got = list(workers.imap_unordered(process, laps.source(range(params["items"]))))
        laps.done()
    return ended(laps, params, got)


@WORK.contestant("Pool.map", "Pool(2).map, automatic chunksize, all items in a list")
def pool_map(params: Params) -> Measured:
    laps = Laps()
    with mp.Pool(2) as workers:
        workers.map(process, range(4), chunksize=1)
        got = workers.map(process, laps.source(range(params["items"])))
        laps.done()
    return ended(laps, params, got)


@WORK.contestant("ProcessPoolExecutor", "ProcessPoolExecutor(2).map, chunksize=1 (its default)")
def executor(params: Params) -> Measured:
    laps = Laps()
    with ProcessPoolExecutor(2) as workers:
        list(workers.map(process, range(4)))
        got = list(workers.map(process, laps.source(range(params["items"]))))
        laps.done()
    return ended(laps, params, got)


@WORK.contestant("mpire", "WorkerPool(2).imap_unordered, automatic chunk size (its default)")
def mpire(params: Params) -> Measured:
    from mpire import WorkerPool

    laps, items = Laps(), params["items"]
    with WorkerPool(2) as workers:
        got = list(workers.imap_unordered(process, laps.source(range(items)), iterable_len=items))
        laps.done()
    return ended(laps, params, got)


@WORK.contestant("joblib", "Parallel(2, generator_unordered), loky, automatic batches (its default)")
def joblib(params: Params) -> Measured:
    from joblib import Parallel, delayed

    laps = Laps()
    with Parallel(2, return_as="generator_unordered") as parallel:
        list(parallel(delayed(process)(number) for number in range(4)))
        got = list(parallel(delayed(process)(number) for number in laps.source(range(params["items"]))))
        laps.done()
    return ended(laps, params, got)


@WORK.contestant("pebble", "ProcessPool(2).map, chunksize=1 (its default)")
def pebble(params: Params) -> Measured:
    from pebble import ProcessPool

    laps = Laps()
    with ProcessPool(2) as workers:
        list(workers.map(process, range(4)).result())
        got = list(workers.map(process, laps.source(range(params["items"]))).result())
        laps.done()
    return ended(laps, params, got)


@WORK.contestant("pypeln", "process.map(workers=2, maxsize=64)")
def pypeln(params: Params) -> Measured:
    import pypeln as pl

    laps = Laps()
    got = list(pl.process.map(process, laps.source(range(params["items"])), workers=2, maxsize=64))
    laps.done()
    return ended(laps, params, got)


@WORK.contestant("spdl", "pipe(process, executor=ProcessPoolExecutor(2), concurrency=4)")
def spdl(params: Params) -> Measured:
    from spdl.pipeline import PipelineBuilder

    laps = Laps()
    with ProcessPoolExecutor(2) as workers:
        list(workers.map(process, range(4)))
        builder = PipelineBuilder().add_source(laps.source(range(params["items"])))
        builder = builder.pipe(process, executor=workers, concurrency=4).add_sink(64)
        pipeline = builder.build(num_threads=2)
        with pipeline.auto_stop():
            got = list(pipeline)
            laps.done()
    return ended(laps, params, got)


@WORK.contestant("ray", "2 CPUs, one task per item, at most 64 under way")
def ray_tasks(params: Params) -> Measured:
    laps = Laps()
    with ray_running() as ray:
        task = ray.remote(process)
        ray.get([task.remote(number) for number in range(4)])
        got, busy = [], []
        for number in laps.source(range(params["items"])):
            if len(busy) >= 64:
                ready, busy = ray.wait(busy)
                got += ray.get(ready)
            busy.append(task.remote(number))
        got += ray.get(busy)
        laps.done()
    return ended(laps, params, got)


@WORK.contestant("dask", "LocalCluster of 2 processes with 1 thread each, client.map, one task per item")
def dask(params: Params) -> Measured:
    laps = Laps()
    with dask_running() as client:
        client.gather(client.map(process, range(-4, 0), pure=False))
        got = client.gather(client.map(process, list(laps.source(range(params["items"]))), pure=False))
        laps.done()
    return ended(laps, params, got)


@WORK.target("efficiency >= 0.97 of 2 cores (steady)", 0.97)
def steady_efficiency(medians: Medians) -> float | None:
    return medians.get(OURS, {}).get("efficiency")
