"""Whole loads into Snowflake: shards, reruns, dead letters, aggregates and processes."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from airflow_parallel_provider import Pipeline, SinkTable, Stage
from tests.support.snowflake import SnowflakeDatabase
from tests.support.sync import at_once

pytestmark = [pytest.mark.airflow, pytest.mark.system]

Make = Callable[..., Pipeline]


def row(number: int) -> dict[str, Any]:
    if number % 20 == 13:
        raise ValueError("unlucky")
    return {"id": number, "name": f"{number} of many"}


def key_of(number: int) -> dict[str, Any]:
    return {"id": number % 10, "name": str(number)}


def arrow(numbers: list[int]) -> list[Any]:
    import pyarrow as pa

    return [pa.table({"id": [number], "name": [str(number)]}) for number in numbers]


@pytest.fixture
def make(snowflake: SnowflakeDatabase, monkeypatch: pytest.MonkeyPatch) -> Make:
    monkeypatch.setattr("airflow_parallel_provider.sql.database.get_connection", lambda *_: snowflake.connection)

    def made(stage: Any = None, source: Any = range(60), **options: Any) -> Pipeline:
        names = ("tolerance", "load_key", "generation", "family")
        run = {name: options.pop(name) for name in names if name in options}
        sink = SinkTable("scores", conn_id="warehouse", schema=snowflake.schema, lock_timeout=60, **options)
        return Pipeline(source, [stage or Stage(row)], sink, **{"chunk_size": 10, "load_key": "nightly", **run})

    return made


def ids(database: SnowflakeDatabase) -> list[int]:
    return [each for (each,) in database.rows(columns='"id"')]


LUCKY = [number for number in range(60) if number % 20 != 13]


def test_dead_letters_and_aggregates(snowflake: SnowflakeDatabase, make: Make) -> None:
    options: dict[str, Any] = {"tolerance": 3, "aggregates": {"n": "count", "sum": "sum(id)"}}
    report = make(**options).run()

    assert (report.rows_committed, report.aggregates) == (57, {"n": 57, "sum": sum(LUCKY)})
    assert ids(snowflake) == LUCKY
    assert len(snowflake.rows("scores__dead_letters", "item")) == 3


@pytest.mark.parametrize("how", ["append", "replace"])
def test_processes(snowflake: SnowflakeDatabase, make: Make, how: str) -> None:
    report = make(Stage(row, "process", workers=2), tolerance=3, write_disposition=how).run()

    assert report.rows_committed == 57
    assert ids(snowflake) == LUCKY


@pytest.mark.parametrize("how", ["append", "replace"])
def test_shards(snowflake: SnowflakeDatabase, make: Make, how: str) -> None:
    options: dict[str, Any] = {"write_disposition": how, "stage": Stage(arrow, batch_size=2)}
    make(**options).begin()
    at_once(*(partial(make(**options).run, shard=(index, 2)) for index in range(2)))
    report = make(**options).finish()

    assert report.rows_committed == 60
    assert ids(snowflake) == list(range(60))
    assert snowflake.staged_files() == []


def test_shards_of_a_merge(snowflake: SnowflakeDatabase, make: Make) -> None:
    options: dict[str, Any] = {"write_disposition": "merge", "primary_key": "id", "stage": Stage(key_of)}
    options["newest"] = "name"
    make(**options).begin()
    at_once(*(partial(make(**options).run, shard=(index, 2)) for index in range(2)))
    make(**options).finish()

    assert ids(snowflake) == list(range(10))


def test_a_new_generation_replaces_the_rows_of_the_last(snowflake: SnowflakeDatabase, make: Make) -> None:
    options: dict[str, Any] = {"on_rerun": "replace", "family": "daily", "stage": Stage(key_of)}
    make(generation="one", load_key="daily 1", **options).run()
    make(generation="two", load_key="daily 2", source=range(10), **options).run()

    assert ids(snowflake) == list(range(10))
