"""``FilesSource`` on object stores, through Airflow connections: S3 (a moto server) and GCS (an emulator)."""

from __future__ import annotations

import gzip
import io
import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from airflow_parallel_provider import FilesSource, ListSink, Pipeline, PlanError, RunFailed, SinkTable, Stage
from airflow_parallel_provider.errors import LoadMismatch, SourceError
from tests.support import cloud
from tests.support.cloud import Bucket

pytestmark = pytest.mark.airflow


@pytest.fixture(params=cloud.BUCKETS)
def bucket(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Bucket:
    """A bucket with three files of ten lines, among others; Airflow reaches it as ``lake``."""
    made: Bucket = cloud.BUCKETS[request.param]()
    for name, value in cloud.as_variables(lake=made.connection).items():
        monkeypatch.setenv(name, value)
    for name in ("c", "a", "b"):
        made.put(f"raw/{name}.jsonl", lines_of(name))
    made.put("raw/sub/d.jsonl", lines_of("d"))
    made.put("raw/notes.txt", b"not a table")
    return made


def lines_of(name: str) -> bytes:
    return "".join(f'{{"id": "{name}{number}"}}\n' for number in range(10)).encode()


def ids(*names: str) -> list[str]:
    return [f"{name}{number}" for name in names for number in range(10)]


def source_of(bucket: Bucket, pattern: str = "raw/*.jsonl", **options: Any) -> FilesSource:
    return FilesSource(bucket.url(pattern), conn_id="lake", **options)


def read_file(file: Any) -> Any:
    return [json.loads(line) for line in file.read_text().splitlines()]


def rows_of(file: Any) -> Any:
    yield from read_file(file)


def run(source: FilesSource, *stages: Stage) -> list[Any]:
    sink = ListSink()
    Pipeline(source, list(stages), sink, ordered=True).run()
    return sink.rows


@pytest.mark.parametrize("kind", ["thread", "process"])
def test_files_are_items_in_the_order_of_their_paths(bucket: Bucket, kind: Any) -> None:
    source = source_of(bucket)

    rows = run(source, Stage(rows_of, kind=kind, workers=1))

    assert [row["id"] for row in rows] == ids("a", "b", "c")
    assert [file.path for file in source.files] == [bucket.url(f"raw/{name}.jsonl") for name in "abc"]
    assert all(file.size == 130 and file.etag for file in source.files)


def test_two_stars_go_into_folders(bucket: Bucket) -> None:
    assert [json.loads(line)["id"] for line in run(source_of(bucket, "raw/**/*.jsonl", items="line"))][-10:] == ids("d")


def test_lines_are_items_packed_or_not(bucket: Bucket) -> None:
    bucket.put("raw/e.jsonl.gz", gzip.compress(lines_of("e")))

    assert [json.loads(line)["id"] for line in run(source_of(bucket, items="line"))] == ids("a", "b", "c")
    assert [json.loads(line)["id"] for line in run(source_of(bucket, "raw/*.gz", items="line"))] == ids("e")


def test_row_groups_are_items(bucket: Bucket) -> None:
    for name in ("y", "x"):
        content = io.BytesIO()
        pq.write_table(pa.table({"id": [f"{name}{number}" for number in range(30)]}), content, row_group_size=10)
        bucket.put(f"raw/{name}.parquet", content.getvalue())

    tables = run(source_of(bucket, "raw/*.parquet", items="row_group", readers=3))

    assert [len(table) for table in tables] == [10] * 6
    assert [row for table in tables for row in table["id"].to_pylist()] == [f"{n}{i}" for n in "xy" for i in range(30)]


@pytest.fixture
def warehouse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    file = tmp_path / "warehouse.db"
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", json.dumps({"conn_type": "sqlite", "host": str(file)}))
    return file


def load(bucket: Bucket, stage: Any, items: Any = "line") -> Any:
    sink = SinkTable("rows", conn_id="warehouse")
    options: Any = {"chunk_size": 10, "max_in_flight": 10, "ordered": True, "load_key": "nightly"}
    return Pipeline(source_of(bucket, items=items), [Stage(stage)], sink, **options).run()


def failing_at(wanted: str) -> Any:
    def stage(line: str) -> Any:
        if json.loads(line)["id"] == wanted:
            raise ValueError("not today")
        return json.loads(line)

    return stage


def test_retry_reads_the_listing_of_the_first_try(bucket: Bucket, warehouse: Path) -> None:
    with pytest.raises(RunFailed, match="not today"):
        load(bucket, failing_at("b3"))
    bucket.put("raw/aa.jsonl", lines_of("aa"))

    report = load(bucket, json.loads)

    assert (report.items_read, report.items_skipped) == (30, 10)
    with closing(sqlite3.connect(warehouse)) as connection:
        assert [row[0] for row in connection.execute("SELECT id FROM rows ORDER BY id")] == ids("a", "b", "c")


@pytest.mark.parametrize("change", ["another content of the same size", "gone"])
def test_file_that_changed_between_two_tries_fails_loudly(bucket: Bucket, warehouse: Path, change: str) -> None:
    with pytest.raises(RunFailed, match="not today"):
        load(bucket, failing_at("b3"))
    if change == "gone":
        bucket.remove("raw/c.jsonl")
    else:
        bucket.put("raw/c.jsonl", lines_of("z"))

    reason = "no longer exists" if change == "gone" else "has changed"
    with pytest.raises(RunFailed, match=rf"raw/c\.jsonl {reason}") as caught:
        load(bucket, json.loads)

    assert isinstance(caught.value.__cause__, LoadMismatch)


@pytest.mark.parametrize("bucket", ["s3"], indirect=True)
def test_file_that_is_written_again_as_it_was_is_the_same(bucket: Bucket, warehouse: Path) -> None:
    """An ETag of S3 goes by content; one of Google's by the writing, other than this emulator's."""
    with pytest.raises(RunFailed, match="not today"):
        load(bucket, failing_at("b3"))
    bucket.put("raw/c.jsonl", lines_of("c"))

    assert load(bucket, json.loads).rows_committed == 20


def test_file_that_changes_between_listing_and_opening_is_not_read(bucket: Bucket) -> None:
    source = source_of(bucket)
    source.prepare()
    (_, changed, _) = source.files
    bucket.put("raw/b.jsonl", lines_of("z"))
    cold = type(changed)(changed.path, changed.size, changed.etag, changed.conn_id)

    for each in (changed, cold):
        with pytest.raises((SourceError, OSError), match=r"has changed since|no longer exists"):
            each.read_bytes()


def test_pattern_without_files_and_bucket_that_is_not_there(bucket: Bucket) -> None:
    with pytest.raises(PlanError, match="it matches 0 files"):
        run(source_of(bucket, "raw/*.csv"))
    bucket.name += "-mistyped"
    with pytest.raises((PlanError, SourceError), match=r"it matches 0 files|cannot be listed"):
        run(source_of(bucket))
