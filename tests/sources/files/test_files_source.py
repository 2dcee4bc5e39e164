"""``FilesSource`` on real files: whole, by lines, by row groups; a listing that stays."""

from __future__ import annotations

import bz2
import gzip
import json
import os
import pickle
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from airflow_parallel_provider import FilesSource, ListSink, Pipeline, PlanError, RunFailed, SinkTable, Stage
from airflow_parallel_provider.errors import LoadMismatch, SourceError
from tests.support.databases import SqliteDatabase

pytestmark = pytest.mark.airflow


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three files of ten lines, in a folder with others."""
    made = tmp_path / "raw"
    (made / "sub").mkdir(parents=True)
    for name in ("c", "a", "b"):
        (made / f"{name}.jsonl").write_text("".join(f'{{"id": "{name}{number}"}}\n' for number in range(10)))
    (made / "notes.txt").write_text("no")
    (made / "sub" / "d.jsonl").write_text('{"id": "d0"}')
    (made / "folder.jsonl").mkdir()
    return made


def test_files_come_in_the_order_of_their_paths(folder: Path) -> None:
    files = list(FilesSource(folder / "*.jsonl"))

    assert [file.name for file in files] == ["a.jsonl", "b.jsonl", "c.jsonl"]
    assert files[0].path == f"file://{folder}/a.jsonl"
    assert files[0].size == len(files[0].read_bytes()) == len(files[0].read_text())
    assert pickle.loads(pickle.dumps(files[0])) == files[0]


def test_pattern_may_go_down(folder: Path) -> None:
    assert [file.name for file in FilesSource(f"file://{folder}/**/*.jsonl")][-1] == "d.jsonl"


def test_lines_are_texts_without_their_ends(tmp_path: Path) -> None:
    (tmp_path / "1.txt").write_bytes("one\r\n\nzwölf\nlast".encode())
    (tmp_path / "2.txt.gz").write_bytes(gzip.compress(b"packed\n"))
    (tmp_path / "3.txt.bz2").write_bytes(bz2.compress(b"small\n"))

    assert list(FilesSource(tmp_path / "*", items="line")) == ["one", "", "zwölf", "last", "packed", "small"]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-32", "utf-8", "utf-8-sig"])
def test_lines_of_any_encoding_without_a_mark_at_the_beginning(tmp_path: Path, encoding: str) -> None:
    lines = ["\ufeffone", "\u0a0a \u0d0a", "", "zwölf\u2028x", "last"]
    text = "\r\n".join(lines) if encoding.endswith(("8", "le")) else "\r\n".join(lines).removeprefix("\ufeff")
    (tmp_path / "1.txt.gz").write_bytes(gzip.compress(text.encode(encoding)))
    (tmp_path / "2.txt").write_bytes(text.encode(encoding))

    found = list(FilesSource(tmp_path / "*", items="line", encoding=encoding))

    assert found == ["one", *lines[1:]] * 2


def test_line_that_fails_is_named_with_its_file(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / f"{name}.txt").write_text("1\n2\n" if name == "a" else "3\nx\n5")

    with pytest.raises(RunFailed, match=r"ValueError: .*, item 3 \(.*/b\.txt, line 2\)"):
        Pipeline(FilesSource(tmp_path / "*.txt", items="line"), [Stage(lambda line: 1 / int(line))], ListSink()).run()


def test_chunk_that_the_sink_refuses_is_named_with_its_files(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        (tmp_path / name).write_text("")

    def refused(rows: list[Any]) -> None:
        if any(row.name == "b" for row in rows):
            raise ValueError("no")

    for size, named in ((1, r"file://.*/b"), (2, r"file://.*/a to file://.*/b")):
        with pytest.raises(RunFailed, match=rf"ValueError: no.*\. The chunk holds {named}$"):
            Pipeline(FilesSource(tmp_path / "*"), [], refused, chunk_size=size, ordered=True).run()


@pytest.mark.parametrize(("filler", "encoding"), [(" ", "utf-8"), (" \r", "utf-8"), (" ", "utf-16"), (" \r", "utf-16")])
def test_line_that_is_too_long_is_refused_with_its_place(tmp_path: Path, filler: str, encoding: str) -> None:
    """A carriage return ends no line here, so it must not end the count."""
    (tmp_path / "a.jsonl").write_bytes(f"1\n{filler * 2_000_000}".encode(encoding))

    wanted = r"a\.jsonl after line 1: a line of more than largest_text=1,000,000 bytes: .*FilesSource\(largest_text=\)"
    with pytest.raises(SourceError, match=wanted):
        list(FilesSource(tmp_path / "a.jsonl", items="line", largest_text=1_000_000, encoding=encoding))
    assert len(list(FilesSource(tmp_path / "a.jsonl", items="line", encoding=encoding))) == 2


def test_line_that_cannot_be_decoded_is_named(tmp_path: Path) -> None:
    (tmp_path / "bad.txt").write_bytes(b"fine\n\xff\xfe\n")

    with pytest.raises(SourceError, match=r"bad\.txt after line 1: UnicodeDecodeError"):
        list(FilesSource(tmp_path / "*", items="line"))


def test_row_groups_are_tables(tmp_path: Path) -> None:
    for name, rows in (("a", 25), ("b", 10), ("empty", 0)):
        table = pa.table({"id": [f"{name}{number}" for number in range(rows)]}, pa.schema([("id", "string")]))
        pq.write_table(table, tmp_path / f"{name}.parquet", row_group_size=10)

    groups = list(FilesSource(tmp_path / "*.parquet", items="row_group"))

    assert [len(group) for group in groups if len(group)] == [10, 10, 5, 10]
    assert groups[2].column("id").to_pylist() == ["a20", "a21", "a22", "a23", "a24"]


def test_file_that_is_no_parquet_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.parquet").write_text("this is not Parquet")

    with pytest.raises(SourceError, match=r"x\.parquet: ArrowInvalid"):
        list(FilesSource(tmp_path / "*", items="row_group"))


def test_too_few_files_fail_before_anything_starts(folder: Path) -> None:
    with pytest.raises(PlanError, match="it matches 0 files, at_least=1"):
        FilesSource(folder / "*.csv").prepare()
    with pytest.raises(PlanError, match="it matches 3 files, at_least=4"):
        FilesSource(folder / "*.jsonl", at_least=4).prepare()

    assert list(FilesSource(folder / "*.csv", at_least=0)) == []


def test_storage_that_is_not_known_says_so() -> None:
    with pytest.raises(SourceError, match=r"files nowhere://bucket/\*: cannot be listed"):
        FilesSource("nowhere://bucket/*").prepare()


class Load:
    """A load of the folder's lines into a table, tried again and again."""

    def __init__(self, folder: Path, database: SqliteDatabase) -> None:
        self.folder = folder
        self.database = database

    def run(self, stage: Any = json.loads) -> Any:
        source = FilesSource(self.folder / "*.jsonl", items="line")
        sink = SinkTable("lines", conn_id="warehouse", primary_key=["id"])
        return Pipeline(source, [Stage(stage)], sink, chunk_size=5, max_in_flight=5, load_key="nightly").run()

    def fail(self) -> None:
        """A first try that ends in the last file."""

        def stage(line: str) -> Any:
            row = json.loads(line)
            if row["id"] == "c9":
                raise ValueError("not today")
            return row

        with pytest.raises(RunFailed, match="not today"):
            self.run(stage)


