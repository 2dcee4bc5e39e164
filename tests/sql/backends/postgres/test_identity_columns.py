"""Columns that PostgreSQL numbers itself take the numbers that rows have."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from airflow_parallel_provider.errors import WriteRefused
from tests.support.databases import PostgresDatabase

pytestmark = pytest.mark.airflow
IDENTITY = "id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY"


@pytest.fixture(params=["psycopg", "psycopg2"])
def postgres(request: pytest.FixtureRequest) -> Iterator[PostgresDatabase]:
    database = PostgresDatabase(request.param)
    yield database
    database.drop()


def write(database: PostgresDatabase, *chunks: list[dict[str, Any]], **options: Any) -> list[tuple[Any, ...]]:
    with database.opened(**options) as hook:
        for number, rows in enumerate(chunks):
            hook.write_chunk(f"{number:08d}", rows, first_position=number * 100)
    return database.rows("scores", "id, v", "id")


def test_merge_writes_the_numbers_of_the_rows_and_updates_by_them(postgres: PostgresDatabase) -> None:
    postgres.execute(f"CREATE TABLE {postgres.place('scores')} ({IDENTITY}, v text)")

    found = write(
        postgres, [{"id": 7, "v": "a"}, {"id": 9, "v": "b"}], [{"id": 7, "v": "c"}],
        write_disposition="merge", primary_key=["id"],
    )  # fmt: skip

    assert found == [(7, "c"), (9, "b")]


def test_rows_without_the_number_get_one(postgres: PostgresDatabase) -> None:
    postgres.execute(f"CREATE TABLE {postgres.place('scores')} ({IDENTITY}, v text UNIQUE NOT NULL)")

    assert write(postgres, [{"v": "a"}, {"v": "b"}], write_disposition="merge", primary_key=["v"]) == [
        (1, "a"),
        (2, "b"),
    ]


def test_number_that_a_merge_would_change_is_refused(postgres: PostgresDatabase) -> None:
    postgres.execute(f"CREATE TABLE {postgres.place('scores')} ({IDENTITY}, v text UNIQUE NOT NULL)")

    with pytest.raises(WriteRefused, match="fills a column itself"):
        write(postgres, [{"id": 7, "v": "a"}], write_disposition="merge", primary_key=["v"])


def test_table_that_copy_cannot_write_to_takes_them(postgres: PostgresDatabase) -> None:
    name = postgres.place("scores")
    postgres.execute(
        f"CREATE TABLE {name} ({IDENTITY}, v text)",
        f"ALTER TABLE {name} ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY",
        f"CREATE POLICY everybody ON {name} USING (true)",
    )

    assert write(postgres, [{"id": 7, "v": "a"}]) == [(7, "a")]
