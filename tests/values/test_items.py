"""Files as items: a local file is opened without Airflow, unless Airflow is there anyway."""

from __future__ import annotations

import gzip
import sys
from pathlib import Path
from typing import Any

import pytest

from airflow_parallel_provider.sources.files.formats.row_readers import read_rows
from airflow_parallel_provider.values import items
from airflow_parallel_provider.values.items import SourceFile, storage_path

NAMES = ["plain.csv", "a b#c?d=1&e%20.csv", "zwölf\udcff.csv", "tab\there.csv", "like::chain.csv", "user@host:1.csv"]


@pytest.fixture
def without_airflow(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a worker process that has not loaded Airflow; to load it now would fail."""
    monkeypatch.setitem(sys.modules, "airflow.sdk", None)


def source_file(path: Path, content: bytes) -> SourceFile:
    path.write_bytes(content)
    return SourceFile(f"file://{path}", len(content), "1.5")


@pytest.mark.usefixtures("without_airflow")
@pytest.mark.parametrize("name", NAMES)
def test_local_file_needs_no_airflow(tmp_path: Path, name: str) -> None:
    file = source_file(tmp_path / name, b"id\n1\n")

    assert list(read_rows(file)) == [{"id": "1"}]
    assert file.read_bytes() == b"id\n1\n"


@pytest.mark.usefixtures("without_airflow")
def test_local_file_is_unpacked_and_decoded_without_airflow(tmp_path: Path) -> None:
    packed = source_file(tmp_path / "a.csv.gz", gzip.compress("id\nzwölf\n".encode()))
    text = source_file(tmp_path / "b.txt", "zwölf\r\n".encode("utf-16"))

    assert list(read_rows(packed)) == [{"id": "zwölf"}]
    with text.open("r", encoding="utf-16", newline="") as opened:
        assert opened.read() == "zwölf\r\n"


@pytest.mark.usefixtures("without_airflow")
def test_missing_local_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"gone\.csv"):
        SourceFile(f"file://{tmp_path}/gone.csv", 3, "1.5").open()


@pytest.mark.airflow
@pytest.mark.parametrize("name", NAMES)
def test_airflow_opens_the_same_file_where_it_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """It notes for lineage what is opened through it."""
    file = source_file(tmp_path / name, b"id\n1\n")
    opened: list[str] = []

    def noted(path: str, conn_id: str | None) -> Any:
        opened.append(path)
        return storage_path(path, conn_id)

    storage_path(file.path, None)
    monkeypatch.setattr(items, "storage_path", noted)

    assert file.read_bytes() == b"id\n1\n"
    assert opened == [file.path]


@pytest.mark.usefixtures("without_airflow")
@pytest.mark.parametrize(
    ("path", "conn_id"), [("file:///a.csv", "files"), ("s3://raw/a.csv", None), ("relative.csv", None)]
)
def test_everything_else_is_opened_by_airflow(path: str, conn_id: str | None) -> None:
    with pytest.raises(ImportError):
        SourceFile(path, 1, "1.5", conn_id).open()
