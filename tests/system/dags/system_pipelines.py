"""DAGs that the system tests run on a real scheduler. Everything a stage needs is in this file and travels by value.

The environment says where things are: ``SYSTEM_TESTS_GATE`` is a file that the stages of the long pipelines wait for,
and the connection ``system_db`` is the SQLite database with all tables.
"""

import os
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

from airflow.sdk import dag, task

from airflow_parallel_provider import ParallelPipelineOperator, Retry, SinkTable, Stage

ITEMS = 200
SALT = "a global of the DAG file"

Row = dict[str, Any]


# -- a pipeline with all kinds of stages --------------------------------------------------------------------------


def fetch(number: int) -> Row:
    """Thread stage."""
    return {"number": number, "seen_by_thread": "AIRFLOW_CONN_SHOP" in os.environ}


def look_up(rows: list[Row]) -> list[Row]:
    """Process stage: uses a hook with a connection that only Airflow's database knows, and prints its password."""
    from airflow.sdk import BaseHook

    connection = BaseHook.get_connection("shop")
    print("the worker says", connection.password)
    for row in rows:
        row["login"] = connection.login
        row["pid"] = os.getpid()
        row["text"] = f"{SALT} {row['number']}"
    return rows


@dag(schedule=None, params={"table": "rows"})
def all_kinds() -> None:
    @task
    def numbers() -> list[int]:
        return list(range(ITEMS))

    given = numbers()
    ParallelPipelineOperator(
        task_id="pipeline",
        source=given,
        stages=[
            Stage(fetch, workers=4),
            Stage(look_up, kind="process", workers=2, batch_size=25, retry=Retry(2)),
        ],
        sink=SinkTable("{{ params.table }}", conn_id="system_db", primary_key="number"),
        connections=["shop"],
        chunk_size=50,
    )


# -- pipelines that are interrupted -------------------------------------------------------------------------------


def square(number: int) -> Row:
    return {"number": number, "square": number * number}


def wait_at_the_gate(row: Row) -> Row:
    """Lets the first half through; the rest waits until the test opens the gate."""
    while row["number"] >= ITEMS // 2 and not Path(os.environ["SYSTEM_TESTS_GATE"]).exists():
        time.sleep(0.02)
    return row


def long_pipeline(task_id: str, **arguments: Any) -> ParallelPipelineOperator:
    return ParallelPipelineOperator(
        task_id=task_id,
        source=numbers_in_order,
        stages=[
            Stage(square, kind="process", workers=2),
            Stage(wait_at_the_gate, workers=2),
            Stage(wait_at_the_gate, kind="process", workers=2, name="gate_in_processes"),
        ],
        chunk_size=10,
        **arguments,
    )


def numbers_in_order() -> Iterator[int]:
    yield from range(ITEMS)


@dag(schedule=None, params={"table": "long_rows"})
def resumed() -> None:
    long_pipeline(
        "pipeline",
        sink=SinkTable("{{ params.table }}", conn_id="system_db"),
        retries=2,
        retry_delay=timedelta(seconds=1),
    )


@dag(schedule=None, params={"table": "stopped_rows"})
def never_retried() -> None:
    long_pipeline("pipeline", sink=SinkTable("{{ params.table }}", conn_id="system_db"), retries=0)


@dag(schedule=None)
def timed_out() -> None:
    long_pipeline(
        "pipeline",
        sink=SinkTable("timed_out_rows", conn_id="system_db"),
        retries=0,
        execution_timeout=timedelta(seconds=3),
    )


all_kinds()
resumed()
never_retried()
timed_out()
