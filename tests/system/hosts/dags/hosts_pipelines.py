"""One load over several hosts: plan, shards and finish all run on them. Each row tells where it was made."""

import os
import socket
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

from airflow.sdk import dag

from airflow_parallel_provider import ParallelPipelineOperator, SinkTable, Stage

GATE = Path(os.environ["HOSTS_TESTS_GATE"])
SLOW = "h1"
ITEMS, CHUNK, SHARDS = 960, 10, 8
SECONDS = 0.05
"""That an item takes."""


def row_of(number: int) -> dict[str, Any]:
    return {"number": number, "square": number * number, "host": socket.gethostname()}


def hold(number: int) -> dict[str, Any]:
    """Some chunks of each shard pass; the others wait until the test opens the gate."""
    while number >= ITEMS // 3 and not GATE.exists():
        time.sleep(0.05)
    time.sleep(SECONDS)
    return row_of(number)


def slow_on_one_host(number: int) -> dict[str, Any]:
    time.sleep(3 * SECONDS * (10 if socket.gethostname() == SLOW else 1))
    return row_of(number)


def over_hosts(dag_id: str, stage: Any, **options: Any) -> None:
    @dag(dag_id=dag_id, schedule=None, max_active_tasks=16, params={"table": "squares"})
    def pipeline() -> None:
        ParallelPipelineOperator.sharded(
            task_id="load",
            shards=SHARDS,
            source=range(ITEMS),
            stages=[Stage(stage, workers=4, name="square")],
            sink=SinkTable(
                "{{ params.table }}",
                conn_id="warehouse",
                columns={"number": int, "square": int, "host": str},
                write_disposition="replace",
                aggregates={"total": "sum(number)"},
            ),
            chunk_size=CHUNK,
            max_in_flight=2 * CHUNK,
            queue="shards",
            retries=3,
            retry_delay=timedelta(seconds=1),
            **options,
        )

    pipeline()


over_hosts("hosts_lost", hold)
over_hosts("hosts_one_slow", slow_on_one_host)
over_hosts("hosts_one_slow_without_help", slow_on_one_host, balance=False)
