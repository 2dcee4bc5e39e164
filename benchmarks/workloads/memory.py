"""Ten million items: memory must not grow with their number."""

from __future__ import annotations

import multiprocessing as mp
import time
from pathlib import Path

from airflow_parallel_provider import Pipeline, Stage
from benchmarks.common import Count, InMemorySource
from benchmarks.spec import OURS, Laps, Measured, Medians, Params, Workload, check

WORK = Workload(
    name="memory",
    title="Ten million items through three stages",
    what="thread -> process -> thread, single trivial items; the same with a hundred thousand items is the reference",
    timed="peak: largest resident memory of the parent plus that of each worker, as the kernel kept it",
    metric="peak_mib",
    unit="MiB",
    best="low",
    shows=("seconds_wall", "parent_mib", "items_per_second"),
    full={"few": 100_000, "many": 10_000_000},
    quick={"few": 20_000, "many": 200_000},
    rounds=2,
    limit=900.0,
)
FEW, MANY = f"{OURS}, 100 thousand", f"{OURS}, 10 million"
WORK.reference = FEW
WORKLOADS = {WORK.name: WORK}


def add_one(number: int) -> int:
    return number + 1


def double(number: int) -> int:
    return number * 2


def own_peak_mib() -> float:
    """Peak memory of this program alone: `ru_maxrss` also counts the memory of the process before its exec."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(next(line for line in status.splitlines() if line.startswith("VmHWM:")).split()[1]) / 1024


def run_ours(items: int) -> Measured:
    laps = Laps()
    sink = Count(laps)
    stages = [
        Stage(add_one, workers=2),
        Stage(double, kind="process", workers=2),
        Stage(add_one, workers=2, name="last"),
    ]
    began = time.perf_counter()
    report = Pipeline(InMemorySource(laps, range(items)), stages, sink).run()
    seconds = time.perf_counter() - began
    check(sink.rows == items and sink.sum == items * (items - 1) + 3 * items, f"{sink.rows} rows, sum {sink.sum}")
    parent = own_peak_mib()
    return {
        "peak_mib": max(report.peak_rss_bytes / 2**20, parent),
        "parent_mib": parent,
        "seconds_wall": seconds,
        "items_per_second": items / seconds,
    }


@WORK.contestant(FEW, "Stage(workers=2) -> Stage(kind='process', workers=2) -> Stage(workers=2), 100 000 items")
def few(params: Params) -> Measured:
    return run_ours(params["few"])


@WORK.contestant(MANY, "the same with 10 000 000 items")
def many(params: Params) -> Measured:
    return run_ours(params["many"])


def run_pool(items: int) -> Measured:
    began = time.perf_counter()
    with mp.Pool(2) as pool:
        rows = sum(1 for _ in pool.imap_unordered(double, range(items), chunksize=1000))
    check(rows == items, f"{rows} rows")
    seconds = time.perf_counter() - began
    parent = own_peak_mib()
    return {"peak_mib": parent, "parent_mib": parent, "seconds_wall": seconds, "items_per_second": items / seconds}


@WORK.contestant("Pool, 100 thousand", "Pool(2).imap_unordered, chunksize=1000, one stage, 100 000 items; parent only")
def pool_few(params: Params) -> Measured:
    return run_pool(params["few"])


@WORK.contestant("Pool, 10 million", "the same with 10 000 000 items")
def pool_many(params: Params) -> Measured:
    return run_pool(params["many"])


@WORK.target(
    "10 million items, 3 stages: peak memory <= 1.05 x that of 100 thousand", 1.05, unit="x", at_most=True, of=MANY
)
def growth(medians: Medians) -> float | None:
    if FEW not in medians or MANY not in medians:
        return None
    return medians[MANY]["peak_mib"] / medians[FEW]["peak_mib"]
