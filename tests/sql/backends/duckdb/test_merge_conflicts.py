"""Two loads merge the same key into DuckDB at the same time: the one that comes late is tried again."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_parallel_provider.errors import SchemaMismatch
from airflow_parallel_provider.hooks.sink_table import SinkTableHook
from tests.support.databases import TestDatabase

pytestmark = [pytest.mark.airflow, pytest.mark.parametrize("database", ["duckdb"], indirect=True)]
MERGE: dict[str, Any] = {"write_disposition": "merge", "primary_key": ["id"]}


def overtaken_hook(database: TestDatabase, insert: str) -> Any:
    """A hook beside whose first transaction another connection inserts and commits."""

    class Overtaken(SinkTableHook):
        done = False

        def reached(self, here: str) -> None:
            if here == "after_claim" and not Overtaken.done:
                Overtaken.done = True
                driver: Any = self.destination().database.connection().connection.driver_connection
                other = driver.raw.cursor()
                other.execute(insert)
                other.close()

    return Overtaken


def test_key_that_another_transaction_has_inserted_meanwhile_is_updated(database: TestDatabase) -> None:
    scores = database.place("scores")
    database.execute(f"CREATE TABLE {scores} (id BIGINT PRIMARY KEY, x BIGINT)")

    with database.opened(cls=overtaken_hook(database, f"INSERT INTO {scores} VALUES (1, 0)"), **MERGE) as hook:
        hook.write_chunk("00000000", [{"id": 1, "x": 5}, {"id": 2, "x": 6}])

    assert database.rows() == [(1, 5), (2, 6)]


def test_another_unique_column_is_no_conflict(database: TestDatabase) -> None:
    scores = database.place("scores")
    database.execute(f"CREATE TABLE {scores} (id BIGINT PRIMARY KEY, x BIGINT UNIQUE)")

    with (
        database.opened(cls=overtaken_hook(database, f"INSERT INTO {scores} VALUES (7, 5)"), **MERGE) as hook,
        pytest.raises(SchemaMismatch, match="ConstraintException"),
    ):
        hook.write_chunk("00000000", [{"id": 1, "x": 5}])
