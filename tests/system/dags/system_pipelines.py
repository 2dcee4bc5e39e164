"""DAGs that the system tests run on a real scheduler. Everything a stage needs is in this file and travels by value.

The environment says where things are: ``SYSTEM_TESTS_GATE`` is a file that the stages of the long pipelines wait for,
and the connection ``system_db`` is the SQLite database with all tables.
"""

import asyncio
import os
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

from airflow.configuration import conf
from airflow.sdk import DAG, Asset, BaseHook, dag, task

from airflow_parallel_provider import ParallelPipelineOperator, Retry, SinkTable, Stage, get_task_info

ITEMS = 200
SALT = "a global of the DAG file"

Row = dict[str, Any]


# -- a pipeline with all kinds of stages --------------------------------------------------------------------------


def fetch(number: int) -> Row:
    """Thread stage: asks Airflow for what is not declared."""
    return {
        "number": number,
        "seen_by_thread": "AIRFLOW_CONN_SHOP" in os.environ,
        "thread_login": BaseHook.get_connection("undeclared").login,
    }


def look_up(rows: list[Row]) -> list[Row]:
    """Process stage: uses connections that only Airflow's database knows, and prints their passwords."""
    from airflow.sdk import BaseHook, Variable

    declared, undeclared = BaseHook.get_connection("shop"), BaseHook.get_connection("undeclared")
    print("the worker says", declared.password, "and", undeclared.password)
    info = get_task_info()
    for row in rows:
        row["login"] = declared.login
        row["process_login"] = undeclared.login
        row["variable"] = Variable.get("color")
        row["task"] = f"{info.dag_id} {info.run_id} {info.try_number} {info.params['table']}"
        row["pid"] = os.getpid()
        row["text"] = f"{SALT} {row['number']}"
    return rows


async def look_again(row: Row) -> Row:
    """Async stage."""
    return {**row, "async_login": (await asyncio.to_thread(BaseHook.get_connection, "undeclared")).login}


def all_kinds(dag_id: str, **arguments: Any) -> None:
    with DAG(dag_id, schedule=None, params={"table": "rows"}):

        @task(**arguments)
        def numbers() -> list[int]:
            return list(range(ITEMS))

        given = numbers()
        ParallelPipelineOperator(
            task_id="pipeline",
            source=given,
            stages=[
                Stage(fetch, workers=4),
                Stage(look_up, kind="process", workers=2, batch_size=25, retry=Retry(2)),
                Stage(look_again, kind="async", workers=4),
            ],
            sink=SinkTable("{{ params.table }}", conn_id="system_db", primary_key="number"),
            connections=["shop"],
            chunk_size=50,
            outlets=[Asset("system_rows")],
            **arguments,
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
            Stage(square, kind="process", workers=1),  # one: the first items come to the gate first
            Stage(wait_at_the_gate, workers=2),
            Stage(wait_at_the_gate, kind="process", workers=2, name="gate_in_processes"),
        ],
        chunk_size=10,
        connections=["shop"],
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


@dag(schedule=None, dagrun_timeout=timedelta(seconds=8))
def run_timed_out() -> None:
    long_pipeline("pipeline", sink=SinkTable("run_timed_out_rows", conn_id="system_db"), retries=0)


@dag(schedule=None)
def timed_out() -> None:
    long_pipeline(
        "pipeline",
        sink=SinkTable("timed_out_rows", conn_id="system_db"),
        retries=0,
        execution_timeout=timedelta(seconds=6),
    )


all_kinds("all_kinds")
if "CeleryExecutor" in conf.get("core", "executor"):
    all_kinds("all_kinds_in_celery", executor="CeleryExecutor")
resumed()
never_retried()
timed_out()
run_timed_out()
