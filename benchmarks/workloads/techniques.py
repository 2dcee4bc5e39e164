"""The benchmark table of seeds 001 and 002: four techniques on one four-step workload, and this engine."""

from __future__ import annotations

import itertools
import multiprocessing as mp
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from airflow_parallel_provider import Pipeline, Stage
from benchmarks.common import Count, InMemorySource, burn
from benchmarks.queues import queued
from benchmarks.spec import OURS, Laps, Measured, Medians, Params, Workload, check

LOOP, POOL, QUEUED, BATCHED = "single-process loop", "multiprocessing.Pool", "queued pipeline", "batching + pipeline"
BATCH = 100
FETCH, PARSE, SAVE = 0.005, 0.0005, 0.0035
"""Seconds: waiting per call, computing per record, waiting per call."""
WEIGHTS = np.linspace(0.0, 1.0, 10_000)
WEIGHT_LIST: list[float] = WEIGHTS.tolist()

WORK = Workload(
    name="techniques",
    title="The four techniques of the seeds on one 4-step workload",
    what=(
        "fetch waits 5 ms per call, parse computes 0.5 ms per record, score sums over 10 000 weights (a Python loop "
        "per record, NumPy in a batch), save waits 3.5 ms per call. Single loop: about 15 % CPU, as in the seed. Two "
        "worker processes per stage that computes; batches of 100. The loop does every 40th record, its time is scaled."
    ),
    timed="steady: first record asked of the source to last result",
    metric="speedup",
    unit="x the loop",
    best="high",
    shows=("steady", "total", "of_bound", "cpu_use"),
    full={"items": 20_000},
    quick={"items": 2_000},
    rounds=5,
    limit=180.0,
)
WORKLOADS = {WORK.name: WORK}
LOOP_SECONDS_PER_RECORD = FETCH + PARSE + SAVE  # without the score, which is measured


def expected(number: int) -> float:
    value = float(number % 97)
    return round(float(np.sum((value - WEIGHTS) * (value - WEIGHTS))), 3)


# -- the four steps, for one record and for a batch -----------------------------------------------------------------


def fetch(number: int) -> int:
    time.sleep(FETCH)
    return number


def parse(number: int) -> float:
    burn(PARSE)
    return float(number % 97)


def score(value: float) -> float:
    total = 0.0
    for weight in WEIGHT_LIST:
        distance = value - weight
        total += distance * distance
    return round(total, 3)


def save(value: float) -> float:
    time.sleep(SAVE)
    return value


def whole(number: int) -> float:
    return save(score(parse(fetch(number))))


def fetch_batch(numbers: list[int]) -> list[int]:
    time.sleep(FETCH)
    return numbers


def parse_batch(numbers: list[int]) -> list[float]:
    burn(PARSE * len(numbers))
    return [float(number % 97) for number in numbers]


def score_batch(values: list[float]) -> list[float]:
    return [round(float(np.dot(distance, distance)), 3) for distance in (value - WEIGHTS for value in values)]


def save_batch(values: list[float]) -> list[float]:
    time.sleep(SAVE)
    return values


def compute_batch(numbers: list[int]) -> list[float]:
    return score_batch(parse_batch(numbers))


# -- accounting -----------------------------------------------------------------------------------------------------


def per_record(function: Callable[[], Any], records: int) -> float:
    began = time.thread_time()
    function()
    return (time.thread_time() - began) / records


def ended(laps: Laps, items: int, rows: int, total: float, *, done: int | None = None) -> Measured:
    """Speed-up over the loop, and the share of the bound (CPU of the batch functions on two cores)."""
    done = done or items
    whole_rounds, rest = divmod(done, 97)
    table = [expected(number) for number in range(97)]
    wanted = whole_rounds * sum(table) + sum(table[:rest])
    check(rows == done and abs(total - wanted) < 1e-3 * done, f"{rows} rows, sum {total}, expected {wanted}")
    measured = laps.over()
    loop = LOOP_SECONDS_PER_RECORD + per_record(lambda: [score(float(each)) for each in range(97)], 97)
    cpu = PARSE + per_record(lambda: score_batch([float(each % 97) for each in range(970)]), 970)
    return {
        "speedup": loop * done / measured["steady"],
        "of_bound": cpu * done / 2 / measured["steady"],
        "loop_seconds": loop * items,
        **measured,
    }


def summed(laps: Laps, results: Iterable[float]) -> tuple[int, float]:
    rows, total = 0, 0.0
    for each in results:
        rows += 1
        total += each
    laps.done()
    return rows, total


