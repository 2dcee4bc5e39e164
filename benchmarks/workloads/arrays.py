"""Large arrays to a worker process, one way."""

from __future__ import annotations

import itertools
import multiprocessing as mp
import time
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import shared_memory
from typing import Any

import numpy as np

from airflow_parallel_provider import Pipeline, Stage
from benchmarks.common import Count, dask_running, ray_running
from benchmarks.spec import OURS, Laps, Measured, Medians, Params, Workload, check

MIB8 = 8 * 1024 * 1024
DISTINCT = 4
FLOATS = MIB8 // 8
STRIDE = 512  # one float of every memory page: an array that was never delivered cannot be summed
MEMCPY = "memcpy, warm"

WORK = Workload(
    name="arrays",
    title="8 MB arrays through a process stage, one way",
    what="200 arrays of 8 MiB (4 different ones in turn) to one worker, which reads one number of every page",
    timed="steady: first array asked of the source to last sum back in the parent",
    metric="mb_per_s",
    unit="MB/s",
    best="high",
    shows=("steady", "total"),
    full={"arrays": 200},
    quick={"arrays": 20},
    rounds=5,
    reference=MEMCPY,
)
WORKLOADS = {WORK.name: WORK}


def glance(array: Any) -> float:
    return float(array[::STRIDE].sum())


def arrays(count: int) -> Iterable[Any]:
    made = [np.full(FLOATS, number, dtype=np.float64) for number in range(DISTINCT)]
    return itertools.islice(itertools.cycle(made), count)


