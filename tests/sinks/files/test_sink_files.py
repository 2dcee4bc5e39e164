"""``SinkFiles`` in real folders: parts that are whole, a manifest that is last, a retry that skips."""

from __future__ import annotations

import json
import os
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from airflow_parallel_provider import JsonText, Pipeline, PlanError, RunFailed, SinkFiles, Source
from airflow_parallel_provider.errors import LoadMismatch
from airflow_parallel_provider.sinks.files import file_load as module
from airflow_parallel_provider.values.intervals import DayTime
from tests.support.parts import failing_at, load, load_and_die, numbered, rows_of_parts

pytestmark = pytest.mark.airflow


def manifest(folder: Path) -> dict[str, Any]:
    (file,) = folder.glob("_manifest-*.json")
    return json.loads(file.read_text())


def rows_in(folder: Path) -> list[Any]:
    """The rows as a reader of the manifest sees them."""
    return rows_of_parts(manifest(folder), lambda name: (folder / name).read_bytes())


@pytest.mark.parametrize("kind", ["jsonl", "csv", "parquet"])
def test_every_row_is_in_one_part_and_the_manifest_names_them_all(tmp_path: Path, kind: str) -> None:
    load(tmp_path / "out", format=kind)

    found = manifest(tmp_path / "out")
    number = str if kind == "csv" else int
    assert rows_in(tmp_path / "out") == [{"id": number(n), "name": f"name {n}"} for n in range(95)]
    assert (found["state"], found["rows"], len(found["parts"])) == ("complete", 95, 10)
    assert all((tmp_path / "out" / part["file"]).stat().st_size == part["bytes"] for part in found["parts"])
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == sorted([*(part["file"] for part in found["parts"]), next(n for n in names if "manifest" in n)])


@pytest.mark.parametrize("kind", ["jsonl", "csv", "parquet"])
def test_retry_skips_the_parts_that_are_there(tmp_path: Path, kind: str) -> None:
    calls: list[int] = []
    with pytest.raises(RunFailed, match="not today"):
        load(tmp_path, failing_at(70, calls), format=kind)
    assert not list(tmp_path.glob("_manifest-*"))
    before = {path.name: path.stat().st_mtime_ns for path in tmp_path.glob("part-*")}
    assert len(before) == 7
    calls.clear()

    report = load(tmp_path, failing_at(-1, calls), format=kind)

    assert report.items_skipped == 70
    assert sorted(calls) == list(range(70, 95))
    assert [int(row["id"]) for row in rows_in(tmp_path)] == list(range(95))
    assert before.items() <= {path.name: path.stat().st_mtime_ns for path in tmp_path.glob("part-*")}.items()
    assert not list(tmp_path.glob("_progress-*"))


def test_complete_load_is_not_made_again(tmp_path: Path) -> None:
    load(tmp_path)

    report = load(tmp_path, failing_at(0, []))

    assert (report.items_skipped, report.rows_committed) == (95, 0)


def test_manifest_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    load(tmp_path)
    (file,) = tmp_path.glob("_manifest-*")
    file.write_text("")

    with pytest.raises(RunFailed, match=rf"{file.name} in .* is no JSON .*: delete it"):
        load(tmp_path)
    file.unlink()
    assert load(tmp_path).items_committed == 95


def test_part_that_was_deleted_is_written_again(tmp_path: Path) -> None:
    load(tmp_path)
    (tmp_path / manifest(tmp_path)["parts"][3]["file"]).unlink()

    report = load(tmp_path)

    assert report.items_skipped == 85
    assert [row["id"] for row in rows_in(tmp_path)] == list(range(95))


def test_killed_load_is_gone_on_with(tmp_path: Path) -> None:
    """SIGKILL between two notes of progress: parts that were not noted are written again, under the same names."""
    load_and_die(tmp_path)
    assert len(list(tmp_path.glob("part-*"))) == 7

    report = load(tmp_path, None, [numbered(number) for number in range(95)])

    assert report.items_skipped == 40
    assert [row["id"] for row in rows_in(tmp_path)] == list(range(95))
    assert len(list(tmp_path.glob("part-*"))) == 10


@pytest.mark.parametrize("options", [{"key": "nightly"}, {"key": "another", "write_disposition": "replace"}])
def test_half_a_part_is_gone_when_the_load_is_complete(tmp_path: Path, options: Any) -> None:
    (tmp_path / ".mine.12345678.tmp").write_text("kept")
    load_and_die(tmp_path, half=True)
    assert len(list(tmp_path.glob(".part-*-00000006.jsonl.*.tmp"))) == 1

    load(tmp_path, None, [numbered(number) for number in range(95)], **options)

    assert [path.name for path in tmp_path.glob(".*")] == [".mine.12345678.tmp"]
    assert [row["id"] for row in rows_in(tmp_path)] == list(range(95))


