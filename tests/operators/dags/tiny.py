"""DAGs as people write them: their functions live in this file and nowhere else.

The rows go to the file that the environment variable ``TINY_ROWS`` names, one JSON text a line.
"""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from airflow.sdk import Variable, dag, task

from airflow_parallel_provider import DROP, FilesToTableOperator, ParallelPipelineOperator, Stage

FACTOR = 10

Row = dict[str, Any]


def times_ten(number: int) -> Row:
    """Uses a global of this file."""
    return {"number": number, "product": number * FACTOR, "pid": os.getpid()}


def drop_odd(row: Row) -> Any:
    return DROP if row["number"] % 2 else row


def keep(rows: list[Row]) -> None:
    with Path(os.environ["TINY_ROWS"]).open("a", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)


def stages() -> list[Stage]:
    return [Stage(times_ten, kind="process", workers=1), Stage(drop_odd)]


@dag(schedule=None, catchup=False)
def tiny() -> None:
    @task
    def numbers() -> list[int]:
        return list(range(20))

    @task.parallel_pipeline(stages=stages(), sink=keep, chunk_size=5)
    def shifted(given: list[int], run_id: str | None = None) -> Iterator[int]:
        assert run_id
        yield from (number + 100 for number in given)

    @task
    def parts() -> list[list[int]]:
        return [[200, 201, 202], [300, 301]]

    @task
    def exported() -> list[str]:
        folder = Path(os.environ["TINY_ROWS"]).parent
        files = [folder / f"{number}.json" for number in (501, 500)]
        for file in files:
            file.write_text(json.dumps({"number": int(file.stem), "product": int(file.stem) * FACTOR, "pid": 0}))
        return [str(file) for file in files]

    FilesToTableOperator(task_id="files", files=exported(), sink=keep)  # type: ignore[arg-type]  # as below
    given = numbers()
    ParallelPipelineOperator(task_id="plain", source=given, stages=stages(), sink=keep, chunk_size="{{ 2 + 3 }}")
    shifted(given)  # type: ignore[arg-type]  # what a task returns stands for its value
    ParallelPipelineOperator.partial(task_id="mapped", stages=stages(), sink=keep).expand(source=parts())


def ask(number: int) -> Row:
    """A thread that asks Airflow for something."""
    return {"number": number, "answer": Variable.get("tiny_variable")}


@dag(schedule=None, catchup=False)
def asking() -> None:
    @task.parallel_pipeline(stages=[Stage(ask, workers=8)], sink=keep, chunk_size=20)
    def source() -> Iterator[int]:
        for number in range(60):
            assert Variable.get("tiny_variable")
            yield number

    source()


tiny()
asking()
