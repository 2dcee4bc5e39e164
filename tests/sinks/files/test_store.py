"""``SinkFiles`` on object stores, through Airflow connections: S3 (a moto server) and GCS (an emulator)."""

from __future__ import annotations

import json
from typing import Any

import pytest

from airflow_parallel_provider import Pipeline, RunFailed, SinkFiles
from airflow_parallel_provider.sinks.files.store import FileStore
from tests.support import cloud, parts
from tests.support.cloud import Bucket
from tests.support.parts import failing_at, numbered

pytestmark = pytest.mark.airflow


@pytest.fixture(params=cloud.BUCKETS)
def bucket(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Bucket:
    """An empty bucket, which Airflow reaches as ``lake``."""
    made: Bucket = cloud.BUCKETS[request.param]()
    for name, value in cloud.as_variables(lake=made.connection).items():
        monkeypatch.setenv(name, value)
    return made


def load(bucket: Bucket, *given: Any, **options: Any) -> Any:
    return parts.load(bucket.url("out/orders"), *given, conn_id="lake", **options)


def objects(bucket: Bucket, kind: str) -> list[str]:
    return [name for name in bucket.names() if name.startswith(f"out/orders/{kind}-")]


def manifest(bucket: Bucket) -> dict[str, Any]:
    (name,) = objects(bucket, "_manifest")
    return json.loads(bucket.get(name))


def rows_in(bucket: Bucket) -> list[Any]:
    """The rows as a reader of the manifest sees them."""
    return parts.rows_of_parts(manifest(bucket), lambda name: bucket.get(f"out/orders/{name}"))


@pytest.mark.parametrize("kind", ["jsonl", "csv", "parquet"])
def test_every_row_is_in_one_part_and_the_manifest_is_last(
    bucket: Bucket, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[str] = []
    write = FileStore.write

    def watched(self: FileStore, name: str, content: bytes) -> None:
        write(self, name, content)
        written.append(name)

    monkeypatch.setattr(FileStore, "write", watched)
    load(bucket, format=kind)

    number = str if kind == "csv" else int
    assert rows_in(bucket) == [{"id": number(n), "name": f"name {n}"} for n in range(95)]
    assert (manifest(bucket)["state"], manifest(bucket)["rows"], len(objects(bucket, "part"))) == ("complete", 95, 10)
    assert written[-1].startswith("_manifest-")
    assert len(bucket.names()) == 11


@pytest.mark.parametrize("kind", ["jsonl", "csv", "parquet"])
def test_retry_skips_the_parts_that_are_there(bucket: Bucket, kind: str) -> None:
    calls: list[int] = []
    with pytest.raises(RunFailed, match="not today"):
        load(bucket, failing_at(70, calls), format=kind)
    assert (len(objects(bucket, "part")), objects(bucket, "_manifest")) == (7, [])
    calls.clear()

    report = load(bucket, failing_at(-1, calls), format=kind)

    assert report.items_skipped == 70
    assert sorted(calls) == list(range(70, 95))
    assert [int(row["id"]) for row in rows_in(bucket)] == list(range(95))
    assert objects(bucket, "_progress") == []


def test_part_is_written_once_and_in_one_request(monkeypatch: pytest.MonkeyPatch) -> None:
    bucket = cloud.S3Bucket()
    for name, value in cloud.as_variables(lake=bucket.connection).items():
        monkeypatch.setenv(name, value)
    with pytest.raises(RunFailed, match="not today"):
        load(bucket, failing_at(70, []))

    load(bucket)

    versions = [bucket.versions(name) for name in objects(bucket, "part")]
    assert [len(each) for each in versions] == [1] * 10
    assert not any("-" in etag for each in versions for etag in each)


def test_killed_load_is_gone_on_with_under_the_same_names(bucket: Bucket) -> None:
    """SIGKILL between two notes of progress: parts that were not noted are written again."""
    parts.load_and_die(bucket.url("out/orders"), conn_id="lake")
    before = objects(bucket, "part")
    assert (len(before), len(objects(bucket, "_progress"))) == (7, 1)

    report = load(bucket, None, [numbered(number) for number in range(95)])

    assert report.items_skipped == 40
    assert [row["id"] for row in rows_in(bucket)] == list(range(95))
    assert set(before) < set(objects(bucket, "part"))
    assert len(objects(bucket, "part")) == 10


def test_complete_load_is_not_made_again_but_a_lost_part_is(bucket: Bucket) -> None:
    load(bucket)
    assert load(bucket, failing_at(0, [])).items_skipped == 95

    bucket.remove(objects(bucket, "part")[3])

    assert load(bucket).items_skipped == 85
    assert [row["id"] for row in rows_in(bucket)] == list(range(95))


def test_replace_takes_out_what_other_loads_wrote(bucket: Bucket) -> None:
    bucket.put("out/orders/mine.txt", b"kept")
    load(bucket, key="first")
    load(bucket, key="second", items=range(15), write_disposition="replace")

    assert [row["id"] for row in rows_in(bucket)] == list(range(15))
    assert len(objects(bucket, "part")) == 2
    assert bucket.get("out/orders/mine.txt") == b"kept"


def test_dead_letters_are_next_to_the_parts(bucket: Bucket) -> None:
    load(bucket, failing_at(42, []), pipeline={"tolerance": 1})

    (name,) = objects(bucket, "_dead_letters")
    dead_letter = json.loads(bucket.get(name))
    assert (dead_letter["position"], dead_letter["item"]) == (42, 42)
    assert name.endswith("-00000004.jsonl")


def test_connection_may_stand_in_the_path(bucket: Bucket) -> None:
    sink = SinkFiles(f"{bucket.scheme}://lake@{bucket.name}/out/orders")
    Pipeline([numbered(1)], [], sink, load_key="nightly").run()

    assert rows_in(bucket) == [numbered(1)]


def test_bucket_that_is_not_there_is_an_error_and_not_made(bucket: Bucket) -> None:
    """The file systems would make it: a mistyped name must not become a bucket."""
    bucket.name = f"{bucket.name}-mistyped"

    with pytest.raises(RunFailed, match=r"does not exist|Not Found|FileNotFound"):
        load(bucket)

    assert bucket.name not in bucket.buckets()


def test_first_writer_of_a_file_wins(bucket: Bucket) -> None:
    store = FileStore.of(bucket.url("out/orders"), "lake")
    last = b"one" if isinstance(bucket, cloud.BUCKETS["s3"]) else b"two"  # the emulator does not know the condition

    assert [store.create("_columns", text) for text in (b"one", b"two")] == [b"one", last]