def test_load_that_was_begun_differently_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunFailed):
        load(tmp_path, failing_at(70, []))

    with pytest.raises(RunFailed, match="chunk_size was 10 and is 20") as caught:
        load(tmp_path, pipeline={"chunk_size": 20, "max_in_flight": 20})

    assert isinstance(caught.value.__cause__, LoadMismatch)


def test_replace_takes_out_what_other_loads_wrote(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("kept")
    load(tmp_path, key="first")
    load(tmp_path, key="second", items=range(15), write_disposition="replace")

    assert [row["id"] for row in rows_in(tmp_path)] == list(range(15))
    assert len(list(tmp_path.glob("part-*"))) == 2
    assert (tmp_path / "mine.txt").read_text() == "kept"


def test_replace_leaves_what_others_wrote(tmp_path: Path) -> None:
    others = [
        "part-00000-3e9f6a1c-c000.snappy.parquet",
        "part-of-the-contract.csv",
        "_manifest-old.json",
        "part-1.jsonl",
    ]
    for name in others:
        (tmp_path / name).write_text("kept")
    load(tmp_path, key="first")
    load(tmp_path, key="second", write_disposition="replace")

    assert all((tmp_path / name).read_text() == "kept" for name in others)
    assert len(list(tmp_path.glob("part-*-????????.jsonl"))) == 10


def test_two_loads_live_side_by_side(tmp_path: Path) -> None:
    load(tmp_path, key="first")
    load(tmp_path, key="second")

    assert len(list(tmp_path.glob("part-*"))) == 20
    assert len(list(tmp_path.glob("_manifest-*"))) == 2


def test_dead_letters_are_next_to_the_parts(tmp_path: Path) -> None:
    load(tmp_path, failing_at(42, []), pipeline={"tolerance": 1})

    (file,) = tmp_path.glob("_dead_letters-*.jsonl")
    dead_letter = json.loads(file.read_text())
    assert (dead_letter["position"], dead_letter["item"], dead_letter["cause"]) == (42, 42, dead_letter["cause"])
    assert "not today" in dead_letter["cause"]
    assert file.name.endswith("-00000004.jsonl")


def test_dead_letters_of_a_try_that_was_not_noted_go_when_nothing_fails_any_more(tmp_path: Path) -> None:
    load(tmp_path, failing_at(42, []), pipeline={"tolerance": 1})
    for found in tmp_path.glob("_manifest-*"):  # as when the task was killed before anything was noted
        found.unlink()
    load(tmp_path)

    assert not list(tmp_path.glob("_dead_letters-*"))


def test_chunk_without_rows_has_no_part(tmp_path: Path) -> None:
    from airflow_parallel_provider.engine.interfaces.drop import DROP

    load(tmp_path, lambda number: numbered(number) if number < 10 or number > 80 else DROP)

    parts = manifest(tmp_path)["parts"]
    assert [part["file"] is None for part in parts] == [False, *[True] * 7, False, False]
    assert load(tmp_path).items_skipped == 95


VALUES = {
    "big": 2**80,
    "price": Decimal("1.10"),
    "at": datetime(2026, 11, 21, 8, tzinfo=UTC),
    "day": date(2026, 11, 21),
    "took": timedelta(seconds=90),
    "spent": DayTime(0, 90_000_000),
    "key": UUID(int=7),
    "raw": b"\x00\xff",
    "nothing": None,
    "nan": float("nan"),
    "text": 'quo"tes, commas\nand 🙂',
    "tree": {"a": [1, 2]},
}


def test_values_as_json(tmp_path: Path) -> None:
    load(tmp_path, None, [VALUES])

    assert rows_in(tmp_path) == [
        {
            **VALUES,
            "price": "1.10",
            "at": "2026-11-21T08:00:00+00:00",
            "day": "2026-11-21",
            "took": 90.0,
            "spent": 90.0,
            "key": str(UUID(int=7)),
            "raw": "AP8=",
            "nan": None,
        }
    ]


def test_values_as_csv(tmp_path: Path) -> None:
    load(tmp_path, None, [VALUES], format="csv")

    (row,) = rows_in(tmp_path)
    assert (row["big"], row["price"], row["nothing"], row["text"]) == (str(2**80), "1.10", "", VALUES["text"])
    assert json.loads(row["tree"]) == {"a": [1, 2]}


def test_values_as_parquet(tmp_path: Path) -> None:
    values = {name: value for name, value in VALUES.items() if name not in ("big", "nan")}
    load(tmp_path, None, [values], format="parquet")

    assert rows_in(tmp_path) == [{**values, "key": str(UUID(int=7))}]


@pytest.mark.parametrize("kind", ["jsonl", "csv", "parquet"])
def test_json_text_is_json_in_json_and_a_text_elsewhere(tmp_path: Path, kind: str) -> None:
    texts = ["null", '{"a":\n1.10}', '"x"']
    load(tmp_path, None, [{"v": JsonText(text), "in": [JsonText(text)]} for text in texts], format=kind)

    if kind == "jsonl":
        lines = [f'{{"v": {text}, "in": [{text}]}}\n' for text in ["null", '{"a": 1.10}', '"x"']]
        (part,) = tmp_path.glob("part-*")
        assert part.read_text() == "".join(lines)
    else:
        assert [row["v"] for row in rows_in(tmp_path)] == texts


def test_parquet_parts_share_the_schema_of_the_first(tmp_path: Path) -> None:
    rows = [{"id": 1, "note": None, "price": 0.5}] * 10 + [{"id": 2, "note": "text", "price": 2}] * 10
    load(tmp_path, None, rows, format="parquet")

    first, second = (pq.read_schema(file) for file in sorted(tmp_path.glob("part-*")))
    assert first == second == pa.schema([("id", "int64"), ("note", "string"), ("price", "double")])


@pytest.mark.parametrize(
    ("kind", "last", "complaint"),
    [
        ("parquet", {"id": "text", "name": "n"}, "column 'id' cannot be written as int64"),
        ("parquet", {"id": 1, "other": "n"}, "column 'other' is not in the first part"),
        ("csv", {"id": 1, "other": "n"}, "column 'other' is not in the first part"),
    ],
)
def test_rows_unlike_those_before_are_refused(tmp_path: Path, kind: str, last: Any, complaint: str) -> None:
    with pytest.raises(RunFailed, match=complaint):
        load(tmp_path, None, [*map(numbered, range(10)), last], format=kind, pipeline={"ordered": True})


MOMENT = datetime.fromisoformat("2026-11-21T12:30:00")


@pytest.mark.parametrize(
    ("first", "last"),
    [
        (1, 1.5),
        (1, float("nan")),
        (MOMENT.date(), MOMENT),
        (MOMENT, MOMENT.replace(tzinfo=UTC)),
        (MOMENT.replace(tzinfo=UTC), MOMENT),
        ({"a": 1}, {"a": 1, "b": 2}),
        ({"a": 1}, {"a": 1.5}),
        ([{"a": MOMENT.date()}], [{"a": MOMENT}]),
        (Decimal("1.25"), Decimal("1.255")),
        ("text", 1.5),
    ],
)
def test_parquet_never_changes_a_value_to_make_it_fit(tmp_path: Path, first: Any, last: Any) -> None:
    """Arrow would, without a word: 1.5 to 1, a moment to its date, a struct to the fields it had."""
    rows = [{"id": number, "value": first} for number in range(10)] + [{"id": 10, "value": last}]

    with pytest.raises(RunFailed, match="chunk 00000001: column 'value' cannot be written as") as caught:
        load(tmp_path, None, rows, format="parquet", pipeline={"ordered": True})
    assert "1.255" not in str(caught.value)


@pytest.mark.parametrize("values", [(MOMENT.date(), MOMENT), (MOMENT, MOMENT.replace(tzinfo=UTC))])
def test_parquet_never_makes_one_thing_of_two(tmp_path: Path, values: tuple[Any, Any]) -> None:
    with pytest.raises(RunFailed, match="column 'value' cannot be written"):
        load(tmp_path, None, [{"value": value} for value in values], format="parquet")


def test_decimals_of_parquet_may_be_longer_than_those_of_the_first_part(tmp_path: Path) -> None:
    prices = [Decimal("9.99")] * 10 + [Decimal("12345.5")] * 10
    load(tmp_path, None, [{"price": price} for price in prices], format="parquet", pipeline={"ordered": True})

    assert [row["price"] for row in rows_in(tmp_path)] == prices


@pytest.mark.parametrize(
    ("first", "last", "complaint"),
    [
        ({"id": [1]}, {"id": [2], "name": ["n"]}, "column 'name' is not in the first part"),
        ({"id": [1], "name": ["n"]}, {"id": [2]}, "its Arrow table has no column 'name'"),
        ({"id": [1]}, {"id": [1.5]}, "the earlier parts have id: int64"),
        ({"id": [{"a": 1}]}, {"id": [{"b": 1}]}, "the earlier parts have id: struct"),
    ],
)
def test_arrow_tables_unlike_those_before_are_refused(tmp_path: Path, first: Any, last: Any, complaint: str) -> None:
    tables = [pa.table(first)] * 10 + [pa.table(last)]

    with pytest.raises(RunFailed, match=complaint):
        load(tmp_path, None, tables, format="parquet", pipeline={"ordered": True})


@pytest.mark.parametrize("kind", ["jsonl", "csv"])
@pytest.mark.parametrize("value", [{1, "a"}, {(1, 2): 3}, 1j, [float("nan"), object()]])
def test_value_that_no_file_holds_is_named_by_its_column(tmp_path: Path, kind: str, value: Any) -> None:
    with pytest.raises(RunFailed, match=r"chunk 00000000: column 'odd': .*: make it a text"):
        load(tmp_path, None, [{"id": 1, "odd": value}], format=kind)


def test_half_a_surrogate_pair_leaves_a_file_that_can_be_read(tmp_path: Path) -> None:
    load(tmp_path / "json", None, [{"name": "\ud800 ü"}])
    assert rows_in(tmp_path / "json") == [{"name": "\ud800 ü"}]

    with pytest.raises(RunFailed, match="column 'name': a str cannot be written"):
        load(tmp_path / "csv", None, [{"name": "\ud800"}], format="csv")


def test_json_in_a_field_of_csv_has_no_nan(tmp_path: Path) -> None:
    load(tmp_path, None, [{"values": [1.5, float("nan")]}], format="csv")

    assert rows_in(tmp_path) == [{"values": "[1.5, null]"}]


def test_arrow_tables_become_parquet_as_they_are(tmp_path: Path) -> None:
    tables = [pa.table({"id": pa.array([n, n + 1], "int32")}) for n in range(0, 40, 2)]
    load(tmp_path, None, tables, format="parquet")

    assert [row["id"] for row in rows_in(tmp_path)] == list(range(40))
    assert pq.read_schema(next(tmp_path.glob("part-*"))) == tables[0].schema


def test_tuples_need_names(tmp_path: Path) -> None:
    load(tmp_path, None, [(1, "a")], columns=["id", "name"])

    assert rows_in(tmp_path) == [{"id": 1, "name": "a"}]


class Bound(Source):
    """Numbers below a bound that is frozen."""

    def __init__(self, bound: int) -> None:
        self.bound = bound

    def get_state(self) -> dict[str, Any]:
        return {"bound": self.bound}

    def restore_state(self, state: Any) -> None:
        self.bound = state["bound"]

    def __iter__(self) -> Any:
        return iter(range(self.bound))


def test_state_of_the_source_is_kept(tmp_path: Path) -> None:
    with pytest.raises(RunFailed, match="not today"):
        load(tmp_path, failing_at(70, []), Bound(95))

    load(tmp_path, numbered, Bound(200))

    assert [row["id"] for row in rows_in(tmp_path)] == list(range(95))


def test_reader_never_sees_half_a_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from airflow_parallel_provider.sinks.files.store import FileStore

    store = FileStore.of(str(tmp_path), None)
    store.write("part", b"old")
    monkeypatch.setattr(os, "fsync", lambda fd: (_ for _ in ()).throw(OSError("disk full")))

    with pytest.raises(OSError, match="disk full"):
        store.write("part", b"new and longer")

    assert (tmp_path / "part").read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["part"]


def test_progress_is_noted_now_and_then(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PROGRESS_EVERY", 0.0)
    seen: list[int] = []

    def look(rows: Any) -> Any:
        seen.append(sum(len(json.loads(file.read_text())["parts"]) for file in tmp_path.glob("_progress-*")))
        return rows

    load(tmp_path, look, [numbered(number) for number in range(3)], pipeline={"chunk_size": 1, "max_in_flight": 1})

    assert seen == [0, 1, 2]


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"path": ""}, "path"),
        ({"format": "xml"}, "format"),
        ({"conn_id": ""}, "conn_id"),
        ({"columns": "id"}, "columns"),
        ({"write_disposition": "merge"}, "write_disposition"),
    ],
)
def test_declaration_is_checked(options: dict[str, Any], field: str) -> None:
    with pytest.raises(PlanError, match=rf"SinkFiles\.{field}"):
        SinkFiles(**{"path": "/out", **options})


def test_storage_that_is_not_known_says_so() -> None:
    with pytest.raises(PlanError, match=r"SinkFiles\.path='nowhere://x': the storage cannot be opened"):
        Pipeline([1], [], SinkFiles("nowhere://x")).run()


def test_sink_serves_one_run_after_the_other(tmp_path: Path) -> None:
    sink = SinkFiles(str(tmp_path))
    for number in range(2):
        Pipeline([{"id": number}], [], sink, load_key=f"load {number}").run()

    assert len(list(tmp_path.glob("_manifest-*"))) == 2
