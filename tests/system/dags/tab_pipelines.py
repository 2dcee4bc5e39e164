"""DAGs whose pages the browser tests look at: slow enough to be watched, with failures, shards and tries."""

import os
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

from airflow.sdk import dag, task

from airflow_parallel_provider import ParallelPipelineOperator, SinkTable, Stage

Row = dict[str, Any]

ITEMS = 600
MARKUP = '<img src=x onerror="window.hacked=1">'


def numbers() -> Iterator[int]:
    yield from range(ITEMS)


def breaks_off() -> Iterator[int]:
    """A source that is gone in the middle of a chunk, in every try, when the item 127 of that chunk has failed."""
    yield from range(132)
    time.sleep(2)
    raise OSError("the source went away")


def fetch(number: int) -> Row:
    time.sleep(0.008)
    return {"number": number}


def score(rows: list[Row]) -> list[Row]:
    for row in rows:
        if row["number"] % 60 == 7:
            raise ValueError(f"no score for {row['number']}: {MARKUP}")
        row["score"] = sum(range(20_000)) % (row["number"] + 3)
    return rows


def wait_at_the_gate(row: Row) -> Row:
    """Lets the first two thirds through; the rest waits until the test opens the gate."""
    while row["number"] >= ITEMS * 2 // 3 and not Path(os.environ["SYSTEM_TESTS_GATE"]).exists():
        time.sleep(0.02)
    return row


def watched(task_id: str, source: Any = numbers, **arguments: Any) -> ParallelPipelineOperator:
    return ParallelPipelineOperator(
        task_id=task_id,
        source=source,
        stages=[
            Stage(fetch, workers=3),
            Stage(score, kind="process", workers=2, batch_size=10, name=f"score {MARKUP}"),
            Stage(wait_at_the_gate, workers=(1, 4), name="gate"),
        ],
        chunk_size=20,
        **arguments,
    )


@dag(schedule=None)
def tab_watched() -> None:
    watched("pipeline", sink=SinkTable("tab_rows", conn_id="system_db"), tolerance=0.1)

    @task
    def no_pipeline() -> None:
        pass

    no_pipeline()


@dag(schedule=None)
def tab_failing() -> None:
    """Both tries fail."""
    watched(
        "pipeline",
        source=breaks_off,
        sink=SinkTable("tab_failed_rows", conn_id="system_db"),
        tolerance=0.1,
        retries=1,
        retry_delay=timedelta(seconds=0),
    )


@dag(schedule=None)
def tab_shards() -> None:
    ParallelPipelineOperator.partial(
        task_id="pipeline",
        stages=[Stage(fetch, workers=2), Stage(score, workers=1, batch_size=10)],
        sink=SinkTable("tab_shard_rows", conn_id="system_db"),
        tolerance=0.5,
        chunk_size=20,
    ).expand(source=[list(range(40)), list(range(40, 60)), list(range(60, 140))])


tab_watched()
tab_failing()
tab_shards()
