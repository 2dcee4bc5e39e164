"""Mapped pipelines: four task instances that write into one table."""

import os
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

from airflow.sdk import dag, task

from airflow_parallel_provider import ParallelPipelineOperator, SinkTable, Stage

COUNT = Path(os.environ["SYSTEM_TESTS_GATE"] + ".count")
"""Says how many task instances there are; four without it."""


def square(number: int) -> dict[str, int]:
    return {"number": number, "square": number * number}


def mapped_pipeline(dag_id: str, table: str, **options: Any) -> None:
    @dag(dag_id=dag_id, schedule=None, max_active_tasks=8)
    def pipeline() -> None:
        @task
        def parts() -> list[list[int]]:
            count = int(COUNT.read_text()) if COUNT.exists() else 4
            return [list(range(n * 1000, n * 1000 + 100)) for n in range(count)]

        ParallelPipelineOperator.partial(
            task_id="pipeline",
            stages=[Stage(square)],
            sink=SinkTable(table, conn_id="system_db", columns={"number": int, "square": int}, **options),
            chunk_size=20,
        ).expand(source=parts())

    pipeline()


mapped_pipeline("mapped_append", "mapped_rows", on_rerun="replace")
mapped_pipeline("mapped_replace", "mapped_replaced", write_disposition="replace")


def hold(row: dict[str, int]) -> dict[str, int]:
    """Let half of the rows through; the rest waits until the test opens the gate."""
    while row["number"] >= 200 and not Path(os.environ["SYSTEM_TESTS_GATE"]).exists():
        time.sleep(0.02)
    return row


@dag(schedule=None, max_active_tasks=8, params={"shards": 4, "table": "sharded"})
def sharded_replace() -> None:
    load = ParallelPipelineOperator.sharded(
        task_id="load",
        shards="{{ params.shards }}",
        source=range(400),
        stages=[Stage(square), Stage(hold)],
        sink=SinkTable(
            "{{ params.table }}",
            conn_id="system_db",
            columns={"number": int, "square": int},
            write_disposition="replace",
            aggregates={"total": "sum(number)"},
        ),
        chunk_size=10,
        retries=2,
        retry_delay=timedelta(seconds=1),
    )

    @task
    def told(summary: dict[str, Any]) -> int:
        return int(summary["rows_committed"])

    told(load.output)


sharded_replace()
