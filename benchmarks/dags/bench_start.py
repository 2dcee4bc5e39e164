"""A task that measures the time to the first result of a process stage, from its first line of code."""

import json
import os
import time
from pathlib import Path

from airflow.sdk import dag, task

from airflow_parallel_provider import Pipeline, Stage


def double(number):
    return number * 2


@dag(schedule=None, catchup=False)
def bench_start():
    @task
    def measure():
        began = time.perf_counter()
        rows = Pipeline(range(10), [Stage(double, kind="process", workers=2)], chunk_size=1).stream()
        next(rows)
        first = time.perf_counter() - began
        rest = sum(1 for _ in rows)
        total = time.perf_counter() - began
        assert rest == 9
        Path(os.environ["BENCH_OUT"]).write_text(json.dumps({"first_result": first, "total": total}))

    measure()


bench_start()
