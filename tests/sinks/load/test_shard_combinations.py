"""Shards of one load together with what else a table can do: Arrow rows, ``validate``, ``newest``, new columns."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pyarrow as pa
import pytest

from airflow_parallel_provider import Pipeline, SinkTable, Stage
from tests.support.databases import TestDatabase, on_two_backends, on_two_databases
from tests.support.sync import at_once

pytestmark = pytest.mark.airflow

Make = Callable[..., Pipeline]


@pytest.fixture
def make(database: TestDatabase, monkeypatch: pytest.MonkeyPatch) -> Make:
    monkeypatch.setattr("airflow_parallel_provider.sql.database.get_connection", lambda *_: database.connection)

    def made(stage: Any, source: Any = range(60), **options: Any) -> Pipeline:
        names = ("tolerance", "load_key", "generation", "family")
        run = {name: options.pop(name) for name in names if name in options}
        sink = SinkTable("scores", conn_id="warehouse", schema=database.schema, lock_timeout=30, **options)
        return Pipeline(source, [stage], sink, **{"chunk_size": 5, "load_key": "nightly", **run})

    return made


def whole(make: Make, stage: Any, shards: int = 3, **options: Any) -> Any:
    """The report of a load whose shards run at the same time."""
    make(stage, **options).begin()
    made = [make(stage, **options) for _ in range(shards)]
    at_once(*(partial(each.run, shard=(index, shards)) for index, each in enumerate(made)))
    return make(stage, **options).finish()


def ids(database: TestDatabase) -> list[Any]:
    return [each for (each,) in database.rows(columns=database.quote("id"))]


def arrow(numbers: list[int]) -> list[Any]:
    return [pa.table({"id": [number], "value": [number / 4]}) for number in numbers]


def row(number: int) -> dict[str, Any]:
    return {"id": number, "value": number % 7}


@on_two_databases
@pytest.mark.parametrize("how", ["append", "replace"])
def test_arrow_rows(database: TestDatabase, make: Make, how: str) -> None:
    report = whole(make, Stage(arrow, batch_size=2), write_disposition=how, aggregates={"most": "max(value)"})

    assert (report.rows_committed, report.aggregates) == (60, {"most": 14.75})
    assert ids(database) == list(range(60))


@on_two_databases
def test_rejected_rows_count_for_the_whole(database: TestDatabase, make: Make) -> None:
    options = {"validate": lambda each: each["id"] % 20 != 7, "tolerance": 3, "aggregates": {"n": "count"}}
    report = whole(make, Stage(row), **options)

    assert (report.rows_rejected, report.rows_committed, report.aggregates) == (3, 57, {"n": 57})
    assert report.items_read == report.items_committed + report.items_filtered + report.items_dead_lettered
    assert len(database.rows("scores__rejected", database.quote("position"))) == 3


@on_two_backends
def test_newest_row_of_each_key_stays_whichever_shard_has_it(database: TestDatabase, make: Make) -> None:
    def version(number: int) -> dict[str, Any]:
        return {"id": number % 10, "value": (number * 17) % 60}

    report = whole(make, Stage(version), write_disposition="merge", primary_key="id", newest="value")

    expected = {key: max(version(n)["value"] for n in range(60) if n % 10 == key) for key in range(10)}
    assert report.items_committed == 60
    found = database.rows(columns=f"{database.quote('id')}, {database.quote('value')}")
    assert dict(found) == expected


@on_two_databases
@pytest.mark.parametrize("how", ["append", "replace"])
def test_columns_that_only_one_shard_has_are_added(database: TestDatabase, make: Make, how: str) -> None:
    def wider(number: int) -> dict[str, Any]:
        return {**row(number), **({"note": f"n{number}"} if number // 5 % 3 == 1 else {})}

    make(Stage(row), range(60, 65), load_key="before").run()
    report = whole(make, Stage(wider), write_disposition=how, on_schema_change="add_columns")

    assert report.rows_committed == 60
    noted = database.rows(columns=f"{database.quote('id')}, {database.quote('note')}")
    assert {each: note for each, note in noted if note} == {n: f"n{n}" for n in range(60) if n // 5 % 3 == 1}


@on_two_databases
def test_dead_letters_of_all_stages_and_shards(database: TestDatabase, make: Make) -> None:
    def fails(number: int) -> dict[str, Any]:
        if number % 15 == 4:
            raise ValueError("no")
        return row(number)

    report = whole(make, Stage(fails, kind="process", workers=1), tolerance=4)

    assert (report.items_dead_lettered, report.rows_committed) == (4, 56)
    letters = database.rows("scores__dead_letters", database.quote("position"))
    assert letters == [(4,), (19,), (34,), (49,)]
