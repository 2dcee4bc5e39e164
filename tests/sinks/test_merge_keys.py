"""Which rows of one chunk have the same key: what the table's unique index says, not what a GROUP BY would."""

from __future__ import annotations

from typing import Any

import pytest

from tests.sinks.conftest import OWN
from tests.sinks.databases import SPEC, TestDatabase

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


@pytest.mark.parametrize("database", OWN, indirect=True)
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
