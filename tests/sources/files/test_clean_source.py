"""Files are moved or deleted after their load: once, and only those whose rows are in."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from airflow_parallel_provider import (
    DROP,
    FilesSource,
    FilesToTableOperator,
    ListSink,
    Pipeline,
    PlanError,
    RunFailed,
    SinkDelta,
    SinkFiles,
    SinkTable,
    Stage,
)
from airflow_parallel_provider.sources.files import moving
from tests.support import cloud
from tests.support.children import KILLED, Child
from tests.support.cloud import Bucket
from tests.support.databases import TestDatabase

pytestmark = pytest.mark.airflow


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "in"
    made.mkdir()
    return made


def write(folder: Path, *names: str, text: str = "1") -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def below(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def row(file: Any) -> dict[str, str]:
    return {"name": file.name, "content": file.read_text()}


def refuses_c(file: Any) -> dict[str, str]:
    if file.name == "c":
        raise ValueError("not c")
    return row(file)


class Table:
    """Loads into one table of a database, and moves the files."""

    def __init__(self, database: TestDatabase, folder: Path) -> None:
        self.database = database
        self.folder = folder
        self.done = folder.parent / "done"

    def pipeline(self, key: str, function: Any = row, **options: Any) -> Pipeline:
        run = {name: options.pop(name) for name in ("chunk_size", "tolerance", "max_in_flight") if name in options}
        sink = SinkTable("names", conn_id="warehouse", schema=self.database.schema, **options.pop("sink", {}))
        given = {
            "only_new": True,
            "clean_source": "move",
            "move_destination": f"{self.done}/",
            "at_least": 0,
            **options,
        }
        if given["clean_source"] == "delete":
            del given["move_destination"]
        source = FilesSource(given.pop("path", self.folder / "*"), **given)
        return Pipeline(source, [Stage(function, name="row")], sink, load_key=key, **{"chunk_size": 1, **run})

    def load(self, key: str, function: Any = row, **options: Any) -> Any:
        return self.pipeline(key, function, **options).run()

    @property
    def names(self) -> list[str]:
        return sorted(name for (name,) in self.database.rows("names", "name"))


@pytest.fixture
def table(database: TestDatabase, folder: Path) -> Table:
    return Table(database, folder)


only_sqlite = pytest.mark.parametrize("database", ["sqlite"], indirect=True)


def test_files_are_moved_once_they_are_in(table: Table, folder: Path) -> None:
    write(folder, "a", "b")
    first = table.load("monday")
    assert (below(folder), below(table.done)) == ([], ["a", "b"])
    write(folder, "c")
    second = table.load("tuesday")

    assert table.names == ["a", "b", "c"]
    assert (below(folder), below(table.done)) == ([], ["a", "b", "c"])
    assert [each.items_read for each in (first, second, table.load("wednesday"))] == [2, 1, 0]
    assert first.source == {"files_moved": 2, "files_changed": 0}


@only_sqlite
def test_files_are_deleted(table: Table, folder: Path) -> None:
    write(folder, "a", "b")

    report = table.load("monday", clean_source="delete")

    assert (below(folder), table.names) == ([], ["a", "b"])
    assert report.source == {"files_deleted": 2, "files_changed": 0}


@only_sqlite
def test_folders_below_the_pattern_are_kept(table: Table, folder: Path) -> None:
    write(folder, "day=1/a", "day=2/a", "day=2/deep/b")

    table.load("monday", path=folder / "**" / "[ab]")

    assert below(table.done) == ["day=1/a", "day=2/a", "day=2/deep/b"]


@only_sqlite
def test_two_files_of_one_name(table: Table, folder: Path) -> None:
    """In one load, and one delivery after the other: none takes the other's place, whatever is in it."""
    write(folder, "x/a.csv", "y/a.csv")
    table.load("monday", path=[folder / "x" / "a.csv", folder / "y" / "a.csv"])
    write(folder, "x/a.csv", text="2")
    table.load("tuesday", path=folder / "x" / "a.csv", changed_files="load")

    found = below(table.done)
    assert len(found) == 3
    assert "a.csv" in found
    assert sorted((table.done / name).read_text() for name in found) == ["1", "1", "2"]


