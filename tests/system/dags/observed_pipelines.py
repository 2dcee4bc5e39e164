"""DAGs that the tests of monitoring, lineage and replay run. They want the connection ``system_db``."""

import os
from typing import Any

from airflow.sdk import DAG

from airflow_parallel_provider import ParallelPipelineOperator, ReplayDeadLettersOperator, SinkTable, SqlSource, Stage

Row = dict[str, Any]


# -- from table to table ------------------------------------------------------------------------------------------


def check(order: Row) -> Row:
    if order["id"] % 50 == 7:
        raise ValueError("no price")
    return order


def doubled(order: Row) -> Row:
    return {"id": order["id"], "price": order["price"] * 2, "pid": os.getpid()}


def from_table_to_table(dag_id: str, tolerance: float) -> None:
    with DAG(dag_id, schedule=None, params={"schema": "public"}):
        ParallelPipelineOperator(
            task_id="pipeline",
            source=SqlSource("orders", conn_id="warehouse", schema="{{ params.schema }}", key="id"),
            stages=[Stage(check, workers=2), Stage(doubled, kind="process", workers=1)],
            sink=SinkTable("doubled_orders", conn_id="warehouse", schema="{{ params.schema }}"),
            chunk_size=20,
            max_in_flight=40,  # so that something is in when a run without tolerance fails
            tolerance=tolerance,
        )


from_table_to_table("observed", 0.1)
from_table_to_table("observed_failing", 2)


# -- dead letters -------------------------------------------------------------------------------------------------

READINGS = 300


def readings() -> list[list[Any]]:
    """Every tenth reading has a decimal comma."""
    return [[number, f"{number},5" if number % 10 == 0 else f"{number}.5"] for number in range(READINGS)]


def parse(reading: list[Any]) -> Row:
    return {"number": reading[0], "value": float(reading[1])}


def parse_repaired(reading: list[Any]) -> Row:
    return {"number": reading[0], "value": float(reading[1].replace(",", "."))}


DEAD_LETTERS = SinkTable("readings", conn_id="system_db")

with DAG("leaves_dead_letters", schedule=None):
    ParallelPipelineOperator(
        task_id="pipeline",
        source=readings,
        stages=[Stage(parse, workers=2)],
        sink=DEAD_LETTERS,
        chunk_size=50,
        tolerance=0.2,
    )

with DAG("replays_dead_letters", schedule=None):
    ReplayDeadLettersOperator(
        task_id="pipeline",
        stages=[Stage(parse_repaired, name="parse", kind="process", workers=2)],
        sink=DEAD_LETTERS,
        chunk_size=7,
        tolerance=1.0,
    )