def ended(laps: Laps, params: Params, total: float) -> Measured:
    count = params["arrays"]
    expected = sum(number % DISTINCT for number in range(count)) * (FLOATS // STRIDE)
    check(total == expected, f"sum {total}, expected {expected}")
    measured = laps.over()
    return {"mb_per_s": count * MIB8 / 1e6 / measured["steady"], **measured}


def summed(laps: Laps, results: Iterable[float]) -> float:
    total = sum(results)
    laps.done()
    return total


@WORK.contestant(OURS, "Stage(glance, kind='process', workers=1), chunk_size=10")
def ours(params: Params) -> Measured:
    made = arrays(params["arrays"])
    laps = Laps()
    sink = Count(laps)
    Pipeline(laps.source(made), [Stage(glance, kind="process", workers=1)], sink, chunk_size=10).run()
    return ended(laps, params, sink.sum)


@WORK.contestant(MEMCPY, "numpy.copyto between two touched buffers, one thread: the ceiling of anything that copies")
def memcpy(params: Params) -> Measured:
    made = list(arrays(DISTINCT))
    target = np.ones(FLOATS)
    laps = Laps()
    for array in made:
        np.copyto(target, array)
    total = 0.0
    spent = 0.0
    laps.go()
    for array in itertools.islice(itertools.cycle(made), params["arrays"]):
        began = time.perf_counter()
        np.copyto(target, array)
        spent += time.perf_counter() - began
        total += glance(target)
    laps.done()
    measured = ended(laps, params, total)
    return {**measured, "mb_per_s": params["arrays"] * MIB8 / 1e6 / spent}


@WORK.contestant("mp.Queue", "one mp.Queue(2) to the worker, one back for the sums")
def queue(params: Params) -> Measured:
    made = arrays(params["arrays"])
    laps = Laps()
    inbox, outbox = mp.Queue(2), mp.Queue()
    worker = mp.Process(target=_queue_worker, args=(inbox, outbox))
    worker.start()
    for array in laps.source(made):
        inbox.put(array)
    inbox.put(None)
    total = summed(laps, iter(outbox.get, None))
    worker.join()
    return ended(laps, params, total)


def _queue_worker(inbox: Any, outbox: Any) -> None:
    while (array := inbox.get()) is not None:
        outbox.put(glance(array))
    outbox.put(None)


@WORK.contestant("Pipe", "mp.Pipe, send(array), recv(sum)")
def pipe(params: Params) -> Measured:
    made = arrays(params["arrays"])
    laps = Laps()
    mine, theirs = mp.Pipe()
    worker = mp.Process(target=_pipe_worker, args=(theirs,))
    worker.start()
    total = 0.0
    for array in laps.source(made):
        mine.send(array)
        total += mine.recv()
    laps.done()
    mine.send(None)
    worker.join()
    return ended(laps, params, total)


def _pipe_worker(connection: Any) -> None:
    while (array := connection.recv()) is not None:
        connection.send(glance(array))


@WORK.contestant("Pool", "Pool(1).imap")
def pool(params: Params) -> Measured:
    made = arrays(params["arrays"])
    laps = Laps()
    with mp.Pool(1) as workers:
        workers.map(glance, [np.ones(FLOATS)])
        total = summed(laps, workers.imap(glance, laps.source(made)))
    return ended(laps, params, total)


@WORK.contestant("ProcessPoolExecutor", "ProcessPoolExecutor(1).map")
def executor(params: Params) -> Measured:
    made = arrays(params["arrays"])
    laps = Laps()
    with ProcessPoolExecutor(1) as workers:
        list(workers.map(glance, [np.ones(FLOATS)]))
        total = summed(laps, workers.map(glance, laps.source(made)))
    return ended(laps, params, total)


@WORK.contestant("mpire", "WorkerPool(1).imap, chunk_size=1")
def mpire(params: Params) -> Measured:
    from mpire import WorkerPool

    made = arrays(params["arrays"])
    laps = Laps()
    with WorkerPool(1) as workers:
        # One-element tuples: a bare array would be unpacked into arguments.
        source = ((array,) for array in laps.source(made))
        total = summed(laps, workers.imap(glance, source, iterable_len=params["arrays"], chunk_size=1))
    return ended(laps, params, total)


@WORK.contestant("joblib", "Parallel(2, generator), loky, memory-mapped above 1 MB (its default)")
def joblib(params: Params) -> Measured:
    from joblib import Parallel, delayed

    made = arrays(params["arrays"])
    laps = Laps()
    with Parallel(2, return_as="generator") as parallel:
        list(parallel(delayed(glance)(np.ones(FLOATS)) for _ in range(2)))
        # A new array each time, as in a pipeline: joblib would write a known one to its file only once.
        total = summed(laps, parallel(delayed(glance)(array.copy()) for array in laps.source(made)))
    return ended(laps, params, total)


@WORK.contestant("ray", "one actor, ray.put into the object store, 4 arrays under way")
def ray_actor(params: Params) -> Measured:
    made = arrays(params["arrays"])
    laps = Laps()
    with ray_running() as ray:

        @ray.remote
        class Actor:
            def glance(self, array: Any) -> float:
                return glance(array)

        actor = Actor.remote()
        ray.get(actor.glance.remote(ray.put(np.ones(FLOATS))))
        busy: list[Any] = []
        total = 0.0
        for array in laps.source(made):
            if len(busy) == 4:
                total += ray.get(busy.pop(0))
            busy.append(actor.glance.remote(ray.put(array)))
        total += sum(ray.get(busy))
        laps.done()
    return ended(laps, params, total)


@WORK.contestant("dask", "one worker process, scatter + submit")
def dask(params: Params) -> Measured:
    made = arrays(params["arrays"])
    laps = Laps()
    with dask_running(1) as client:
        client.submit(glance, np.ones(FLOATS), pure=False).result()
        total = 0.0
        for array in laps.source(made):
            total += client.submit(glance, client.scatter(array, hash=False), pure=False).result()
        laps.done()
    return ended(laps, params, total)


@WORK.contestant("shared memory, by hand", "4 buffers of 8 MiB made beforehand, copy in, buffer number through a Pipe")
def shared(params: Params) -> Measured:
    made = arrays(params["arrays"])
    laps = Laps()
    buffers = [shared_memory.SharedMemory(create=True, size=MIB8) for _ in range(DISTINCT)]
    views = [np.ndarray(FLOATS, dtype=np.float64, buffer=each.buf) for each in buffers]
    for view in views:
        view[:] = 1.0
    mine, theirs = mp.Pipe()
    worker = mp.Process(target=_shared_worker, args=(theirs, views))
    worker.start()
    total, sent = 0.0, 0
    for number, array in enumerate(laps.source(made)):
        if sent == DISTINCT:
            total += mine.recv()
            sent -= 1
        np.copyto(views[number % DISTINCT], array)
        mine.send(number % DISTINCT)
        sent += 1
    for _ in range(sent):
        total += mine.recv()
    laps.done()
    mine.send(None)
    worker.join()
    del views, view
    for each in buffers:
        each.close()
        each.unlink()
    return ended(laps, params, total)


def _shared_worker(connection: Any, views: list[Any]) -> None:
    while (number := connection.recv()) is not None:
        connection.send(glance(views[number]))


@WORK.target("8 MB arrays: >= 0.6 of a warm memcpy", 0.6)
def of_memcpy(medians: Medians) -> float | None:
    if OURS not in medians or MEMCPY not in medians:
        return None
    return medians[OURS]["mb_per_s"] / medians[MEMCPY]["mb_per_s"]


@WORK.target("8 MB arrays: >= 25 x mp.Queue", 25.0, unit="x")
def of_queue(medians: Medians) -> float | None:
    if OURS not in medians or "mp.Queue" not in medians:
        return None
    return medians[OURS]["mb_per_s"] / medians["mp.Queue"]["mb_per_s"]