def batches(items: Iterable[int]) -> Iterator[list[int]]:
    iterator = iter(items)
    while batch := list(itertools.islice(iterator, BATCH)):
        yield batch


# -- the techniques -------------------------------------------------------------------------------------------------


@WORK.contestant(
    OURS, "fetch: 4 threads, parse + score: 2 processes, save: 4 threads; batch_size=100 each, chunk_size=1000"
)
def ours(params: Params) -> Measured:
    laps = Laps()
    sink = Count(laps)
    stages = [
        Stage(fetch_batch, workers=4, batch_size=BATCH),
        Stage(compute_batch, kind="process", workers=2, batch_size=BATCH),
        Stage(save_batch, workers=4, batch_size=BATCH),
    ]
    report = Pipeline(InMemorySource(laps, range(params["items"])), stages, sink).run()
    measured = ended(laps, params["items"], sink.rows, sink.sum)
    return {**measured, "cpu_use": report.cpu_seconds / (2 * report.seconds)}


@WORK.contestant(f"{OURS}, four stages", "the same with parse and score as two process stages of 2 workers each")
def ours_four(params: Params) -> Measured:
    laps = Laps()
    sink = Count(laps)
    stages = [
        Stage(fetch_batch, workers=4, batch_size=BATCH),
        Stage(parse_batch, kind="process", workers=2, batch_size=BATCH),
        Stage(score_batch, kind="process", workers=2, batch_size=BATCH),
        Stage(save_batch, workers=4, batch_size=BATCH),
    ]
    report = Pipeline(InMemorySource(laps, range(params["items"])), stages, sink).run()
    measured = ended(laps, params["items"], sink.rows, sink.sum)
    return {**measured, "cpu_use": report.cpu_seconds / (2 * report.seconds)}


@WORK.contestant(LOOP, "for record in records: save(score(parse(fetch(record))))")
def loop(params: Params) -> Measured:
    items = params["items"] // 40
    laps = Laps()
    before = time.process_time()
    rows, total = summed(laps, (whole(number) for number in laps.source(range(items))))
    used = time.process_time() - before
    measured = ended(laps, params["items"], rows, total, done=items)
    return {**measured, "cpu_use": used / measured["steady"] / 2}


@WORK.contestant(POOL, "Pool(2).imap_unordered of the four steps in one function, chunksize=10; every 10th record")
def pool(params: Params) -> Measured:
    items = params["items"] // 10
    laps = Laps()
    with mp.Pool(2) as workers:
        workers.map(score, [1.0] * 4, chunksize=1)
        rows, total = summed(laps, workers.imap_unordered(whole, laps.source(range(items)), 10))
    return ended(laps, params["items"], rows, total, done=items)


@WORK.contestant(QUEUED, "seed 002: four stages of 2 processes, mp.Queue(64) between them; every 10th record")
def queued_single(params: Params) -> Measured:
    items = params["items"] // 10
    laps = Laps()
    rows, total = 0, 0.0
    for each in queued(laps, laps.source(range(items)), [fetch, parse, score, save], [2, 2, 2, 2]):
        rows += 1
        total += each
    return ended(laps, params["items"], rows, total, done=items)


@WORK.contestant(BATCHED, "seed 002: the same four stages with batch functions and batches of 100")
def queued_batches(params: Params) -> Measured:
    laps = Laps()
    rows, total = 0, 0.0
    source = batches(laps.source(range(params["items"])))
    for batch in queued(laps, source, [fetch_batch, parse_batch, score_batch, save_batch], [2, 2, 2, 2]):
        rows += len(batch)
        total += sum(batch)
    return ended(laps, params["items"], rows, total)


@WORK.target("the seeds' workload: >= 23 x the single-process loop", 23.0, unit="x")
def speedup(medians: Medians) -> float | None:
    if OURS not in medians or LOOP not in medians:
        return None
    return medians[OURS]["speedup"] / medians[LOOP]["speedup"]


@WORK.target("the seeds' workload: CPU use >= 95 % of the bound", 0.95)
def of_bound(medians: Medians) -> float | None:
    return medians.get(OURS, {}).get("of_bound")


@WORK.target("the seeds' order: loop < Pool < queued < batched (steps kept, of 3)", 3.0, of="")
def order(medians: Medians) -> float | None:
    if any(name not in medians for name in (LOOP, POOL, QUEUED, BATCHED)):
        return None
    speeds = [medians[name]["speedup"] for name in (LOOP, POOL, QUEUED, BATCHED)]
    return float(sum(slow < fast for slow, fast in itertools.pairwise(speeds)))
