"""Dead letters as JSON lines: each once, whatever is tried again."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pytest

from airflow_parallel_provider import DeadLetterFiles, Pipeline, PlanError, SinkTable, Stage
from airflow_parallel_provider.engine.interfaces.records import DeadLetter
from airflow_parallel_provider.errors import SchemaMismatch, SinkError
from tests.support.children import KILLED, Child, killing_hook
from tests.support.databases import SPEC, SqliteDatabase

pytestmark = pytest.mark.airflow


def dead_letter(number: int, item: Any = None) -> DeadLetter:
    return DeadLetter(number, "parse", "ValueError: no", 2, "Traceback", (number, b"x") if item is None else item)


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for file in sorted(folder.glob("*.jsonl")) for line in file.read_text().splitlines()]


def test_a_file_for_each_chunk_that_has_some(sqlite: SqliteDatabase, tmp_path: Path) -> None:
    files = DeadLetterFiles(str(tmp_path / "dead"))
    with sqlite.opened(dead_letters=files, dead_letter_length=300) as hook:
        hook.write_chunk("00000000", [], items=2, dead_letters=[dead_letter(0), dead_letter(1, "y" * 400)])
        hook.write_chunk("00000001", [{"id": 1}], first_position=2)
        hook.write_chunk("00000002", [], items=1, first_position=3, dead_letters=[dead_letter(3)])

    found = lines(tmp_path / "dead")
    assert len(list((tmp_path / "dead").iterdir())) == 2
    assert [(each["position"], each["chunk_id"], each["item_complete"]) for each in found] == [
        (0, "00000000", True),
        (1, "00000000", False),
        (3, "00000002", True),
    ]
    assert found[0]["item"] == {"$type": "tuple", "value": [0, {"$type": "bytes", "value": "eA=="}]}
    assert {key: found[0][key] for key in ("load_key", "stage", "cause", "attempts", "traceback")} == {
        "load_key": "nightly", "stage": "parse", "cause": "ValueError: no", "attempts": 2, "traceback": "Traceback",
    }  # fmt: skip
    assert not sqlite.exists("scores__dead_letters")


@pytest.mark.parametrize("point", ["before_commit", "after_commit"])
def test_killed_try_leaves_no_dead_letter_twice(sqlite: SqliteDatabase, tmp_path: Path, point: str) -> None:
    files = DeadLetterFiles(str(tmp_path / "dead"))

    def attempt(failed: list[DeadLetter], cls: Any = None) -> None:
        with sqlite.hook(cls=cls, dead_letters=files) as hook:
            if "00000000" not in hook.open(SPEC):
                hook.write_chunk("00000000", [{"id": 9}], items=2, dead_letters=failed)

    assert Child(lambda: attempt([dead_letter(0)], killing_hook(1, point))).wait() == KILLED
    assert [each["position"] for each in lines(tmp_path / "dead")] == [0]
    attempt([])  # this time nothing fails

    assert [each["position"] for each in lines(tmp_path / "dead")] == ([0] if point == "after_commit" else [])


def test_discard_takes_the_files_of_the_load_along(sqlite: SqliteDatabase, tmp_path: Path) -> None:
    files = DeadLetterFiles(str(tmp_path / "dead"))
    with sqlite.opened(dead_letters=files) as hook:
        hook.write_chunk("00000000", [], items=1, dead_letters=[dead_letter(0)])
        (tmp_path / "dead" / "dead_letters-of-another-sink.jsonl").touch()
        hook.discard("nightly")

    assert [file.name for file in (tmp_path / "dead").iterdir()] == ["dead_letters-of-another-sink.jsonl"]


def test_pipeline_writes_them(sqlite: SqliteDatabase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", json.dumps({"conn_type": "sqlite", "host": str(sqlite.path)}))
    sink = SinkTable("scores", conn_id="warehouse", dead_letters=DeadLetterFiles((tmp_path / "dead").as_uri()))

    def check(number: int) -> dict[str, int]:
        if number % 40 == 7:
            raise ValueError("seven")
        return {"id": number}

    report = Pipeline(range(100), [Stage(check)], sink, chunk_size=30, tolerance=3).run()

    assert report.items_dead_lettered == 3
    assert [each["item"] for each in lines(tmp_path / "dead")] == [7, 47, 87]


def test_what_needs_a_table_says_so(sqlite: SqliteDatabase, tmp_path: Path) -> None:
    files = DeadLetterFiles(str(tmp_path))
    with sqlite.hook(dead_letters=files) as hook, pytest.raises(SinkError, match="has no table of dead letters"):
        list(hook.dead_letters())


def test_declarations(tmp_path: Path) -> None:
    with pytest.raises(PlanError, match=r"DeadLetterFiles.path='': give a text"):
        DeadLetterFiles("")
    with pytest.raises(PlanError, match=r"DeadLetterFiles.conn_id=5: give a text"):
        DeadLetterFiles("x", conn_id=5)  # type: ignore[arg-type]
    sink = SinkTable("t", conn_id="c", dead_letters=DeadLetterFiles(str(tmp_path)))
    assert pickle.loads(pickle.dumps(sink)) == sink
    assert hash(sink) == hash(pickle.loads(pickle.dumps(sink)))


def test_chunk_that_does_not_fit_leaves_no_file(sqlite: SqliteDatabase, tmp_path: Path) -> None:
    with sqlite.opened(dead_letters=DeadLetterFiles(str(tmp_path / "dead"))) as hook:
        hook.write_chunk("00000000", [{"id": 1}])
        with pytest.raises(SchemaMismatch):
            hook.write_chunk("00000001", [{"id": b"?"}], items=2, first_position=1, dead_letters=[dead_letter(2)])

    assert lines(tmp_path / "dead") == []
