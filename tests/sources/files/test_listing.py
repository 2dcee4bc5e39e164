"""Which files a source has: of several patterns, and of a period."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from airflow_parallel_provider import FilesSource, FilesToTableOperator, ListSink
from airflow_parallel_provider.errors import LoadMismatch, PlanError, SourceError
from airflow_parallel_provider.sources.files import listing, lookup
from airflow_parallel_provider.sources.files.listing import FileList
from airflow_parallel_provider.values.items import SourceFile

pytestmark = pytest.mark.airflow
NOON = datetime(2026, 11, 1, 12, tzinfo=UTC)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Files a to d, written at 11, 12, 13 and 14 o'clock."""
    for hours, name in enumerate("abcd", -1):
        (tmp_path / f"{name}.csv").write_text("id\n1\n")
        os.utime(tmp_path / f"{name}.csv", times=((NOON + timedelta(hours=hours)).timestamp(),) * 2)
    return tmp_path


def names(source: FilesSource) -> str:
    return "".join(file.name[0] for file in source)


def test_list_of_paths(folder: Path) -> None:
    paths = [folder / "c.csv", f"{folder}/[ab].csv", f"file://{folder}/?.csv"]

    assert names(FilesSource(paths)) == "cabd"
    load = FilesToTableOperator(task_id="load", files=[str(folder / "b.csv"), str(folder / "a.csv")], sink=ListSink())
    assert isinstance(load.source, FilesSource)
    assert names(load.source) == "ba"


def test_path_of_a_list_that_matches_nothing_is_named(folder: Path) -> None:
    paths = [str(folder / "a.csv"), str(folder / "x.csv")]

    with pytest.raises(PlanError, match=r"FilesSource.path='.*/x.csv': no file matches it"):
        FilesSource(paths).prepare()
    assert names(FilesSource(paths, at_least=0)) == "a"


def test_identity_is_that_of_all_paths() -> None:
    sources = [FilesSource(paths).identity() for paths in (["a", "b"], ["a", "b"], ["a", "c"], ["a"], "a")]

    assert sources[0] == sources[1]
    assert len(set(sources)) == 4
    assert sources[0].startswith("files of files a and 1 more ")
    assert sources[4] == "files of files a"


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ({"modified_since": NOON}, "bcd"),
        ({"modified_before": NOON}, "a"),
        ({"modified_since": "2026-11-01T12:00", "modified_before": "2026-11-01T14:00:00Z"}, "bc"),
        ({"modified_since": NOON.astimezone(timezone(timedelta(hours=5)))}, "bcd"),
        ({"modified_since": "2026-11-02", "at_least": 0}, ""),
    ],
)
def test_files_of_a_period(folder: Path, options: dict[str, Any], found: str) -> None:
    assert names(FilesSource(folder / "*.csv", **options)) == found


def test_period_without_files_says_so(folder: Path) -> None:
    with pytest.raises(PlanError, match="it matches 0 files of that period, at_least=1"):
        FilesSource(folder / "*.csv", modified_since="2026-11-02").prepare()


def test_retry_reads_the_files_of_the_first_try(folder: Path) -> None:
    options: dict[str, Any] = {"modified_since": NOON, "modified_before": "2026-11-01T13:30"}
    state = json.loads(json.dumps(FilesSource(folder / "*.csv", **options).get_state()))
    again = FilesSource(folder / "*.csv", **options)
    again.restore_state(state)
    assert names(again) == "bc"

    os.utime(folder / "b.csv")  # now it is none of that period

    with pytest.raises(LoadMismatch, match=r"b\.csv has changed"):
        FilesSource(folder / "*.csv", **options).restore_state(state)


@pytest.mark.parametrize(
    ("details", "written"),
    [
        ({"mtime": NOON.timestamp()}, NOON),
        ({"LastModified": NOON}, NOON),
        ({"updated": "2026-11-01T12:00:00.000Z"}, NOON),
        ({"last_modified": datetime(2026, 11, 1, 12)}, NOON),  # noqa: DTZ001
        ({"updated": "yesterday"}, None),
        ({}, None),
    ],
)
def test_time_as_storages_say_it(details: dict[str, Any], written: datetime | None) -> None:
    assert lookup._written(details) == written


def test_storage_that_does_not_say_when_a_file_was_written(monkeypatch: pytest.MonkeyPatch) -> None:
    file = SourceFile("sftp://a/x.csv", 1, "")
    monkeypatch.setattr(listing, "list_files", lambda *_: ((file, None),))

    assert FileList("x", None, None, None).chosen(1) == (file,)
    with pytest.raises(SourceError, match=r"sftp://a/x\.csv: its storage does not say when it was written"):
        FileList("x", None, NOON, None).chosen(1)


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"path": []}, "path"),
        ({"path": ["a", 7]}, "path"),
        ({"modified_since": "yesterday"}, "modified_since"),
        ({"modified_since": 7}, "modified_since"),
        ({"modified_since": NOON, "modified_before": NOON}, "modified_before"),
    ],
)
def test_what_is_chosen_is_checked(options: dict[str, Any], field: str) -> None:
    with pytest.raises(PlanError, match=rf"FilesSource\.{field}"):
        FilesSource(**{"path": "x", **options})


def test_templates_are_checked_when_they_are_rendered() -> None:
    source = FilesSource("x", modified_since="{{ data_interval_start }}", modified_before="{{ data_interval_end }}")

    assert {"modified_since", "modified_before"} <= set(source.template_fields)
