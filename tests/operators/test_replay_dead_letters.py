"""ReplayDeadLettersOperator: what is refused when the DAG is parsed, what it replays, what it returns."""

from __future__ import annotations

import json
import logging
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_parallel_provider import (
    FilesSource,
    ListSink,
    Pipeline,
    PlanError,
    ReplayDeadLettersOperator,
    RunFailed,
    SinkTable,
    SourceFile,
    Stage,
)

pytestmark = pytest.mark.airflow


class Thing:
    """What JSON does not give back."""

    def __init__(self, number: int) -> None:
        self.number = number


def read(number: int) -> Any:
    if number % 10 == 1:
        raise OSError("no answer")
    return Thing(number) if number == 7 else {"id": number}


def check(row: Any) -> Any:
    if isinstance(row, Thing) or row["id"] % 10 == 2:
        raise ValueError("cannot be")
    return row


def read_mended(number: int) -> dict[str, int]:
    return {"id": number}


def check_mended(row: Any) -> Any:
    if isinstance(row, Thing):
        return {"id": row.number}
    if row["id"] == 21:
        raise KeyError("still not")
    return row


MENDED = [Stage(read_mended, name="read"), Stage(check_mended, name="check")]


@pytest.fixture
def warehouse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[sqlite3.Connection]:
    file = tmp_path / "warehouse.db"
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", json.dumps({"conn_type": "sqlite", "host": str(file)}))
    with closing(sqlite3.connect(file)) as connection:
        yield connection


def sink(**options: Any) -> SinkTable:
    return SinkTable("{{ params.table }}" if options.pop("templated", False) else "t", conn_id="warehouse", **options)


def load(**options: Any) -> None:
    stages = [Stage(read), Stage(check)]
    Pipeline(range(50), stages, sink(**options), chunk_size=10, tolerance=1.0, load_key="first").run()


def replay(context: dict[str, Any], **arguments: Any) -> dict[str, Any]:
    settings = {"task_id": "replay", "sink": sink(), "stages": MENDED, "chunk_size": 2, "tolerance": 1.0, **arguments}
    task = ReplayDeadLettersOperator(**settings)
    context = {"params": {"table": "t"}, **context}
    task.render_template_fields(context)  # type: ignore[arg-type]
    return task.execute(context)  # type: ignore[arg-type]


def ids(warehouse: sqlite3.Connection) -> list[int]:
    return [number for (number,) in warehouse.execute("SELECT id FROM t ORDER BY id")]


def test_each_item_enters_at_the_stage_that_gave_it_up(
    warehouse: sqlite3.Connection, context_of: Callable[..., dict[str, Any]]
) -> None:
    load()

    stages = [Stage(read_mended, name="read", workers="{{ 1 + 1 }}"), MENDED[1]]
    result = replay(
        context_of(), sink=sink(templated=True), load_key="{{ 'first' }}", timeout="{{ 60 }}", stages=stages
    )

    assert {name: each for name, each in result.items() if name != "stages"} == {
        "waiting": 11, "replayed": 10, "failed_again": 1, "not_replayable": 1, "rows": 9, "rows_rejected": 0,
    }  # fmt: skip
    assert list(result["stages"]) == ["check", "read"]
    assert ids(warehouse) == [number for number in range(50) if number not in (7, 21)]
    left = warehouse.execute(
        "SELECT position, stage, cause, load_key FROM t__dead_letters WHERE resolved_at IS NULL ORDER BY position"
    ).fetchall()
    assert [(row[0], row[1], row[3]) for row in left] == [(7, "check", "first"), (21, "check", "first")]
    assert left[1][2].startswith("KeyError")
    again = replay(context_of(try_number=2))
    assert (again["waiting"], again["replayed"], again["failed_again"], again["rows"]) == (2, 1, 1, 0)
    json.dumps(result)


def lines_of(file: SourceFile) -> Iterator[dict[str, int]]:
    for line in file.read_text().splitlines():
        yield {"id": int(line)}


