"""A task is killed in the middle, and its retry continues from there.

::

    pipeline: numbers -> square, which kills the whole task once -> table squares ──> check

In the first try the stage sends SIGKILL to its own task process at item 700, as the kernel does when memory runs out.
The process cannot catch, close or roll back anything. Airflow starts the second try, which reads the ledger in the
sink's database, skips the committed chunks, and processes the others. The last task checks that the table has each row
exactly once.

Needs: a SQLite connection ``examples_db``. Runs on a real scheduler only: ``airflow dags test`` would be killed itself.
"""

import os
import signal
from datetime import timedelta
from typing import Any

from airflow.sdk import dag, task

from airflow_parallel_provider import ParallelPipelineOperator, SinkTable, Stage, get_task_info

ITEMS = 1_000
DIES_AT = 700
TABLE = "resumed_squares"


def square(number: int) -> dict[str, Any]:
    """One row; in the first try one item kills the task."""
    info = get_task_info()
    if number == DIES_AT and info.try_number == 1:
        os.kill(os.getpid(), signal.SIGKILL)  # a thread stage: this is the task process
    return {"run": info.run_id, "number": number, "square": number * number, "made_by_try": info.try_number}


@dag(schedule=None, catchup=False, tags=["example", "parallel"], doc_md=__doc__)
def resume_after_a_kill() -> None:
    """Die once, resume."""
    pipeline = ParallelPipelineOperator(
        task_id="pipeline",
        source=range(ITEMS),
        stages=[Stage(square, workers=1)],
        sink=SinkTable(TABLE, conn_id="examples_db"),
        chunk_size=50,
        max_in_flight=100,  # so that some chunks are committed before the kill
        retries=1,
        retry_delay=timedelta(seconds=1),
    )

    @task
    def check(run_id: str | None = None) -> dict[str, int]:
        """:raises ValueError: when a row is missing or duplicated, or when the retry did not resume."""
        from airflow.providers.sqlite.hooks.sqlite import SqliteHook

        sql = f"SELECT count(*), count(DISTINCT number), sum(made_by_try = 1) FROM {TABLE} WHERE run = ?"
        rows, numbers, before_the_kill = SqliteHook("examples_db").get_first(sql, parameters=(run_id,))
        if not rows == numbers == ITEMS or not before_the_kill:
            raise ValueError(f"{rows} rows of {numbers} numbers, {before_the_kill} of them from before the kill")
        return {"rows": rows, "from_before_the_kill": before_the_kill}

    pipeline >> check()


resume_after_a_kill()
