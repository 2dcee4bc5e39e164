"""Shards of a table: each reads the ranges that its chunks are in, once, and none walks the key again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from airflow_parallel_provider import Pipeline, SinkTable, SqlSource
from airflow_parallel_provider.sources.sql.table_reader import TableReader
from tests.support.databases import TestDatabase, fast_on

if TYPE_CHECKING:
    from pytest_mock import MockerFixture

pytestmark = pytest.mark.airflow

ROWS = 1050
on_databases_with_ranges = fast_on("sqlite", of=("sqlite", "postgres", "mariadb"))


def pipeline(database: TestDatabase, monkeypatch: pytest.MonkeyPatch, chunk_size: int) -> Pipeline:
    monkeypatch.setattr("airflow_parallel_provider.sql.database.get_connection", lambda *_: database.connection)
    source = SqlSource("orders", conn_id="warehouse", key="id", schema=database.schema, range_size=100, readers=2)
    sink = SinkTable("copies", conn_id="warehouse", schema=database.schema, lock_timeout=30)
    return Pipeline(source, [], sink, chunk_size=chunk_size, load_key="nightly")


@on_databases_with_ranges
@pytest.mark.parametrize("chunk_size", [30, 50, 100, 150, 1000])
def test_each_range_is_read_as_often_as_it_must(
    database: TestDatabase, monkeypatch: pytest.MonkeyPatch, mocker: MockerFixture, chunk_size: int
) -> None:
    values = ", ".join(f"({number * 3}, {number % 7})" for number in range(ROWS))
    database.execute(
        f"CREATE TABLE {database.place('orders')} (id INTEGER NOT NULL PRIMARY KEY, kind INTEGER)",
        f"INSERT INTO {database.place('orders')} VALUES {values}",
    )
    pipeline(database, monkeypatch, chunk_size).begin()
    walked = mocker.spy(TableReader, "walk")
    read = mocker.spy(TableReader, "read")

    reports = [pipeline(database, monkeypatch, chunk_size).run(shard=(index, 3)) for index in range(3)]
    whole = pipeline(database, monkeypatch, chunk_size).finish()

    found: list[tuple[Any, ...]] = database.rows("copies", columns="id")
    assert [each for (each,) in found] == [number * 3 for number in range(ROWS)]
    assert whole.items_read == sum(report.items_read for report in reports) == ROWS
    assert walked.call_count == 0
    if 100 % chunk_size == 0 or chunk_size == 1000:  # else a range is in two chunks
        assert read.call_count == 11
