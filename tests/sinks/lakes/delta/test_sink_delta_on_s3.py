"""``SinkDelta`` on S3 (a moto server), with the credentials of an Airflow connection. Races are tried on local disks:
moto's conditional PUT is not atomic."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_parallel_provider import Pipeline, RunFailed, SinkDelta, Stage
from tests.support import cloud
from tests.support.cloud import Bucket
from tests.support.lakes import ROWS, all_rows, load
from tests.support.parts import failing_at, numbered

pytestmark = pytest.mark.airflow


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Bucket:
    made: Bucket = cloud.BUCKETS["s3"]()
    for name, value in cloud.as_variables(lake=made.connection).items():
        monkeypatch.setenv(name, value)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)
    return made


def table_at(bucket: Bucket, path: str) -> Any:
    from deltalake import DeltaTable

    access = {key.upper(): value for key, value in cloud.ACCESS.items() if key != "region_name"}
    options = {**access, "AWS_REGION": cloud.ACCESS["region_name"], "AWS_ALLOW_HTTP": "true"}
    return DeltaTable(bucket.url(path), storage_options={**options, "AWS_ENDPOINT_URL": cloud.aws_address()})


def test_a_load_that_failed_and_went_on(bucket: Bucket) -> None:
    with pytest.raises(RunFailed, match="not today"):
        load(bucket.url("a/orders"), failing_at(70, []), conn_id="lake")

    report = load(bucket.url("a/orders"), failing_at(-1, []), conn_id="lake")
    load(bucket.url("a/orders"), key="two", conn_id="lake", write_disposition="replace", items=range(3))

    table = table_at(bucket, "a/orders")
    assert (report.items_skipped, table.version()) == (70, 1)
    assert sorted(row["id"] for row in table.to_pyarrow_table().to_pylist()) == [0, 1, 2]
    first = table_at(bucket, "a/orders")
    first.load_as_version(0)
    assert sorted(first.to_pyarrow_table().to_pylist(), key=lambda row: row["id"]) == all_rows()
    assert load(bucket.url("a/orders"), conn_id="lake").items_skipped == ROWS


def test_shards(bucket: Bucket) -> None:
    def pipeline() -> Pipeline:
        return Pipeline(range(ROWS), [Stage(numbered)], SinkDelta(bucket.url("c"), conn_id="lake"), load_key="l")

    pipeline().begin()
    for index in range(2):
        pipeline().run(shard=(index, 2))
    assert pipeline().finish().rows_committed == ROWS
    assert table_at(bucket, "c").version() == 0


def test_the_options_of_the_author_come_first(bucket: Bucket) -> None:
    with pytest.raises(RunFailed, match="Delta table s3"):
        load(
            bucket.url("b"),
            conn_id="lake",
            storage_options={"AWS_ENDPOINT_URL": "http://127.0.0.1:1", "max_retries": "0"},
        )
    assert SinkDelta("s3://lake@a/b").dataset == ("s3://a", "b")


def test_merge(bucket: Bucket) -> None:
    load(bucket.url("d"), items=range(3), conn_id="lake")
    rows = [{"id": 1, "name": "old"}, {"id": 7, "name": "y"}, {"id": 1, "name": "x"}]
    load(bucket.url("d"), None, rows, key="two", conn_id="lake", write_disposition="merge", primary_key="id")

    found = sorted(table_at(bucket, "d").to_pyarrow_table().to_pylist(), key=lambda row: row["id"])
    assert [row["name"] for row in found] == ["name 0", "x", "name 2", "y"]
