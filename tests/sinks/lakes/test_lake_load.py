"""Chunks of a load into a lake table: none is lost in silence."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

deltalake = pytest.importorskip("deltalake")

from airflow_parallel_provider import RunFailed  # noqa: E402
from tests.support.lakes import load, rows_of  # noqa: E402

pytestmark = pytest.mark.airflow


def names(folder: Path, *beginnings: str) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name.startswith(beginnings))


def test_a_source_that_has_grown_since_the_load_was_published(tmp_path: Path) -> None:
    items = list(range(10))

    def source() -> Any:
        yield from items

    load(tmp_path, items=source)
    items.append(10)

    with pytest.raises(RunFailed, match=r"chunk 00000001 was not in it: the source has changed. Use another load_key"):
        load(tmp_path, items=source)
    assert len(rows_of(tmp_path)) == 10


def test_rejected_rows_of_an_attempt_that_was_not_noted_go_when_none_is_rejected_any_more(tmp_path: Path) -> None:
    load(tmp_path, items=range(3), validate=lambda row: row["id"] != 1, pipeline={"tolerance": 1})
    (rejected,) = names(tmp_path, "_rejected-")
    for name in names(tmp_path, "part-", "_manifest-", "_delta_log"):
        path = tmp_path / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()

    load(tmp_path, items=range(3))

    assert (names(tmp_path, rejected), len(rows_of(tmp_path))) == ([], 3)


def test_rows_without_a_value_are_rows(tmp_path: Path) -> None:
    load(tmp_path, items=range(2))
    report = load(tmp_path, lambda _: {}, items=range(3), key="another")

    assert (report.rows_committed, len(deltalake.DeltaTable(tmp_path).to_pyarrow_table())) == (3, 5)
    with pytest.raises(RunFailed, match="the rows have no columns at all"):
        load(tmp_path / "new", lambda _: {})
