"""Manifests: the files of a load are those that a file lists."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from airflow_parallel_provider import FilesSource, FilesToTableOperator, ListSink, Pipeline, PlanError, SinkTable, Stage
from airflow_parallel_provider.errors import LoadMismatch, RunFailed, SourceError
from tests.support import cloud
from tests.support.cloud import Bucket

pytestmark = pytest.mark.airflow


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "in"
    (made / "sub").mkdir(parents=True)
    for name in ("a", "b", "sub/c", "[x]*"):
        (made / name).write_text(name)
    return made


def names(source: FilesSource) -> list[str]:
    source.prepare()
    return [file.name for file in source.files]


def listed(folder: Path, content: Any, name: str = "manifest", **options: Any) -> FilesSource:
    text = content if isinstance(content, str) else json.dumps(content)
    (folder / name).write_text(text)
    return FilesSource(folder / name, manifest=True, **options)


def entry(url: str, **more: Any) -> dict[str, Any]:
    return {"url": url, **more}


@pytest.mark.parametrize("end", ["\n", "\r\n", "\n\n"])
def test_one_path_per_line(folder: Path, end: str) -> None:
    """Relative to the manifest, absolute, or with a protocol; none is a pattern; each file once."""
    lines = ["sub/c", f"{folder}/b", f"file://{folder}/a", "./sub/../a", "[x]*"]

    assert names(listed(folder, end.join(lines))) == ["c", "b", "a", "[x]*"]


@pytest.mark.parametrize(
    "content",
    [
        ["b", "a"],
        {"entries": ["b", "a"]},
        {"entries": [entry("b", mandatory=True), entry("a")], "author": {"name": "Amazon Redshift"}},
        [{"path": "b"}, {"url": "a", "meta": {"content_length": 1}}],
    ],
)
def test_json(folder: Path, content: Any) -> None:
    assert names(listed(folder, content)) == ["b", "a"]


def test_packed_with_a_mark(folder: Path) -> None:
    (folder / "m.json.gz").write_bytes(gzip.compress('\ufeff["b"]'.encode()))

    assert names(FilesSource(folder / "m.json.gz", manifest=True)) == ["b"]


def test_a_mandatory_file_that_is_missing(folder: Path) -> None:
    for content, place in (("a\nnone\n", "line 2"), ({"entries": [entry("none", mandatory=True)]}, "entry 1")):
        with pytest.raises(SourceError, match=rf"manifest file://.*: .*/none \({place}\) is not there: have them writ"):
            names(listed(folder, content))


def test_an_optional_file_that_is_missing_is_told(folder: Path) -> None:
    source = listed(folder, {"entries": [entry("a"), entry("none"), entry("sub")]})

    report = Pipeline(source, [], ListSink()).run()

    assert report.items_read == 1
    (warning,) = report.warnings
    assert warning.startswith("not there, and not mandatory: 2 files of the manifest (file://")


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("[1]", "entry 1 is neither a path nor an object"),
        ("[", "it is no JSON"),
        ('{"files": []}', "it has no list of entries"),
        ({"entries": [{}]}, "entry 1 has no 'url'"),
        ({"entries": [entry("a", mandatory="yes")]}, "entry 1: 'mandatory' is 'yes'"),
        ({"entries": [entry("a", meta={"content_length": "1"})]}, "'content_length' is '1'"),
        ({"entries": [entry("a", meta={"content_length": 7})]}, r"a \(entry 1: 7 bytes, but it has 1\) is not as"),
    ],
)
def test_what_is_no_manifest(folder: Path, content: Any, complaint: str) -> None:
    with pytest.raises(SourceError, match=rf"manifest file://.*manifest: .*{complaint}"):
        names(listed(folder, content))


def test_a_manifest_of_other_bytes(folder: Path) -> None:
    (folder / "m").write_bytes(b"\x93NUMPY\xff")
    with pytest.raises(SourceError, match="byte 0x93 at 0 is not utf-8"):
        names(FilesSource(folder / "m", manifest=True))


def test_no_manifest_and_an_empty_one(folder: Path) -> None:
    with pytest.raises(PlanError, match="there is no such manifest"):
        names(FilesSource(folder / "none", manifest=True))
    with pytest.raises(PlanError, match="it lists 0 files, at_least=1"):
        names(listed(folder, ""))
    assert names(listed(folder, "[]", at_least=0)) == []
    with pytest.raises(PlanError, match=r"FilesSource\.manifest='m'"):
        FilesSource(folder, manifest="m")  # type: ignore[arg-type]


def test_several_manifests_by_a_pattern(folder: Path) -> None:
    listed(folder, "a", "1.manifest")
    listed(folder, "b\na", "2.manifest")

    assert names(FilesSource(folder / "*.manifest", manifest=True)) == ["a", "b"]


def fails_at_c(file: Any) -> dict[str, str]:
    if file.name == "c" and not file.path.endswith("retried/c"):
        raise ValueError("not c")
    return {"name": file.name}


def test_a_retry_reads_what_the_first_manifest_listed(folder: Path, warehouse: Path) -> None:
    def load(function: Any) -> Any:
        source = FilesSource(folder / "manifest", manifest=True)
        sink = SinkTable("names", conn_id="warehouse")
        stage = Stage(function, name="read")
        return Pipeline(source, [stage], sink, chunk_size=1, max_in_flight=1, load_key="m").run()

    listed(folder, "a\nsub/c")
    with pytest.raises(RunFailed, match="not c"):
        load(fails_at_c)
    listed(folder, "b")
    report = load(lambda file: {"name": file.name})
    assert (report.items_skipped, report.items_committed) == (1, 1)

    (folder / "a").unlink()
    with pytest.raises(RunFailed, match="a no longer exists") as caught:
        load(fails_at_c)
    assert isinstance(caught.value.__cause__, LoadMismatch)


@pytest.fixture(params=cloud.BUCKETS)
def bucket(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Bucket:
    made: Bucket = cloud.BUCKETS[request.param]()
    for name, value in cloud.as_variables(lake=made.connection).items():
        monkeypatch.setenv(name, value)
    for name in ("1", "2"):
        made.put(f"raw/day/{name}.csv", f"id\n{name}\n".encode())
    return made


def test_of_an_object_store(bucket: Bucket) -> None:
    """Its entries need no connection of their own, and a list of ten is asked for at once."""
    entries = [entry(bucket.url("raw/day/2.csv"), mandatory=True), entry("day/1.csv"), entry("day/none.csv")]
    bucket.put("raw/m.json", json.dumps({"entries": entries}).encode())
    files = FilesSource(bucket.url("raw/m.json").replace("://", "://lake@"), manifest=True)
    load = FilesToTableOperator(task_id="load", files=files, sink=(sink := ListSink()))

    Pipeline(load.source, load.stages, sink, chunk_size=load.chunk_size).run()

    assert [row["id"] for row in sink.rows] == ["2", "1"]
    bucket.put("raw/bad", b"/raw/day/1.csv\n")
    with pytest.raises(SourceError, match=r"line 1: '/raw/day/1\.csv' begins with a slash: give it with its prot"):
        names(FilesSource(bucket.url("raw/bad"), conn_id="lake", manifest=True))
    bucket.put("raw/bad", b"../../other/1.csv\n")
    with pytest.raises(SourceError, match="leaves the bucket"):
        names(FilesSource(bucket.url("raw/bad"), conn_id="lake", manifest=True))


def test_a_local_manifest_of_objects(bucket: Bucket, tmp_path: Path) -> None:
    (tmp_path / "list").write_text(bucket.url("raw/day/1.csv") + "\n")

    assert names(FilesSource(tmp_path / "list", conn_id="lake", manifest=True)) == ["1.csv"]
