"""Values of SQLite that are not of the declared type of their column, in ``SqlSource``."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from airflow_parallel_provider import SqlSource
from airflow_parallel_provider.errors import SourceError
from tests.support.databases import TestDatabase

pytestmark = [pytest.mark.airflow, pytest.mark.parametrize("database", ["sqlite"], indirect=True)]


def fill(database: TestDatabase, kind: str, *values: str) -> None:
    rows = ", ".join(f"({number}, {value})" for number, value in enumerate(values))
    database.execute(
        f"CREATE TABLE loose (id INTEGER PRIMARY KEY, v {kind} NOT NULL, UNIQUE (v))",
        f"INSERT INTO loose VALUES {rows}",
    )


def source(key: str = "id") -> SqlSource:
    return SqlSource("loose", conn_id="warehouse", key=key, range_size=100)


@pytest.mark.parametrize(
    ("kind", "stored", "expected"),
    [
        ("DECIMAL(10,2)", "2.675", Decimal("2.675")),
        ("DECIMAL(10,2)", "2.5", Decimal("2.50")),
        ("DECIMAL(10,2)", "'abc'", "abc"),
        ("NUMERIC", "9007199254740993", Decimal(9007199254740993)),
        ("NUMERIC", "1e-12", Decimal("1e-12")),
        ("DECIMAL(10,2)", "9e999", Decimal("Infinity")),
        ("BOOLEAN", "7", 7),
        ("BOOLEAN", "'yes'", "yes"),
        ("BOOLEAN", "1", True),
        ("DATETIME", "1700000000", 1700000000),
        ("DATETIME", "'2026-01-02T03:04:05Z'", datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)),
        ("DATETIME", "'02.01.2026'", "02.01.2026"),
        ("DATE", "20260102", 20260102),
        ("TIME", "'25:00:00'", "25:00:00"),
        ("JSON", "5", 5),
        ("JSON", "'[1]'", [1]),
        ("BLOB", "5", 5),
        ("BLOB", "'text'", "text"),
        ("BLOB", "x'00ff'", b"\x00\xff"),
    ],
)
def test_value_is_read_as_it_is_kept(database: TestDatabase, kind: str, stored: str, expected: Any) -> None:
    fill(database, kind, stored)

    [row] = source()

    assert row["v"] == expected
    assert (type(row["v"]), str(row["v"])) == (type(expected), str(expected))


def test_text_that_is_not_json_is_refused(database: TestDatabase) -> None:
    fill(database, "JSON", "'[]'", "'not json'")

    with pytest.raises(SourceError, match=r"column 'v' has a text that is not JSON \(row 1 in the order of the key\)"):
        list(source())


@pytest.mark.parametrize(("kind", "step"), [("DECIMAL(20,5)", 0.125), ("DATETIME", 1000), ("DECIMAL(20,5)", 2**53 + 1)])
def test_loose_value_is_a_key(database: TestDatabase, kind: str, step: float) -> None:
    fill(database, kind, *(str(number * step) for number in range(250)))
    reader = source("v")
    reader.prepare()
    state = json.loads(json.dumps(reader.get_state()))
    reader.restore_state(state)

    assert [row["id"] for row in reader] == list(range(250))
