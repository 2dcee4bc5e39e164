"""``SinkIceberg`` with its files on S3 (a moto server), with the keys of an Airflow connection."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("pyiceberg")

from airflow_parallel_provider import RunFailed
from tests.support import cloud
from tests.support.cloud import Bucket
from tests.support.lakes import ROWS, TABLE, Lake, all_rows
from tests.support.parts import failing_at

pytestmark = pytest.mark.airflow


@pytest.fixture
def lake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lake:
    bucket: Bucket = cloud.BUCKETS["s3"]()
    extra = {
        "warehouse": bucket.url("lake"),
        "s3.endpoint": cloud.aws_address(),
        "s3.access-key-id": cloud.ACCESS["aws_access_key_id"],
        "s3.secret-access-key": cloud.ACCESS["aws_secret_access_key"],
        "s3.region": cloud.ACCESS["region_name"],
        "py-io-impl": "pyiceberg.io.fsspec.FsspecFileIO",
    }
    connection = {"conn_type": "sqlite", "host": str(tmp_path / "catalog.db"), "extra": extra}
    monkeypatch.setenv("AIRFLOW_CONN_LAKE", json.dumps(connection))
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)

    class OnS3(Lake):
        @property
        def arguments(self) -> dict[str, Any]:
            return {"table": TABLE, "conn_id": "lake"}

        def table(self) -> Any:
            from pyiceberg.catalog import load_catalog

            catalog = load_catalog("default", type="sql", uri=f"sqlite:///{tmp_path / 'catalog.db'}", **extra)
            return catalog.load_table(TABLE).scan().to_arrow()

    return OnS3("iceberg", tmp_path)


def test_a_load_that_failed_and_went_on(lake: Lake) -> None:
    with pytest.raises(RunFailed, match="not today"):
        lake.load(failing_at(70, []))

    assert lake.load(failing_at(-1, [])).items_skipped == 70
    assert lake.rows() == all_rows()
    assert lake.load(failing_at(0, [])).items_skipped == ROWS


def test_replace_and_merge(lake: Lake) -> None:
    lake.load()
    lake.load(key="two", write_disposition="replace", items=range(3))
    rows = [{"id": 1, "name": "old"}, {"id": 7, "name": "y"}, {"id": 1, "name": "x"}]
    lake.load(None, rows, key="three", write_disposition="merge", primary_key="id")

    assert [row["name"] for row in lake.rows()] == ["name 0", "x", "name 2", "y"]