def test_a_failed_load_moves_nothing_and_its_retry_all(table: Table, folder: Path) -> None:
    write(folder, "a", "b", "c", "d")
    with pytest.raises(RunFailed, match="not c"):
        table.load("monday", refuses_c, max_in_flight=1)
    assert below(folder) == ["a", "b", "c", "d"]

    table.load("monday")

    assert (table.names, below(folder), below(table.done)) == (["a", "b", "c", "d"], [], ["a", "b", "c", "d"])


def test_the_next_run_moves_what_a_failed_one_has_committed(table: Table, folder: Path) -> None:
    write(folder, "a", "b", "c", "d")
    with pytest.raises(RunFailed, match="not c"):
        table.load("monday", refuses_c, max_in_flight=1)

    report = table.load("tuesday")

    assert (report.items_read, table.names) == (2, ["a", "b", "c", "d"])
    assert (below(folder), below(table.done)) == ([], ["a", "b", "c", "d"])
    with pytest.raises(RunFailed, match="/c no longer exists"):
        table.load("monday")  # too late: the other run has loaded them
    assert table.names == ["a", "b", "c", "d"]


def dies_after(moves: int) -> Any:
    """Ends the process in the middle of the move: after so many files, with one half moved."""
    seen = [0]
    real = moving._link

    def link(name: str, target: str) -> None:
        seen[0] += 1
        real(name, target)
        if seen[0] > moves:
            os.kill(os.getpid(), signal.SIGKILL)

    return link


