"""Which rows of one chunk have the same key: what the table's unique index says, not what a GROUP BY would."""

from __future__ import annotations

from importlib import metadata
from typing import Any

import pytest

from airflow_parallel_provider.engine.interfaces.records import LoadSpec
from tests.support.databases import SPEC, TestDatabase, on_each_backend

pytestmark = pytest.mark.airflow
MERGE: dict[str, Any] = {"write_disposition": "merge", "primary_key": ["day", "shop"]}
ROWS = [
    {"day": 1, "shop": None, "name": "a"},
    {"day": 1, "shop": 5, "name": "first"},
    {"day": 1, "shop": None, "name": "b"},
    {"day": None, "shop": 5, "name": "c"},
    {"day": 1, "shop": 5, "name": "last"},
    {"day": None, "shop": None, "name": "d"},
    {"day": None, "shop": None, "name": "e"},
]


def with_unique_key(database: TestDatabase, more: str = "") -> None:
    columns = f"day INTEGER, shop INTEGER, name VARCHAR(9), UNIQUE {more}(day, shop)"
    database.execute(f"CREATE TABLE {database.place('scores')} ({columns})")


@on_each_backend
@pytest.mark.parametrize("frame", [False, True], ids=["rows", "arrow"])
def test_row_with_a_null_in_its_key_is_like_no_other(database: TestDatabase, frame: bool) -> None:
    pa = pytest.importorskip("pyarrow")
    with_unique_key(database)

    with database.opened(**MERGE) as hook:
        receipt = hook.write_chunk("00000000", [pa.Table.from_pylist(ROWS)] if frame else ROWS)

    names = [name for (name,) in database.rows(columns="name")]
    assert names == ["a", "b", "c", "d", "e", "last"]
    assert receipt.rows == len(ROWS)


@pytest.mark.parametrize("database", ["postgres", "postgres-psycopg2"], indirect=True)
def test_nulls_are_equal_where_the_index_says_so(database: TestDatabase) -> None:
    if int(database.fetch("SHOW server_version_num")[0][0]) < 150_000:
        pytest.skip("PostgreSQL knows NULLS NOT DISTINCT from version 15 on")
    with_unique_key(database, "NULLS NOT DISTINCT ")

    with database.opened(spec=SPEC, **MERGE) as hook:
        hook.write_chunk("00000000", ROWS)

    assert [name for (name,) in database.rows(columns="name")] == ["b", "c", "e", "last"]


@pytest.mark.parametrize("database", ["sqlite", "duckdb", "mariadb"], indirect=True)
@pytest.mark.parametrize("frame", [False, True], ids=["rows", "arrow"])
def test_texts_that_the_table_takes_for_equal_are_one_key(database: TestDatabase, frame: bool) -> None:
    """And the last row wins, in one chunk or in several."""
    pa = pytest.importorskip("pyarrow")
    if database.name == "duckdb" and _version("duckdb") < (1, 4):
        pytest.skip("ON CONFLICT of DuckDB goes by the collation from 1.4 on")
    collation = "utf8mb4_general_ci" if database.name == "mariadb" else "NOCASE"
    database.execute(
        f"CREATE TABLE {database.place('scores')} (name VARCHAR(9) COLLATE {collation} PRIMARY KEY, points INTEGER)"
    )
    chunks = [
        [{"name": name, "points": points} for name, points in pairs]
        for pairs in ([("a", 1), ("B", 2), ("A", 3)], [("b", 4), ("a", 5), ("B", 6), ("c", 7)])
    ]

    with database.opened(spec=SPEC, write_disposition="merge", primary_key="name") as hook:
        for number, rows in enumerate(chunks):
            given = [pa.Table.from_pylist(rows)] if frame else rows
            hook.write_chunk(f"{number:08d}", given, first_position=number * 100)

    assert [(name.lower(), points) for name, points in database.rows()] == [("a", 5), ("b", 6), ("c", 7)]


@on_each_backend
def test_row_that_meets_another_unique_index_changes_no_other_row(database: TestDatabase) -> None:
    """MySQL itself would update the row with the other key and drop the new one without a word."""
    database.execute(
        f"CREATE TABLE {database.place('scores')} (id INTEGER PRIMARY KEY, mail VARCHAR(9) UNIQUE, points INTEGER)"
    )
    with database.opened(write_disposition="merge", primary_key="id", max_rejected=1) as hook:
        hook.write_chunk("00000000", [{"id": 1, "mail": "a", "points": 1}])
        receipt = hook.write_chunk(
            "00000001",
            [{"id": 1, "mail": "b", "points": 2}, {"id": 2, "mail": "b", "points": 3}, {"id": 3, "mail": "c"}],
            first_position=100,
        )

    assert receipt.rows_rejected == 1
    assert database.rows() == [(1, "b", 2), (3, "c", None)]


@pytest.mark.parametrize("database", ["duckdb"], indirect=True)
def test_key_that_a_table_holds_twice_by_its_collation(database: TestDatabase) -> None:
    """DuckDB's own ON CONFLICT updates both, and so does a merge; an index on lower() lets no second one in."""
    if _version("duckdb") < (1, 4):
        pytest.skip("ON CONFLICT of DuckDB goes by the collation from 1.4 on")
    scores = database.place("scores")
    database.execute(f"CREATE TABLE {scores} (name VARCHAR COLLATE NOCASE PRIMARY KEY, points INTEGER)")
    database.execute(f"INSERT INTO {scores} VALUES ('a', 1)", f"INSERT INTO {scores} VALUES ('A', 2)")

    def merge(key: str, points: int) -> None:
        with database.opened(spec=LoadSpec(key, 100, ""), write_disposition="merge", primary_key="name") as hook:
            hook.write_chunk("00000000", [{"name": "a", "points": points}])

    merge("monday", 3)
    assert sorted(database.rows()) == [("A", 3), ("a", 3)]

    database.execute(f"DELETE FROM {scores} WHERE ascii(name) = ascii('A')")
    database.execute(f"CREATE UNIQUE INDEX once ON {scores} (lower(name))")
    merge("tuesday", 4)
    assert database.rows() == [("a", 4)]
    with pytest.raises(Exception, match="unique"):
        database.execute(f"INSERT INTO {scores} VALUES ('A', 2)")


def _version(package: str) -> tuple[int, ...]:
    return tuple(int(part) for part in metadata.version(package).split(".")[:2])
