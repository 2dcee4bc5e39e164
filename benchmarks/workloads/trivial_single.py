"""A function that does almost nothing, one item per call: what remains is the cost of passing items on."""

from __future__ import annotations

import multiprocessing as mp
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor

from airflow_parallel_provider import Pipeline, Stage
from benchmarks.common import Count, InMemorySource
from benchmarks.spec import OURS, Laps, Measured, Params
from benchmarks.workloads.trivial import ended, generated, workload


def add_one(number: int) -> int:
    return number + 1


SINGLE = workload(
    "trivial-single",
    "Trivial function, single items",
    "200 000 items, 2 worker processes; the function takes one item; grouping is left to the library unless said",
    goal=10.0,
    goal_text="single items",
    reference="Pool, chunksize=1",
)


@SINGLE.contestant(OURS, "Stage(function, kind='process', workers=2)")
def single_ours(params: Params) -> Measured:
    laps = Laps()
    sink = Count(laps)
    Pipeline(InMemorySource(laps, range(params["items"])), [Stage(add_one, kind="process", workers=2)], sink).run()
    return ended(laps, params, sink.rows, sink.sum)


@SINGLE.contestant(f"{OURS}, chunks of 10 000", "Stage(function, kind='process', workers=2), chunk_size=10000")
def single_ours_chunks(params: Params) -> Measured:
    laps = Laps()
    sink = Count(laps)
    stage = Stage(add_one, kind="process", workers=2)
    Pipeline(InMemorySource(laps, range(params["items"])), [stage], sink, chunk_size=10_000).run()
    return ended(laps, params, sink.rows, sink.sum)


@SINGLE.contestant(f"{OURS}, from a generator", "the first with a generator as source, whose next item may take long")
def single_ours_generator(params: Params) -> Measured:
    laps = Laps()
    sink = Count(laps)
    stage = Stage(add_one, kind="process", workers=2)
    Pipeline(generated(laps, params["items"]), [stage], sink).run()
    return ended(laps, params, sink.rows, sink.sum)


def fewer(params: Params) -> Params:
    """A tenth of the items, for libraries that would take minutes: the rate is compared, not the time."""
    return {**params, "items": params["items"] // 10}


def _single_pool(params: Params, chunksize: int) -> Measured:
    laps = Laps()
    with mp.Pool(2) as workers:
        workers.map(add_one, [1] * 4, chunksize=1)
        rows, total = _sum(laps, workers.imap_unordered(add_one, laps.source(range(params["items"])), chunksize))
    return ended(laps, params, rows, total)


def _sum(laps: Laps, results: Iterable[int]) -> tuple[int, int]:
    rows = total = 0
    for each in results:
        rows += 1
        total += each
    laps.done()
    return rows, total


@SINGLE.contestant("Pool, chunksize=1", "Pool(2).imap_unordered, chunksize=1 (its default)")
def single_pool(params: Params) -> Measured:
    return _single_pool(params, 1)


@SINGLE.contestant("Pool, chunksize=1000", "Pool(2).imap_unordered, chunksize=1000 chosen by the user")
def single_pool_chunks(params: Params) -> Measured:
    return _single_pool(params, 1000)


@SINGLE.contestant("Pool.map", "Pool(2).map, automatic chunksize, all items in a list")
def single_pool_map(params: Params) -> Measured:
    laps = Laps()
    with mp.Pool(2) as workers:
        workers.map(add_one, [1] * 4, chunksize=1)
        rows, total = _sum(laps, workers.map(add_one, laps.source(range(params["items"]))))
    return ended(laps, params, rows, total)


@SINGLE.contestant(
    "ProcessPoolExecutor, chunksize=1000", "ProcessPoolExecutor(2).map, chunksize=1000 chosen by the user"
)
def single_executor(params: Params) -> Measured:
    laps = Laps()
    with ProcessPoolExecutor(2) as workers:
        list(workers.map(add_one, [1] * 4))
        results = workers.map(add_one, laps.source(range(params["items"])), chunksize=1000)
        rows, total = _sum(laps, results)
    return ended(laps, params, rows, total)


@SINGLE.contestant("mpire", "WorkerPool(2).imap_unordered, automatic chunk size; a tenth of the items")
def single_mpire(params: Params) -> Measured:
    params = fewer(params)
    from mpire import WorkerPool

    laps, items = Laps(), params["items"]
    with WorkerPool(2) as workers:
        source = laps.source(range(items))
        rows, total = _sum(laps, workers.imap_unordered(add_one, source, iterable_len=items))
    return ended(laps, params, rows, total)


@SINGLE.contestant("joblib", "Parallel(2, generator_unordered), loky, automatic batches", limit=120)
def single_joblib(params: Params) -> Measured:
    from joblib import Parallel, delayed

    laps = Laps()
    with Parallel(2, return_as="generator_unordered") as parallel:
        list(parallel(delayed(add_one)(1) for _ in range(4)))
        source = laps.source(range(params["items"]))
        rows, total = _sum(laps, parallel(delayed(add_one)(number) for number in source))
    return ended(laps, params, rows, total)


@SINGLE.contestant("pebble", "ProcessPool(2).map, chunksize=1 (its default); a tenth of the items", limit=120)
def single_pebble(params: Params) -> Measured:
    params = fewer(params)
    from pebble import ProcessPool

    laps = Laps()
    with ProcessPool(2) as workers:
        list(workers.map(add_one, [1] * 4).result())
        source = laps.source(range(params["items"]))
        rows, total = _sum(laps, workers.map(add_one, source).result())
    return ended(laps, params, rows, total)


@SINGLE.contestant("pypeln", "process.map(workers=2, maxsize=1000); a tenth of the items", limit=120)
def single_pypeln(params: Params) -> Measured:
    params = fewer(params)
    import pypeln as pl

    laps = Laps()
    stage = pl.process.map(add_one, laps.source(range(params["items"])), workers=2, maxsize=1000)
    rows, total = _sum(laps, stage)
    return ended(laps, params, rows, total)


@SINGLE.contestant("spdl, process region", ".to(2 processes, buffer_size=1000).pipe(function); a tenth", limit=120)
def single_spdl(params: Params) -> Measured:
    params = fewer(params)
    from spdl.pipeline import PipelineBuilder
    from spdl.pipeline.defs import MAIN_PROCESS, ProcessPoolExecutorConfig

    laps = Laps()
    builder = PipelineBuilder().add_source(laps.source(range(params["items"])))
    builder = builder.to(ProcessPoolExecutorConfig(max_workers=2), buffer_size=1000).pipe(add_one)
    pipeline = builder.to(MAIN_PROCESS, buffer_size=1000).add_sink(1000).build(num_threads=2)
    with pipeline.auto_stop():
        rows, total = _sum(laps, pipeline)
    return ended(laps, params, rows, total)


@SINGLE.contestant("one process, no library", "a for loop in the parent: what two processes have to beat")
def single_loop(params: Params) -> Measured:
    laps = Laps()
    rows, total = _sum(laps, (add_one(number) for number in laps.source(range(params["items"]))))
    return ended(laps, params, rows, total)


WORKLOADS = {SINGLE.name: SINGLE}
