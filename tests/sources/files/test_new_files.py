"""Only files that no earlier load has committed to the table."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from airflow_parallel_provider import FilesSource, ListSink, Pipeline, PlanError, RunFailed, SinkFiles, SinkTable, Stage
from airflow_parallel_provider.sources.files.declared import rendered_paths
from tests.support.databases import TestDatabase

pytestmark = pytest.mark.airflow


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "in"
    made.mkdir()
    return made


def write(folder: Path, *names: str, text: str = "1") -> None:
    for name in names:
        (folder / name).write_text(text)


def row(file: Any) -> dict[str, str]:
    return {"name": file.name, "content": file.read_text()}


def refuses_c(file: Any) -> dict[str, str]:
    if file.name == "c":
        raise ValueError("not c")
    return row(file)


class Table:
    """Loads into one table of a database."""

    def __init__(self, database: TestDatabase, folder: Path) -> None:
        self.database = database
        self.folder = folder

    def pipeline(self, key: str, function: Any = row, **options: Any) -> Pipeline:
        run = {name: options.pop(name) for name in ("chunk_size", "tolerance", "max_in_flight") if name in options}
        sink = SinkTable("names", conn_id="warehouse", schema=self.database.schema, **options.pop("sink", {}))
        source = FilesSource(self.folder / "*", only_new=True, **options)
        return Pipeline(source, [Stage(function)], sink, load_key=key, **{"chunk_size": 1, **run})

    def load(self, key: str, function: Any = row, **options: Any) -> Any:
        return self.pipeline(key, function, **options).run()

    @property
    def names(self) -> list[str]:
        return sorted(name for (name,) in self.database.rows("names", "name"))


@pytest.fixture
def table(database: TestDatabase, folder: Path) -> Table:
    return Table(database, folder)


def test_each_file_is_loaded_once(table: Table, folder: Path) -> None:
    write(folder, "a", "b")
    first = table.load("monday")
    write(folder, "0", "c")
    second = table.load("tuesday")
    third = table.load("wednesday")

    assert table.names == ["0", "a", "b", "c"]
    assert [each.items_read for each in (first, second, third)] == [2, 2, 0]


def test_what_a_failed_load_has_committed_is_in(table: Table, folder: Path) -> None:
    """It is never run again; the next run of the schedule takes the rest."""
    write(folder, "a", "b", "c", "d")
    with pytest.raises(RunFailed, match="not c"):
        table.load("monday", refuses_c, max_in_flight=1)
    assert table.names == ["a", "b"]

    table.load("tuesday")

    assert table.names == ["a", "b", "c", "d"]


def test_a_retry_goes_on_with_the_files_of_the_first_try(table: Table, folder: Path) -> None:
    write(folder, "a")
    table.load("sunday")
    write(folder, "b", "c", "d")
    with pytest.raises(RunFailed, match="not c"):
        table.load("monday", refuses_c, max_in_flight=1)
    write(folder, "0")

    report = table.load("monday")

    assert table.names == ["a", "b", "c", "d"]
    assert (report.items_skipped, report.items_committed) == (1, 2)
    assert table.load("tuesday").items_read == 1
    assert table.names == ["0", "a", "b", "c", "d"]


def test_a_dead_letter_is_in(table: Table, folder: Path) -> None:
    write(folder, "a", "c")
    table.load("monday", refuses_c, tolerance=1)

    assert table.load("tuesday").items_read == 0
    assert table.names == ["a"]


def test_files_of_other_loads_count(table: Table, folder: Path) -> None:
    write(folder, "a", "b")
    sink = SinkTable("names", conn_id="warehouse", schema=table.database.schema)
    Pipeline(FilesSource(folder / "a"), [Stage(row)], sink, load_key="once").run()

    table.load("monday")

    assert table.names == ["a", "b"]


def test_shards_read_what_was_new_when_the_load_began(table: Table, folder: Path) -> None:
    write(folder, "a", "b")
    table.load("monday")
    write(folder, "c", "d", "e")
    table.pipeline("tuesday").begin()
    write(folder, "f")
    for shard in ((0, 2), (1, 2)):
        table.pipeline("tuesday").run(shard=shard)
    report = table.pipeline("tuesday").finish()

    assert report.items_read == 3
    assert table.names == ["a", "b", "c", "d", "e"]


def test_a_file_that_has_changed(table: Table, folder: Path) -> None:
    write(folder, "a", "b")
    table.load("monday", sink={"primary_key": ["name"], "write_disposition": "merge"})
    write(folder, "a", text="22")
    write(folder, "c")

    with pytest.raises(RunFailed, match=r"changed since they were loaded: file://.*/a \(2 bytes.*changed_files='load'"):
        table.load("tuesday")
    table.load("wednesday", changed_files="skip")
    assert table.names == ["a", "b", "c"]
    table.load("thursday", changed_files="load", sink={"primary_key": ["name"], "write_disposition": "merge"})
    assert sorted(table.database.rows("names", "name, content")) == [("a", "22"), ("b", "1"), ("c", "1")]
    assert table.load("friday").items_read == 0


def test_purging_forgets_no_file(table: Table, folder: Path) -> None:
    write(folder, "a")
    table.load("monday")
    sink = table.database.hook("names")

    assert sink.purge_ledger(timedelta(0), abandoned=True) == 0
    assert table.load("tuesday").items_read == 0
    sink.discard("monday")
    assert table.load("wednesday").items_read == 1


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"sink": {"write_disposition": "replace"}}, r"SinkTable\.write_disposition='replace': .*only_new"),
        ({"sink": {"on_rerun": "replace", "load_column": "load"}}, r"SinkTable\.on_rerun='replace': .*only_new"),
        ({"sink": {"load_column": "load"}}, r"SinkTable\.on_rerun=None: .*on_rerun='append'"),
        ({"items": "line"}, r"FilesSource\.only_new=True: .*these are lines"),
        ({"changed_files": "ignore"}, r"FilesSource\.changed_files='ignore'"),
    ],
)
def test_what_contradicts_is_refused(folder: Path, options: dict[str, Any], complaint: str) -> None:
    sink = SinkTable("names", conn_id="warehouse", **options.pop("sink", {}))
    with pytest.raises(PlanError, match=complaint):
        Pipeline(FilesSource(folder / "*", only_new=True, **options), [], sink)


def test_only_a_table_knows(tmp_path: Path) -> None:
    source = FilesSource(tmp_path / "*", only_new=True)
    for sink in (ListSink(), SinkFiles(str(tmp_path), format="jsonl"), print):
        with pytest.raises(PlanError, match=r"FilesSource\.only_new=True: the ledger of a SinkTable"):
            Pipeline(source, [], sink)
    with pytest.raises(PlanError, match="goes with only_new"):
        FilesSource(tmp_path / "*", changed_files="load")


def test_paths_may_be_rendered_to_a_list(folder: Path) -> None:
    write(folder, "a", "b", "[x]")
    source = FilesSource("{{ files }}")
    for rendered in (f'["{folder}/b", "{folder}/a"]', f"['{folder}/b', '{folder}/a']", [f"{folder}/b", f"{folder}/a"]):
        source.path = rendered
        source.prepare()
        assert [file.name for file in source.files] == ["b", "a"]
    assert rendered_paths("[ab]*.csv") == "[ab]*.csv"
    assert rendered_paths((Path("a"), "b")) == ["a", "b"]
    for wrong in (None, 5, {"a": 1}):
        with pytest.raises(PlanError, match="a path or a list of paths"):
            rendered_paths(wrong)
    source.path = []
    with pytest.raises(PlanError, match="it matches 0 files"):
        source.prepare()
    source.at_least = 0
    source.prepare()
    assert (source.files, os.fspath(folder)) == ((), str(folder))
