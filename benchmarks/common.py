"""Parts that several workloads share: work, a source, a sink that counts, and starters of Ray and Dask."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterable, Iterator
from typing import Any

from airflow_parallel_provider import ChunkResult, Sink, Source
from benchmarks.spec import Laps


def burn(seconds: float) -> None:
    """Use exactly this much CPU time of this thread.

    A loop with a fixed number of turns would take longer on a busy or throttled core; then the bound would be unknown.
    """
    clock = time.thread_time
    end = clock() + seconds
    while clock() < end:
        pass


class InMemorySource(Source):
    """A list or range that records the request for its first item; the engine treats it like any list or range."""

    def __init__(self, laps: Laps, items: Iterable[Any]) -> None:
        self.items = items
        self.laps = laps

    @property
    def is_in_memory(self) -> bool:
        return True

    def __iter__(self) -> Iterator[Any]:
        self.laps.go()
        return iter(self.items)


class Count(Sink):
    """Counts and sums the rows; ends the steady time when the last one is committed."""

    def __init__(self, laps: Laps | None = None) -> None:
        self.laps = laps
        self.rows = 0
        self.sum = 0

    def commit(self, chunk: ChunkResult) -> int:
        self.rows += len(chunk.rows)
        self.sum += sum(chunk.rows)
        return len(chunk.rows)

    def finish(self) -> None:
        if self.laps is not None:
            self.laps.done()


@contextlib.contextmanager
def ray_running(cpus: int = 2) -> Iterator[Any]:
    """Ray on this machine."""
    import ray

    ray.init(num_cpus=cpus, include_dashboard=False, logging_level="ERROR", log_to_driver=False)
    try:
        yield ray
    finally:
        ray.shutdown()


@contextlib.contextmanager
def dask_running(workers: int = 2, threads: int = 1) -> Iterator[Any]:
    """Dask on this machine: a client of a local cluster of worker processes."""
    from distributed import Client, LocalCluster

    logging.getLogger("distributed").setLevel(logging.ERROR)
    with (
        LocalCluster(n_workers=workers, threads_per_worker=threads, processes=True, dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):
        client.wait_for_workers(workers)
        yield client
