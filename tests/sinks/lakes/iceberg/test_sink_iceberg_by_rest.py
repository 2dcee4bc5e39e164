"""``SinkIceberg`` with a REST catalogue: a server of the tests that keeps to the protocol, none of a vendor."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("pyiceberg")

from airflow_parallel_provider import RunFailed
from airflow_parallel_provider.sinks.lakes.iceberg.iceberg_publisher import IcebergPublisher
from tests.support.iceberg_rest import rest_catalog
from tests.support.lakes import ROWS, TABLE, Lake, all_rows, iceberg_catalog
from tests.support.parts import failing_at

pytestmark = pytest.mark.airflow


class ByRest(Lake):
    @property
    def arguments(self) -> dict[str, Any]:
        return {"table": TABLE, "conn_id": "rest", "location": f"file://{self.path}"}


@pytest.fixture
def lake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ByRest]:
    lake = ByRest("iceberg", tmp_path / "table")
    catalog = iceberg_catalog(lake.path)
    with rest_catalog(catalog) as (address, _):
        host, _, port = address.removeprefix("http://").partition(":")
        connection = {"conn_type": "iceberg", "schema": "http", "host": host, "port": int(port)}
        monkeypatch.setenv("AIRFLOW_CONN_REST", json.dumps({**connection, "extra": {"type": "rest"}}))
        yield lake
    catalog.close()


def test_a_load_that_failed_and_went_on(lake: ByRest) -> None:
    with pytest.raises(RunFailed, match="not today"):
        lake.load(failing_at(70, []))
    assert not lake.exists

    assert lake.load().items_skipped == 70
    assert (lake.rows(), lake.version()) == (all_rows(), 0)
    assert lake.load(failing_at(0, [])).items_skipped == ROWS


def test_replace_and_merge(lake: ByRest) -> None:
    lake.load()
    lake.load(key="two", write_disposition="replace", items=range(3))
    rows = [{"id": 1, "name": "old"}, {"id": 7, "name": "y"}, {"id": 1, "name": "x"}]
    lake.load(None, rows, key="three", write_disposition="merge", primary_key="id")

    assert [row["name"] for row in lake.rows()] == ["name 0", "x", "name 2", "y"]
    assert lake.version() == 2


@pytest.mark.parametrize("existing", [True, False], ids=["a table", "no table"])
def test_another_attempt_commits_between_the_look_and_the_commit(
    lake: ByRest, monkeypatch: pytest.MonkeyPatch, existing: bool
) -> None:
    made, calls = IcebergPublisher._data_files, list[int]()

    def late(self: Any, *args: Any) -> Any:
        calls.append(1)
        if len(calls) == 1:
            lake.load()  # it calls this, too
        return made(self, *args)

    if existing:
        lake.load(key="first", items=range(2))
    monkeypatch.setattr(IcebergPublisher, "_data_files", late)

    assert lake.load().rows_committed == ROWS
    assert (len(calls), len(lake.rows()), lake.version()) == (2, ROWS + 2 * existing, int(existing))