@pytest.mark.parametrize("how", ["retry", "next run", "merge"])
def test_a_kill_in_the_middle(table: Table, folder: Path, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    names = [f"{number:02}" for number in range(40)]
    write(folder, *names)
    options: dict[str, Any] = {"chunk_size": 7}
    if how == "merge":
        sink = {"write_disposition": "merge", "primary_key": ["name"]}
        options |= {"sink": sink, "only_new": False}

    def first() -> None:
        monkeypatch.setattr(moving, "_link", dies_after(20))
        table.load("monday", **options)

    assert Child(first).wait() == KILLED
    left = below(folder)
    assert 0 < len(left) < 40
    (folder / "99").write_text("new")

    report = table.load("tuesday" if how == "next run" else "monday", **options)

    assert below(table.done) == (sorted([*names, "99"]) if how == "next run" else names)
    assert below(folder) == ([] if how == "next run" else ["99"])
    assert table.names == (sorted([*names, "99"]) if how == "next run" else names)
    if how == "retry":
        assert (report.items_skipped, report.items_committed) == (40, 0)


@only_sqlite
def test_a_file_that_changed_since_it_was_read_stays(table: Table, folder: Path) -> None:
    write(folder, "a", "b")

    def rewritten(file: Any) -> dict[str, str]:
        found = row(file)
        if file.name == "a":
            write(folder, "a", text="another")
        return found

    report = table.load("monday", rewritten)

    assert (below(folder), below(table.done)) == (["a"], ["b"])
    assert report.source == {"files_moved": 1, "files_changed": 1}
    table.load("tuesday", changed_files="load")
    assert sorted(table.database.rows("names", "name, content")) == [("a", "1"), ("a", "another"), ("b", "1")]


@only_sqlite
def test_a_new_file_of_the_same_name_before_the_retry(table: Table, folder: Path) -> None:
    write(folder, "a", "b")
    table.load("monday")
    write(folder, "a", text="second")

    assert table.load("monday", changed_files="load").items_skipped == 2  # a retry of the complete load
    assert below(folder) == ["a"]
    assert table.load("tuesday", changed_files="load").items_read == 1
    assert len(below(table.done)) == 3


def test_files_of_chunks_in_which_something_failed_stay(table: Table, folder: Path) -> None:
    write(folder, "a", "b", "c", "d", "e")

    table.load("monday", refuses_c, tolerance=1, chunk_size=2)

    assert (below(folder), below(table.done)) == (["c", "d"], ["a", "b", "e"])
    table.load("tuesday", refuses_c)
    assert below(folder) == ["c", "d"]


def test_a_rejected_row_is_a_failure(table: Table, folder: Path) -> None:
    write(folder, "a", "b", "c")

    def nothing_of_b(file: Any) -> dict[str, Any]:
        return {"name": file.name, "content": object() if file.name == "b" else "x"}

    sink = {"columns": {"name": "text", "content": "text"}, "max_rejected": 1}
    table.load("monday", nothing_of_b, sink=sink, tolerance=1)

    assert (below(folder), table.names) == (["b"], ["a", "c"])
    table.load("tuesday", sink=sink)
    assert below(folder) == ["b"]


@only_sqlite
def test_files_without_rows_are_moved(table: Table, folder: Path) -> None:
    write(folder, "a")
    table.load("monday", lambda _: DROP, sink={"columns": {"name": "text"}})

    assert (below(folder), below(table.done)) == ([], ["a"])


def test_shards_leave_it_to_their_end(table: Table, folder: Path) -> None:
    write(folder, "a", "b", "c")
    table.pipeline("monday").begin()
    for shard in ((0, 2), (1, 2)):
        table.pipeline("monday").run(shard=shard)
        assert below(folder) == ["a", "b", "c"]
    table.pipeline("monday").finish()
    assert (below(folder), below(table.done)) == ([], ["a", "b", "c"])

    table.pipeline("monday").begin()  # the whole group is run again
    table.pipeline("monday").run(shard=(0, 1))
    table.pipeline("monday").finish()
    assert table.names == ["a", "b", "c"]


@only_sqlite
def test_one_that_cannot_be_moved(table: Table, folder: Path) -> None:
    write(folder, "a", "b")
    table.done.write_text("no folder")

    with pytest.raises(
        RunFailed, match=r"the load is complete, but 2 of its 2 files could not be moved: file://.*/a: "
    ):
        table.load("monday")

    table.done.unlink()
    table.load("monday")
    assert (table.names, below(table.done)) == (["a", "b"], ["a", "b"])


@only_sqlite
def test_no_file_and_a_load_without_its_files(table: Table, folder: Path) -> None:
    with pytest.raises(RunFailed, match="it matches 0 files, at_least=1"):
        table.load("monday", at_least=1)
    write(folder, "a")
    table.load("tuesday", at_least=1)

    assert table.load("tuesday", at_least=1).items_skipped == 1


@only_sqlite
def test_a_manifest(table: Table, folder: Path) -> None:
    write(folder, "day/a", "day/b")
    (folder / "m").write_text("day/b\n")

    for _ in range(2):
        table.load("monday", path=folder / "m", manifest=True, at_least=1)

    assert (below(folder), below(table.done)) == (["day/a", "m"], ["day/b"])


def test_on_delta(tmp_path: Path, folder: Path) -> None:
    write(folder, "a.csv", text="id\n1\n")
    sink = SinkDelta(str(tmp_path / "delta"), write_disposition="merge", primary_key=["id"])
    files = FilesSource(folder / "*", clean_source="delete")
    load = FilesToTableOperator(task_id="load", files=files, sink=sink)
    for _ in range(2):
        Pipeline(load.source, load.stages, sink, chunk_size=load.chunk_size, load_key="monday").run()

    import deltalake

    assert below(folder) == []
    assert deltalake.DeltaTable(str(tmp_path / "delta")).to_pyarrow_table().to_pylist() == [{"id": "1"}]


@pytest.fixture(params=cloud.BUCKETS)
def bucket(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Bucket:
    made: Bucket = cloud.BUCKETS[request.param]()
    for name, value in cloud.as_variables(lake=made.connection).items():
        monkeypatch.setenv(name, value)
    return made


def objects(bucket: Bucket, key: str, **options: Any) -> Any:
    source = FilesSource(
        bucket.url("raw/*/*.csv").replace("://", "://lake@"),
        only_new=True,
        at_least=0,
        **{"clean_source": "move", "move_destination": bucket.url("done/{{ ds }}/"), **options},
    )
    source.move_destination = source.move_destination and source.move_destination.replace("{{ ds }}", "2026-11-01")
    sink = SinkTable("names", conn_id="warehouse")
    return Pipeline(source, [Stage(row, name="row")], sink, load_key=key, chunk_size=2).run()


def test_objects_are_moved(bucket: Bucket, warehouse: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a kill between the copy and the removal, too."""
    for number in range(3):
        bucket.put(f"raw/x/{number}.csv", str(number).encode())
    real = moving._version

    def dies(system: Any, name: str) -> Any:
        if name.endswith("raw/x/1.csv") and any("done" in each for each in bucket.names()):
            raise KeyboardInterrupt  # stands for a kill: nothing after it is done
        return real(system, name)

    monkeypatch.setattr(moving, "_version", dies)
    with pytest.raises(RunFailed, match="KeyboardInterrupt"):
        objects(bucket, "monday", move_destination=bucket.url("done/2026-11-01/"))
    monkeypatch.setattr(moving, "_version", real)
    bucket.put("done/2026-11-01/x/2.csv", b"another file of that name, which stays")

    objects(bucket, "monday", move_destination=bucket.url("done/2026-11-01/"))

    found = bucket.names()
    assert [name for name in found if name.startswith("raw/")] == []
    assert {bucket.get(name) for name in found} >= {b"0", b"1"}
    assert bucket.get("done/2026-11-01/x/0.csv") == b"0"


def test_objects_are_deleted(bucket: Bucket, warehouse: Path) -> None:
    bucket.put("raw/x/1.csv", b"1")

    objects(bucket, "monday", clean_source="delete", move_destination=None)

    assert bucket.names() == []


@pytest.mark.parametrize(
    ("options", "sink", "complaint"),
    [
        ({"clean_source": "archive"}, {}, r"clean_source='archive'"),
        ({"clean_source": "move", "move_destination": None}, {}, r"move_destination=None: name the folder"),
        ({"clean_source": "delete"}, {}, r"move_destination='/done': it goes with clean_source='move'"),
        ({"clean_source": "off"}, {}, r"move_destination='/done': it goes with"),
        ({"path": "https://x.org/a.csv"}, {}, r"clean_source='move': https://x.org/a.csv: files of https:// can be r"),
        ({"path": "s3://raw/a.csv"}, {}, r"move_destination='/done': s3://raw/a.csv is on another storage"),
        ({"items": "line"}, {}, r"clean_source='move': .*these are lines"),
        ({}, {}, r"write_disposition='append': .*only_new=True.*or write 'merge'"),
        ({"only_new": True}, {"on_rerun": "replace"}, r"on_rerun='replace'"),
        ({}, {"write_disposition": "replace"}, r"write_disposition='replace': .*gone"),
        ({}, {"write_disposition": "merge", "primary_key": ["id"], "on_rerun": "replace"}, r"on_rerun='replace': "),
        ({}, {"write_disposition": "merge", "primary_key": ["id"], "load_column": "l"}, r"on_rerun=None: .*Clear rem"),
    ],
)
def test_what_contradicts_is_refused(options: dict[str, Any], sink: dict[str, Any], complaint: str) -> None:
    given = {"path": "/in/*", "clean_source": "move", "move_destination": "/done", **options}
    with pytest.raises(PlanError, match=complaint):
        Pipeline(FilesSource(given.pop("path"), **given), [], SinkTable("names", conn_id="warehouse", **sink))


def test_sinks_that_do_not_know_what_is_in(tmp_path: Path) -> None:
    source = FilesSource("/in/*", clean_source="delete")
    for sink in (ListSink(), SinkFiles(str(tmp_path)), print):
        with pytest.raises(PlanError, match=r"FilesSource\.clean_source='delete': what is in must be known for good"):
            Pipeline(source, [], sink)
    with pytest.raises(PlanError, match=r"SinkDelta\.write_disposition='append': .* write 'merge'$"):
        Pipeline(source, [], SinkDelta(str(tmp_path)))


@only_sqlite
def test_a_folder_that_the_pattern_looks_into(table: Table, folder: Path) -> None:
    write(folder, "a")
    with pytest.raises(PlanError, match=r"move_destination='.*in/done': file://.*/a would be found again there"):
        table.load("monday", path=folder / "**", move_destination=str(folder / "done"))
    assert below(folder) == ["a"]