@pytest.fixture
def load(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Load:
    database = SqliteDatabase(tmp_path / "warehouse.db")
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", json.dumps({"conn_type": "sqlite", "host": str(database.path)}))
    return Load(folder, database)


def test_retry_reads_the_files_of_the_first_try(load: Load) -> None:
    load.fail()
    (load.folder / "aa.jsonl").write_text('{"id": "late"}\n')

    report = load.run()

    assert [row[0] for row in load.database.rows("lines", "id")] == [f"{name}{n}" for name in "abc" for n in range(10)]
    assert report.items_skipped >= 5


def test_retry_names_the_files_that_changed(load: Load) -> None:
    load.fail()
    (load.folder / "a.jsonl").write_text('{"id": "other"}\n')
    (load.folder / "b.jsonl").unlink()

    with pytest.raises(RunFailed, match=r"a\.jsonl has changed \(130 bytes.*b\.jsonl no longer exists") as caught:
        load.run()

    assert isinstance(caught.value.__cause__, LoadMismatch)
    assert "c.jsonl" not in str(caught.value)


def test_file_of_the_same_size_has_changed_when_it_was_written_again(load: Load) -> None:
    load.fail()
    file = load.folder / "a.jsonl"
    content, seen = file.read_text(), file.stat()
    file.write_text(content.replace("a0", "z0"))
    os.utime(file, ns=(seen.st_atime_ns, seen.st_mtime_ns + 1_000_000_000))

    with pytest.raises(RunFailed, match=r"a\.jsonl has changed"):
        load.run()


def test_load_without_a_chunk_begins_with_a_new_listing(load: Load) -> None:
    def never(line: str) -> Any:
        raise ValueError("not today")

    with pytest.raises(RunFailed, match="not today"):
        load.run(never)
    (load.folder / "b.jsonl").unlink()

    assert load.run().items_read == 20


def test_files_are_opened_in_processes(folder: Path) -> None:
    sink = ListSink()

    Pipeline(FilesSource(folder / "*.jsonl"), [Stage(first_id, kind="process", workers=2)], sink, ordered=True).run()

    assert sink.rows == ["a0", "b0", "c0"]


def first_id(file: Any) -> str:
    with file.open("rt") as lines:
        return json.loads(next(iter(lines)))["id"]


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"path": ""}, "path"),
        ({"items": "lines"}, "items"),
        ({"conn_id": ""}, "conn_id"),
        ({"readers": 65}, "readers"),
        ({"at_least": -1}, "at_least"),
        ({"largest_text": "1 GB"}, "largest_text"),
        ({"compression": ""}, "compression"),
        ({"encoding": "utf-9"}, "encoding"),
    ],
)
def test_declaration_is_checked(options: dict[str, Any], field: str) -> None:
    with pytest.raises(PlanError, match=rf"FilesSource\.{field}"):
        FilesSource(**{"path": "/data/*", **options})


def test_identity_is_the_pattern_and_not_the_files(folder: Path) -> None:
    source = FilesSource(folder / "*.jsonl", items="line")
    before = repr(source)
    source.prepare()

    assert repr(source) == before == f"lines of files {folder}/*.jsonl"
