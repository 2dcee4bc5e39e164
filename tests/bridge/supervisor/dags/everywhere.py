"""A pipeline whose stages of every kind ask Airflow for what is not declared, and return what they got.

The rows go to the file that the environment variable ``EVERYWHERE_ROWS`` names, one JSON text a line.
"""

import json
import logging
import os
from pathlib import Path
from typing import Any

from airflow.sdk import dag

from airflow_parallel_provider import ParallelPipelineOperator, Stage, get_connection_info, get_task_info

Row = dict[str, Any]


def ask() -> Row:
    """As hooks and functions of any DAG do."""
    from airflow.sdk import BaseHook, Variable

    info, connection = get_task_info(), BaseHook.get_connection("undeclared")
    assert info.logical_date is not None
    return {
        "pid": os.getpid(),
        "variable": Variable.get("everywhere"),
        "login": connection.login,
        "password": connection.password,
        "declared": BaseHook.get_connection("declared").login,
        "declared_info": get_connection_info("declared").password,
        "run_id": info.run_id,
        "task_id": info.task_id,
        "try_number": info.try_number,
        "day": info.logical_date.isoformat(),
        "depth": info.params["depth"],
    }


def ask_in_thread(number: int) -> Row:
    return {"number": number, "thread": ask()}


def ask_in_process(row: Row) -> Row:
    return {**row, "process": ask()}


async def ask_in_loop(row: Row) -> Row:
    import asyncio

    return {**row, "async": await asyncio.to_thread(ask)}


def missing(row: Row) -> Row:
    """In a worker process: what is not there is said as Airflow says it. One item tells secrets."""
    from airflow.sdk import BaseHook

    if row["number"] == 5:
        password = BaseHook.get_connection("undeclared").password
        print("printed", password)
        logging.getLogger("of.the.dag").warning("logged %s", password)
        raise RuntimeError(f"cannot log in with {password}")
    try:
        BaseHook.get_connection("nowhere")
    except Exception as error:
        return {**row, "error": f"{type(error).__name__}: {error}"}
    return row


def keep(rows: list[Row]) -> None:
    with Path(os.environ["EVERYWHERE_ROWS"]).open("a", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)


@dag(schedule=None, catchup=False, params={"depth": 3})
def everywhere() -> None:
    ParallelPipelineOperator(
        task_id="ask",
        source=list(range(24)),
        stages=[
            Stage(ask_in_thread, workers=6),
            Stage(ask_in_process, kind="process", workers=2),
            Stage(ask_in_loop, kind="async", workers=6),
            Stage(missing, kind="process", workers=1),
        ],
        sink=keep,
        chunk_size=8,
        connections=["declared"],
        tolerance=1,
    )


everywhere()
