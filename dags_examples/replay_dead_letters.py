"""Dead letters, replayed with a repaired stage.

::

    load_readings    4 000 readings ──> parse ──> table readings           some sensors write "21,5" instead of "21.5":
                                          └─────> readings__dead_letters   their readings become dead letters
    replay_readings  dead letters ──> parse, repaired ──> table readings   each exactly once, each one resolved

In production days may pass between the two: an engineer reads the dead letters, repairs the stage, and runs the replay.
Here both are in one DAG. When the DAG runs again, the load starts over (and merges), and the replay processes the
dead letters that are left.

Needs: a SQLite connection ``examples_db``.
"""

from typing import Any

from airflow.sdk import dag

from airflow_parallel_provider import ParallelPipelineOperator, ReplayDeadLettersOperator, SinkTable, Stage

READINGS = 4_000
Row = dict[str, Any]


def readings() -> list[tuple[int, str]]:
    """The sensors' readings: number and text. Every 97th has a decimal comma, every 1000th is just noise."""
    texts = []
    for number in range(READINGS):
        text = f"{15 + number % 200 / 10:.1f}"
        texts.append((number, "#?!" if number % 1000 == 999 else text.replace(".", ",") if number % 97 == 0 else text))
    return texts


def parse(reading: tuple[int, str]) -> Row:
    """The reading as a row.

    :raises ValueError: for a decimal comma.
    """
    number, text = reading
    return {"id": number, "degrees": float(text)}


def parse_repaired(reading: tuple[int, str]) -> Row:
    """The same, repaired for the dead letters."""
    number, text = reading
    return {"id": number, "degrees": float(text.replace(",", "."))}


SINK = SinkTable(
    "readings",
    conn_id="examples_db",
    write_disposition="merge",
    primary_key="id",
    aggregates={"readings": "count", "mean": "mean(degrees)", "hottest": "max(degrees)"},
)


@dag(schedule=None, catchup=False, tags=["example", "parallel"], doc_md=__doc__)
def replay_dead_letters() -> None:
    """Load, then replay the dead letters."""
    load = ParallelPipelineOperator(
        task_id="load_readings",
        source=readings,
        stages=[Stage(parse, workers=2)],
        sink=SINK,
        chunk_size=500,
        tolerance=0.05,
    )
    replay = ReplayDeadLettersOperator(
        task_id="replay_readings",
        stages=[Stage(parse_repaired, name="parse", workers=2)],  # dead letters refer to their stage by name
        sink=SINK,
        chunk_size=10,
        tolerance=1.0,  # noise stays noise: an item that fails again becomes a dead letter again
        overwrite=True,  # a reading never changes, so the row that an earlier run has replayed is no newer one
    )
    load >> replay


replay_dead_letters()
