"""A run of about a minute with four stages, to measure the cost of its live metrics. The conf sets the items."""

import time

from airflow.sdk import DAG

from airflow_parallel_provider import ParallelPipelineOperator, SinkTable, Stage


def fetch(number):
    time.sleep(0.008)
    return {"number": number}


def score(rows):
    for row in rows:
        if row["number"] % 60 == 7:
            raise ValueError(f"no score for {row['number']}")
        row["score"] = sum(range(20_000)) % (row["number"] + 3)
    return rows


def copied(row):
    return dict(row)


with DAG("bench_live", schedule=None, params={"count": 15_000}):
    ParallelPipelineOperator(
        task_id="pipeline",
        source="{{ range(params.count) | list }}",
        stages=[
            Stage(fetch, workers=2),
            Stage(score, kind="process", workers=2, batch_size=10),
            Stage(copied, workers=2),
            Stage(copied, workers=(1, 4), name="copied again"),
        ],
        sink=SinkTable("live_rows", conn_id="bench_db"),
        tolerance=0.5,
        chunk_size=200,
    )
