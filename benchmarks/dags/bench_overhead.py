"""A task that runs a three-stage pipeline of trivial functions with the operator and records its CPU time."""

import json
import os
import resource
import time
from pathlib import Path

from airflow.sdk import dag

from airflow_parallel_provider import ParallelPipelineOperator, Sink, Stage

ITEMS = int(os.environ.get("BENCH_ITEMS", "1000"))


def cpu():
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def add_one(number):
    return number + 1


def double(number):
    return number * 2


class Account(Sink):
    """Counts the rows."""

    def __init__(self):
        self.rows = 0

    def commit(self, chunk):
        self.rows += len(chunk.rows)
        return len(chunk.rows)


class Measured(ParallelPipelineOperator):
    def execute(self, context):
        before, began = cpu(), time.perf_counter()
        summary = super().execute(context)
        used = {"cpu_seconds": cpu() - before, "seconds": time.perf_counter() - began}
        assert summary["rows_committed"] == ITEMS
        Path(os.environ["BENCH_OUT"]).write_text(json.dumps(used))
        return summary


@dag(schedule=None, catchup=False)
def bench_overhead():
    Measured(
        task_id="measure",
        source=range(ITEMS),
        stages=[
            Stage(add_one, workers=4),
            Stage(double, kind="process", workers=2, name="middle"),
            Stage(add_one, workers=4, name="last"),
        ],
        sink=Account(),
    )


bench_overhead()