def test_file_that_could_not_be_read_is_read_again(
    warehouse: sqlite3.Connection, context_of: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    (tmp_path / "good.txt").write_text("1\n2\n")
    (tmp_path / "bad.txt").write_text("3\nfour\n")
    source = FilesSource(tmp_path / "*.txt")
    Pipeline(source, [Stage(lines_of)], sink(), tolerance=1, chunk_size=1, load_key="first").run()
    (tmp_path / "bad.txt").write_text("3\n4\n")

    result = replay(context_of(), stages=[Stage(lines_of)])

    assert (result["replayed"], result["not_replayable"]) == (1, 0)
    assert ids(warehouse) == [1, 2, 3, 4]


def test_lineage_goes_from_the_dead_letters_to_the_table(
    warehouse: sqlite3.Connection, context_of: Callable[..., dict[str, Any]]
) -> None:
    load()
    task = ReplayDeadLettersOperator(task_id="replay", sink=sink(), stages=MENDED, chunk_size=2, tolerance=1.0)
    assert task.get_openlineage_facets_on_complete(None).run_facets == {}

    result = task.execute(context_of())  # type: ignore[arg-type]

    told = task.get_openlineage_facets_on_complete(None)
    table, dead_letters = told.outputs
    assert [each.name for each in told.inputs] == ["t__dead_letters"]
    assert (table.name, table.outputFacets["outputStatistics"].rowCount) == ("t", result["rows"])
    assert (dead_letters.name, dead_letters.outputFacets["outputStatistics"].rowCount) == ("t__dead_letters", 1)
    (cause,) = told.run_facets["parallelPipeline"].failures
    assert (cause["stage"], cause["cause"].split(":")[0], cause["count"]) == ("check", "KeyError", 1)


def test_pickled_item_is_replayed_only_when_both_sides_say_so(
    warehouse: sqlite3.Connection, context_of: Callable[..., dict[str, Any]], caplog: pytest.LogCaptureFixture
) -> None:
    load(dead_letter_pickle=True)

    with caplog.at_level(logging.INFO):
        assert replay(context_of(), sink=sink(dead_letter_pickle=True))["not_replayable"] == 1
    assert "1 not replayable; " in caplog.text
    assert 7 not in ids(warehouse)
    assert replay(context_of(), allow_pickle=True)["not_replayable"] == 0
    assert 7 in ids(warehouse)


def test_nothing_to_do(
    warehouse: sqlite3.Connection, context_of: Callable[..., dict[str, Any]], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        result = replay(context_of())

    assert result.pop("stages") == {}
    assert result == dict.fromkeys(
        ("waiting", "replayed", "failed_again", "not_replayable", "rows", "rows_rejected"), 0
    )
    assert "Replay: 0 dead letters: 0 replayed; 0 rows" in caplog.text


def even(row: Any) -> bool:
    return row["id"] % 2 == 0


def test_rows_that_are_rejected_are_counted(
    warehouse: sqlite3.Connection, context_of: Callable[..., dict[str, Any]]
) -> None:
    load()
    dead_letters = "SELECT COUNT(*) FROM t__dead_letters WHERE resolved_at IS NULL"
    waiting = warehouse.execute(dead_letters).fetchone()[0]

    result = replay(context_of(), sink=sink(validate=even))

    rejected = warehouse.execute("SELECT COUNT(*) FROM t__rejected").fetchone()[0]
    assert (result["rows_rejected"], result["rows"] + result["rows_rejected"]) == (rejected, 9)
    assert rejected > 0
    left = warehouse.execute(dead_letters).fetchone()[0]
    assert left == waiting - result["replayed"] + result["failed_again"]


def test_without_tolerance_the_chunk_that_fails_changes_nothing(
    warehouse: sqlite3.Connection, context_of: Callable[..., dict[str, Any]]
) -> None:
    load()
    before = warehouse.execute("SELECT * FROM t__dead_letters ORDER BY position").fetchall()

    with pytest.raises((RunFailed, AirflowFailException), match="still cannot"):
        replay(context_of(), tolerance=0, stages=[Stage(read, name="read"), Stage(always_wrong, name="check")])

    assert warehouse.execute("SELECT * FROM t__dead_letters ORDER BY position").fetchall() == before


def always_wrong(row: Any) -> Any:
    raise ValueError("still cannot be")


def test_dead_letters_of_a_stage_that_does_not_exist_are_refused(
    warehouse: sqlite3.Connection, context_of: Callable[..., dict[str, Any]]
) -> None:
    load()

    with pytest.raises(AirflowFailException, match=r"of t come from 'check', but the stages are read:"):
        replay(context_of(), stages=[Stage(read_mended, name="read")])


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({"sink": ListSink()}, r"sink=.*give the SinkTable whose dead letters"),
        ({"sink": SinkTable("t", conn_id="c", dead_letters=None)}, r"dead_letters=None it has no table"),
        ({"stages": [read]}, r"stages\[0\]=.*Stage\(function\)"),
        ({"chunk_size": 0}, r"chunk_size=0"),
        ({"tolerance": -1}, r"tolerance=-1"),
        ({"timeout": 0}, r"timeout=0"),
        ({"connections": "shop"}, r"connections='shop'"),
    ],
)
def test_wrong_plan_is_refused_when_the_dag_is_parsed(arguments: dict[str, Any], complaint: str) -> None:
    settings = {"task_id": "replay", "sink": sink(), "stages": MENDED, **arguments}
    with pytest.raises(PlanError, match=complaint):
        ReplayDeadLettersOperator(**settings)
