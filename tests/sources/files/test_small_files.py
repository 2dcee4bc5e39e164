"""Many small files: neighbors are committed together, the same ones at every try."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from airflow_parallel_provider import FilesSource, FilesToTableOperator, ListSink, Pipeline, RunFailed, SinkTable, Stage
from airflow_parallel_provider.engine.interfaces.failed_part import FailedPart
from airflow_parallel_provider.errors import LoadMismatch, PlanError
from airflow_parallel_provider.operators import files_to_table
from airflow_parallel_provider.sources.files.listing import group_lengths

pytestmark = pytest.mark.airflow

SIZES = [10, 10, 30, 100, 5, 5, 5, 0, 20, 40]
GROUPS = [["0", "1"], ["2"], ["3"], ["4", "5", "6", "7"], ["8"], ["9"]]
"""What 40 bytes and 4 files hold."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Files of some bytes each."""
    made = tmp_path / "in"
    made.mkdir()
    for number, size in enumerate(SIZES):
        (made / f"{number}.txt").write_text("x" * size)
    return made


@pytest.fixture
def warehouse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A SQLite file, known to Airflow as ``warehouse``."""
    file = tmp_path / "warehouse.db"
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", json.dumps({"conn_type": "sqlite", "host": str(file)}))
    return file


def stored(warehouse: Path, query: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(warehouse)) as connection:
        return connection.execute(query).fetchall()


def named(file: Any) -> dict[str, Any]:
    return {"name": file.name.removesuffix(".txt"), "size": file.size}


def fails_at_4(file: Any) -> dict[str, Any]:
    if file.name == "4.txt":
        raise ValueError("not yet")
    return named(file)


def in_parts(file: Any) -> Iterator[Any]:
    yield named(file)
    if file.name == "5.txt":
        yield FailedPart("half", "ValueError", "half of it")


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ([], []),
        ([0, 0, 0], [3]),
        ([40, 1], [1, 1]),
        ([41, 1, 39, 1], [1, 2, 1]),
        (SIZES, [len(group) for group in GROUPS]),
        ([1] * 9, [4, 4, 1]),
    ],
)
def test_neighbors_fill_a_chunk(sizes: list[int], expected: list[int]) -> None:
    assert group_lengths(sizes, 40, 4) == expected


def pipeline(folder: Path, function: Any, **options: Any) -> Pipeline:
    options = {"load_key": "one", "ordered": True, **options}
    source = FilesSource(folder / "*.txt", chunk_bytes=options.pop("chunk_bytes", 40))
    stage = Stage(function, kind=options.pop("kind", "thread"))
    return Pipeline(source, [stage], SinkTable("names", conn_id="warehouse"), chunk_size=4, **options)


def chunks_in(warehouse: Path) -> list[tuple[Any, ...]]:
    return stored(warehouse, "SELECT chunk_id, first_position, items FROM airflow_parallel_ledger ORDER BY 1")


CHUNKS = [
    (f"{at:08}", sum(map(len, GROUPS[:at])), len(group)) for at, group in enumerate(GROUPS)
]  # fmt: skip


@pytest.mark.parametrize("kind", ["thread", "process", "inline"])
def test_a_retry_finds_the_same_chunks(folder: Path, warehouse: Path, kind: str) -> None:
    """Although files have come in between, and the operator of a later version makes larger chunks."""
    with pytest.raises(RunFailed, match=r"not yet.*item 4 \(.*/4\.txt\)"):
        pipeline(folder, fails_at_4, kind=kind, max_in_flight=4).run()
    before = chunks_in(warehouse)
    (folder / "00.txt").write_text("a file that came late")

    report = pipeline(folder, named, kind=kind, chunk_bytes=1_000_000).run()

    assert before == CHUNKS[:3]
    assert chunks_in(warehouse) == CHUNKS
    assert stored(warehouse, "SELECT name, size FROM names ORDER BY name") == list(
        zip("0123456789", SIZES, strict=True)
    )
    assert (report.chunks_skipped, report.items_skipped) == (3, 4)


def test_dead_letters_know_their_position(folder: Path, warehouse: Path) -> None:
    report = pipeline(folder, in_parts, tolerance=1).run()

    assert report.failures[0]["sample"]["position"] == 5
    assert stored(warehouse, "SELECT position, chunk_id FROM names__dead_letters") == [(5, "00000003")]
    assert stored(warehouse, "SELECT count(*) FROM names") == [(10,)]


def test_shards_write_the_same_chunks(folder: Path, warehouse: Path) -> None:
    def load() -> Pipeline:
        return pipeline(folder, named, ordered=False)

    load().begin()
    (folder / "00.txt").write_text("a file that came late")
    for shard in ((1, 3), (0, 3), (2, 3)):
        load().run(shard=shard)
    report = load().finish()

    assert (report.rows_committed, report.chunks_committed) == (10, 6)
    assert chunks_in(warehouse) == CHUNKS


def test_a_file_that_has_changed_is_refused(folder: Path, warehouse: Path) -> None:
    with pytest.raises(RunFailed):
        pipeline(folder, fails_at_4, max_in_flight=4).run()
    (folder / "9.txt").write_text("other")

    with pytest.raises(RunFailed, match=r"9\.txt has changed") as raised:
        pipeline(folder, named).run()
    assert isinstance(raised.value.__cause__, LoadMismatch)


def test_a_large_file_counts_as_a_full_chunk(tmp_path: Path) -> None:
    """Else as many large files as a chunk has small ones could be in memory."""
    for number in range(20):
        (tmp_path / f"{number:02}").write_text("x" * 50)
    read: list[str] = []
    ahead: list[int] = []
    done: list[str] = []

    def commit(rows: list[Any]) -> None:
        ahead.append(len(read) - len(done))
        done.extend(rows)

    def note(file: Any) -> str:
        read.append(file.name)
        return str(file.name)

    source = FilesSource(tmp_path / "*", chunk_bytes=40)
    Pipeline(source, [Stage(note, workers=8)], commit, chunk_size=10, max_in_flight=30).run()

    assert len(done) == len(ahead) == 20
    assert max(ahead) <= 3


def test_small_files_are_grouped_by_default(folder: Path, warehouse: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "0.txt").write_text("id\n1\n")
    given = FilesSource(folder / "*.txt")
    sink = SinkTable("names", conn_id="warehouse")

    def task(**options: Any) -> FilesToTableOperator:
        return FilesToTableOperator(task_id="load", files=given, format="csv", sink=sink, **options)

    def numbers(task: FilesToTableOperator) -> tuple[Any, ...]:
        return task.chunk_size, getattr(task.source, "chunk_bytes", None)

    assert numbers(task()) == (500, 8 << 20)
    assert numbers(task(max_in_flight=40)) == (10, 8 << 20)
    assert numbers(task(chunk_size=1)) == (1, None)
    assert numbers(task(chunk_size="{{ 7 }}")) == ("{{ 7 }}", None)
    assert given.chunk_bytes is None, "the author's own source stays as it is"
    monkeypatch.setattr(files_to_table, "CHUNK_BYTES", 40)
    assert numbers(task()) == (500, 40)


def test_only_files_are_grouped() -> None:
    with pytest.raises(PlanError, match=r"FilesSource\.chunk_bytes.*the items are lines"):
        FilesSource("/data/*", items="line", chunk_bytes=100)


def test_chunks_are_listed_without_the_files(folder: Path) -> None:
    source = FilesSource(folder / "*.txt", chunk_bytes=40)
    report = Pipeline(source, [Stage(named)], sink := ListSink(), chunk_size=4, ordered=True).run()

    assert [row["name"] for row in sink.rows] == list("0123456789")
    assert report.chunks_committed == len(GROUPS)
