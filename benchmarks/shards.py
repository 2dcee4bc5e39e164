"""What shards cost and bring: ``.venv/bin/python -m benchmarks.shards``, with PostgreSQL on 127.0.0.1.

Items only wait. Each shard is a process of its own, forked before anything is connected. The ways take turns; printed
are medians, in seconds of wall time, with the smallest and the largest, and the median of the CPU time of all
processes: on a machine with other work that is the number to compare.

* ``overhead``: one load as one run, and as ``begin``, one shard, ``finish``.
* ``scale``: the same load over 1, 2, 4 and 8 shards.
* ``balance``: four shards, one of them ten times slower, with and without help of the others.
* ``simulation``: ``Pipeline.simulate`` predicts from a run of a minute without shards what 2, 4 and 8 shards take, and
  8 of which four run at a time; then these are run. Printed is the error.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import resource
import statistics
import time
from collections.abc import Callable
from typing import Any
from uuid import uuid4

from airflow_parallel_provider import Pipeline, SinkTable, Stage

CHUNK, WORKERS = 8, 4


def pipeline(key: str, seconds: float, chunks: int, *, helps: bool = True) -> Pipeline:
    """A load of items that wait so many seconds each."""

    def fetch(number: int) -> dict[str, int]:
        time.sleep(seconds)
        return {"id": number}

    sink = SinkTable("bench_shards", conn_id="bench", write_disposition="replace", columns={"id": int})
    source, stage = range(chunks * CHUNK), Stage(fetch, workers=WORKERS)
    return Pipeline(source, [stage], sink, chunk_size=CHUNK, max_in_flight=4 * CHUNK, load_key=key, balance=helps)


def shard(made: Pipeline, index: int, of: int, gate: Any, slots: Any) -> None:
    """One shard, as a process."""
    gate.wait()
    with slots:
        made.run(shard=(index, of))


def over_shards(
    of: int, seconds: float, chunks: int, *, slow: float = 1.0, helps: bool = True, at_a_time: int | None = None
) -> float:
    """Seconds from the start of the shards to the end of the last one."""
    context, key = multiprocessing.get_context("fork"), uuid4().hex
    pipeline(key, 0, chunks).begin()
    gate, slots = context.Barrier(of + 1), context.Semaphore(at_a_time or of)
    every = [seconds * (slow if index == 0 else 1) for index in range(of)]
    shards = [
        context.Process(target=shard, args=(pipeline(key, each, chunks, helps=helps), index, of, gate, slots))
        for index, each in enumerate(every)
    ]
    for each in shards:
        each.start()
    gate.wait()
    began = time.monotonic()
    for each in shards:
        each.join()
    taken = time.monotonic() - began
    assert pipeline(key, 0, chunks).finish().rows_committed == chunks * CHUNK
    return taken


def alone(seconds: float, chunks: int) -> float:
    """Seconds of one run without shards."""
    began = time.monotonic()
    pipeline(uuid4().hex, seconds, chunks).run()
    return time.monotonic() - began


def as_one_shard(seconds: float, chunks: int) -> float:
    """Seconds of the same as one shard, its beginning and its end counted."""
    began, key = time.monotonic(), uuid4().hex
    pipeline(key, seconds, chunks).begin()
    pipeline(key, seconds, chunks).run(shard=(0, 1))
    pipeline(key, seconds, chunks).finish()
    return time.monotonic() - began


def simulation(rounds: int, seconds: float = 0.05, chunks: int = 640) -> None:
    """Print how far predictions are off; and the overhead of one shard, for a load of a minute."""
    ways = ((2, 2), (4, 4), (8, 8), (8, 4))
    errors: dict[tuple[int, int], list[float]] = {way: [] for way in ways}
    pipeline(uuid4().hex, 0, 2).run()  # what it imports, the shards find there
    for _ in range(rounds):
        began = time.monotonic()
        report = pipeline(uuid4().hex, seconds, chunks).run()
        whole = time.monotonic() - began
        sharded = as_one_shard(seconds, chunks)
        print(
            f"  no shards {whole:.2f} s, one shard {sharded:.2f} s: {100 * (sharded / whole - 1):.1f} % more",
            flush=True,
        )
        for of, machines in ways:
            predicted = Pipeline.simulate(report, shards=of, machines=machines).seconds
            measured = over_shards(of, seconds, chunks, at_a_time=machines)
            errors[of, machines].append(100 * (predicted / measured - 1))
            print(
                f"  {of} shards, {machines} at a time: predicted {predicted:.2f} s, measured {measured:.2f} s",
                flush=True,
            )
    for (of, machines), found in errors.items():
        span = f"{min(found):.1f} to {max(found):.1f}"
        middle, load = statistics.median(found), os.getloadavg()[0]
        print(
            f"simulation: {of} shards, {machines} at a time: error {middle:.1f} % ({span}); load {load:.0f}", flush=True
        )


WORKLOADS: dict[str, dict[str, Callable[[], float]]] = {
    "overhead": {"no shards": lambda: alone(0.02, 200), "one shard": lambda: as_one_shard(0.02, 200)},
    "scale": {f"{of} shards": lambda of=of: over_shards(of, 0.05, 160) for of in (1, 2, 4, 8)},  # type: ignore[misc]
    "balance": {
        "one slow, no help": lambda: over_shards(4, 0.02, 160, slow=10, helps=False),
        "one slow, help": lambda: over_shards(4, 0.02, 160, slow=10),
        "all alike, no help": lambda: over_shards(4, 0.02, 160, helps=False),
        "all alike, help": lambda: over_shards(4, 0.02, 160),
    },
}


NAMES = (*WORKLOADS, "simulation")


def cpu_seconds() -> float:
    """CPU time of this process, and of its children that have ended."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.shards", description=__doc__.split("\n", 1)[0])
    parser.add_argument("workloads", nargs="*", metavar="workload", help=f"of {', '.join(NAMES)} (default: all)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--user", default="root", help="of PostgreSQL (default: root)")
    parser.add_argument("--database", default="test", help="of PostgreSQL (default: test)")
    given = parser.parse_args()
    where = {"conn_type": "postgres", "host": "127.0.0.1", "login": given.user, "schema": given.database}
    os.environ["AIRFLOW_CONN_BENCH"] = json.dumps(where)
    if strange := [name for name in given.workloads if name not in NAMES]:
        parser.error(f"no such workload: {', '.join(strange)}")
    for name in given.workloads or NAMES:
        if name == "simulation":
            simulation(given.rounds)
            continue
        ways = WORKLOADS[name]
        taken: dict[str, list[float]] = {way: [] for way in ways}
        cpu: dict[str, list[float]] = {way: [] for way in ways}
        for _ in range(given.rounds):
            for way, measure in ways.items():
                before = cpu_seconds()
                taken[way].append(measure())
                cpu[way].append(cpu_seconds() - before)
        for way, times in taken.items():
            middle, used, load = statistics.median(times), statistics.median(cpu[way]), os.getloadavg()[0]
            span = f"{min(times):.2f} to {max(times):.2f}"
            print(f"{name}: {way}: {middle:.2f} s ({span}), CPU {used:.2f} s; load {load:.0f}", flush=True)


if __name__ == "__main__":
    main()
