"""Functions that do almost nothing: what remains is the cost of passing items on."""

from __future__ import annotations

import itertools
import multiprocessing as mp
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from typing import Any

from airflow_parallel_provider import Pipeline, Stage
from benchmarks.common import Count, InMemorySource, dask_running, ray_running
from benchmarks.queues import queued
from benchmarks.spec import OURS, Laps, Measured, Medians, Params, Workload, check

TIMED = "steady: first item asked of the source to last result; total: with start and end of all workers"


def add_one_each(numbers: list[int]) -> list[int]:
    return [number + 1 for number in numbers]


def batches(items: Iterable[int], size: int) -> Iterator[list[int]]:
    iterator = iter(items)
    while batch := list(itertools.islice(iterator, size)):
        yield batch


def generated(laps: Laps, items: int) -> Iterator[int]:
    """A generator as source: the engine cannot know how long its next item takes."""
    laps.go()
    yield from range(items)


def counted(laps: Laps, results: Iterable[list[int]]) -> tuple[int, int]:
    rows = total = 0
    for batch in results:
        rows += len(batch)
        total += sum(batch)
    laps.done()
    return rows, total


def ended(laps: Laps, params: Params, rows: int, total: int) -> Measured:
    items = params["items"]
    check(rows == items and total == items * (items + 1) // 2, f"{rows} rows, sum {total}")
    measured = laps.over()
    return {"rate": items / measured["steady"], "total_rate": items / measured["total"], **measured}


def workload(name: str, title: str, what: str, *, goal: float, goal_text: str, reference: str) -> Workload:
    work = Workload(
        name=name, title=title, what=what, timed=TIMED, metric="rate", unit="items/s", best="high",
        shows=("total_rate", "steady", "total"), full={"items": 200_000}, quick={"items": 20_000}, rounds=5,
        reference=reference,
    )  # fmt: skip

    def value(medians: Medians) -> float | None:
        if OURS not in medians or reference not in medians:
            return None
        return medians[OURS]["rate"] / medians[reference]["rate"]

    work.target(f"trivial function, {goal_text}: >= {goal:g} x {reference} (steady)", goal, unit="x")(value)
    return work


def batch_workload(size: int, goal: float) -> Workload:
    """A workload in which all contestants get the same batch function, and batches of the same size."""
    what = f"200 000 items, 2 worker processes; the function takes a list of {size} and returns a list"
    title = f"Trivial batch function, batches of {size}"
    work = workload(f"trivial-{size}", title, what, goal=goal, goal_text=f"batches of {size}", reference="Pool")

    @work.contestant(OURS, f"Stage(function, kind='process', workers=2, batch_size={size})")
    def ours(params: Params) -> Measured:
        laps = Laps()
        sink = Count(laps)
        stage = Stage(add_one_each, kind="process", workers=2, batch_size=size)
        Pipeline(InMemorySource(laps, range(params["items"])), [stage], sink).run()
        return ended(laps, params, sink.rows, sink.sum)

    @work.contestant(f"{OURS}, chunks of 10 000", f"the same with batch_size={size}, chunk_size=10000")
    def ours_chunks(params: Params) -> Measured:
        laps = Laps()
        sink = Count(laps)
        stage = Stage(add_one_each, kind="process", workers=2, batch_size=size)
        Pipeline(InMemorySource(laps, range(params["items"])), [stage], sink, chunk_size=10_000).run()
        return ended(laps, params, sink.rows, sink.sum)

    @work.contestant(f"{OURS}, from a generator", "the same with a generator as source, whose next item may take long")
    def ours_generator(params: Params) -> Measured:
        laps = Laps()
        sink = Count(laps)
        stage = Stage(add_one_each, kind="process", workers=2, batch_size=size)
        Pipeline(generated(laps, params["items"]), [stage], sink).run()
        return ended(laps, params, sink.rows, sink.sum)

    _pools(work, size)
    _pipelines(work, size)
    _clusters(work, size)
    return work


def _pools(work: Workload, size: int) -> None:
    @work.contestant("Pool", "Pool(2).imap_unordered over batches, chunksize=1")
    def pool(params: Params) -> Measured:
        laps = Laps()
        with mp.Pool(2) as workers:
            workers.map(add_one_each, [[1]] * 4, chunksize=1)
            source = batches(laps.source(range(params["items"])), size)
            rows, total = counted(laps, workers.imap_unordered(add_one_each, source))
        return ended(laps, params, rows, total)

    @work.contestant("ProcessPoolExecutor", "ProcessPoolExecutor(2).map over batches, chunksize=1")
    def executor(params: Params) -> Measured:
        laps = Laps()
        with ProcessPoolExecutor(2) as workers:
            list(workers.map(add_one_each, [[1]] * 4))
            source = batches(laps.source(range(params["items"])), size)
            rows, total = counted(laps, workers.map(add_one_each, source))
        return ended(laps, params, rows, total)

    @work.contestant("mpire", "WorkerPool(2).imap_unordered over batches, chunk_size=1")
    def mpire(params: Params) -> Measured:
        from mpire import WorkerPool

        laps, items = Laps(), params["items"]
        with WorkerPool(2) as workers:
            # A list would be unpacked into arguments: a tuple of one element is the batch.
            source = ((batch,) for batch in batches(laps.source(range(items)), size))
            count = -(-items // size)
            results = workers.imap_unordered(add_one_each, source, iterable_len=count, chunk_size=1)
            rows, total = counted(laps, results)
        return ended(laps, params, rows, total)

    @work.contestant("joblib", "Parallel(2, generator_unordered, batch_size=1), loky, over batches")
    def joblib(params: Params) -> Measured:
        from joblib import Parallel, delayed

        laps = Laps()
        with Parallel(2, return_as="generator_unordered", batch_size=1) as parallel:
            list(parallel(delayed(add_one_each)([1]) for _ in range(4)))
            source = batches(laps.source(range(params["items"])), size)
            rows, total = counted(laps, parallel(delayed(add_one_each)(batch) for batch in source))
        return ended(laps, params, rows, total)

    @work.contestant("pebble", "ProcessPool(2).map over batches, chunksize=1")
    def pebble(params: Params) -> Measured:
        from pebble import ProcessPool

        laps = Laps()
        with ProcessPool(2) as workers:
            list(workers.map(add_one_each, [[1]] * 4).result())
            source = batches(laps.source(range(params["items"])), size)
            rows, total = counted(laps, workers.map(add_one_each, source).result())
        return ended(laps, params, rows, total)


def _pipelines(work: Workload, size: int) -> None:
    @work.contestant("pypeln", "process.map(workers=2, maxsize=64) over batches")
    def pypeln(params: Params) -> Measured:
        import pypeln as pl

        laps = Laps()
        source = batches(laps.source(range(params["items"])), size)
        rows, total = counted(laps, pl.process.map(add_one_each, source, workers=2, maxsize=64))
        return ended(laps, params, rows, total)

    @work.contestant("spdl", "pipe(function, executor=ProcessPoolExecutor(2), concurrency=4), source gives batches")
    def spdl(params: Params) -> Measured:
        from spdl.pipeline import PipelineBuilder

        laps = Laps()
        with ProcessPoolExecutor(2) as workers:
            list(workers.map(add_one_each, [[1]] * 4))
            builder = PipelineBuilder().add_source(batches(laps.source(range(params["items"])), size))
            builder = builder.pipe(add_one_each, executor=workers, concurrency=4).add_sink(64)
            pipeline = builder.build(num_threads=2)
            with pipeline.auto_stop():
                rows, total = counted(laps, pipeline)
        return ended(laps, params, rows, total)

    @work.contestant("queues, 1 process", "seed 002: mp.Queue(64) of batches, one process for the stage")
    def queue(params: Params) -> Measured:
        laps = Laps()
        source = batches(laps.source(range(params["items"])), size)
        rows, total = counted(laps, queued(laps, source, [add_one_each], [1]))
        return ended(laps, params, rows, total)


def _clusters(work: Workload, size: int) -> None:
    @work.contestant("ray", "2 CPUs, one task per batch, at most 64 under way", limit=90)
    def ray_tasks(params: Params) -> Measured:
        laps = Laps()
        with ray_running() as ray:
            task = ray.remote(add_one_each)
            ray.get([task.remote([1]) for _ in range(4)])

            def results() -> Iterator[list[int]]:
                busy: list[Any] = []
                for batch in batches(laps.source(range(params["items"])), size):
                    if len(busy) >= 64:
                        ready, busy = ray.wait(busy)
                        yield ray.get(ready[0])
                    busy.append(task.remote(batch))
                yield from ray.get(busy)

            rows, total = counted(laps, results())
        return ended(laps, params, rows, total)

    @work.contestant("dask", "LocalCluster of 2 processes, client.map over batches", limit=90)
    def dask(params: Params) -> Measured:
        laps = Laps()
        with dask_running() as client:
            client.gather(client.map(add_one_each, [[1]] * 4, pure=False))
            source = list(batches(laps.source(range(params["items"])), size))
            rows, total = counted(laps, client.gather(client.map(add_one_each, source, pure=False)))
        return ended(laps, params, rows, total)


WORKLOADS = {work.name: work for work in (batch_workload(1000, 2.0), batch_workload(100, 1.5))}
