"""A database file that is deleted or replaced while it is written: the load fails, and the next attempt starts over."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from airflow_parallel_provider import Pipeline, SinkTable, Stage
from airflow_parallel_provider.engine.interfaces.records import ChunkResult
from airflow_parallel_provider.engine.interfaces.sink import Sink
from airflow_parallel_provider.engine.interfaces.wrapped_sink import WrappedSink
from airflow_parallel_provider.errors import SinkError, SinkFailed
from airflow_parallel_provider.sql.backends.database_files import DatabaseFiles
from tests.support.databases import TestDatabase, close_files

pytestmark = pytest.mark.airflow
EMBEDDED = pytest.mark.parametrize("database", ["sqlite", "duckdb"], indirect=True)


class Meddling(WrappedSink):
    """Does something to the file after so many commits, or before the load is marked as complete."""

    def __init__(self, inner: Sink, after: int | None, meddle: Callable[[], object]) -> None:
        super().__init__(inner)
        self.after = after
        self.meddle = meddle

    def commit(self, chunk: ChunkResult) -> int | None:
        rows = super().commit(chunk)
        if chunk.index + 1 == self.after:
            self.meddle()
        return rows

    def finish(self) -> None:
        if self.after is None:
            self.meddle()
        super().finish()


def delete(path: Path) -> None:
    path.unlink()


def delete_and_make_anew(path: Path) -> None:
    path.unlink()
    path.touch()


def replace_by_a_copy(path: Path) -> None:
    copy = path.with_suffix(".copy")
    shutil.copy(path, copy)
    copy.rename(path)


@pytest.fixture
def place(database: TestDatabase, monkeypatch: pytest.MonkeyPatch) -> Path:
    from airflow_parallel_provider.sql import database as module

    close_files()  # the load must notice what happens to the file by itself
    monkeypatch.setattr(module, "get_connection", lambda *_: database.connection)
    return Path(database.connection.host)


def load(sink: Sink) -> Any:
    stages = [Stage(lambda number: {"id": number}, name="row")]
    return Pipeline(range(12), stages, sink, chunk_size=3, ordered=True, load_key="nightly").run()


@pytest.mark.parametrize("after", [1, 4, None], ids=["in between", "after the last chunk", "before the end"])
@pytest.mark.parametrize("meddle", [delete, delete_and_make_anew, replace_by_a_copy])
@EMBEDDED
def test_load_fails_and_the_next_attempt_has_all_rows(
    database: TestDatabase, place: Path, meddle: Callable[[Path], None], after: int | None
) -> None:
    sink = SinkTable("scores", conn_id="warehouse")

    with pytest.raises(SinkFailed, match=r"the database file .* was deleted or replaced while it was written"):
        load(Meddling(sink, after, lambda: meddle(place)))

    if meddle is not delete:
        return  # what is there instead is not for us to say
    report = load(sink)

    assert report.items_skipped == 0
    assert [number for (number,) in database.rows()] == list(range(12))


@pytest.mark.parametrize("disposition", ["merge", "replace"])
@EMBEDDED
def test_every_way_of_writing(database: TestDatabase, place: Path, disposition: Any) -> None:
    sink = SinkTable("scores", conn_id="warehouse", write_disposition=disposition, primary_key="id")

    with pytest.raises(SinkFailed, match="was deleted or replaced"):
        load(Meddling(sink, 2, place.unlink))


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_sqlite_with_a_write_ahead_log(database: TestDatabase, place: Path) -> None:
    """There, SQLite itself notices nothing."""
    database.execute("PRAGMA journal_mode=WAL")
    sink = SinkTable("scores", conn_id="warehouse")

    with pytest.raises(SinkFailed, match="was deleted or replaced"):
        load(Meddling(sink, 4, place.unlink))


def test_path_that_is_no_file_of_this_machine_is_left_alone(tmp_path: Path) -> None:
    files = DatabaseFiles()
    files.watch(["md:warehouse", str(tmp_path / "later.db")])
    files.check()
    (tmp_path / "later.db").touch()
    files.check()


def test_relative_path_stays_that_of_the_first_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("here.db").touch()
    files = DatabaseFiles()
    files.watch(["here.db"])
    monkeypatch.chdir("/")
    files.check()
    os.remove(tmp_path / "here.db")  # noqa: PTH107
    with pytest.raises(SinkError, match=r"here\.db' was deleted or replaced"):
        files.check()
