"""Values of SQLite that are not of the declared type of their column, in ``SqlSource``."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any

import pytest

from airflow_parallel_provider import JsonText, RunFailed, SqlSource
from tests.support.copies import copy
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
        ("DECIMAL_TEXT", "'12345678901234567.890'", Decimal("12345678901234567.890")),
        ("DECIMAL_TEXT", "'abc'", "abc"),
        ("BOOLEAN", "7", 7),
        ("BOOLEAN", "'yes'", "yes"),
        ("BOOLEAN", "1", True),
        ("DATETIME", "1700000000", 1700000000),
        ("DATETIME", "'2026-01-02T03:04:05Z'", datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)),
        ("DATETIME", "'02.01.2026'", "02.01.2026"),
        ("DATE", "20260102", 20260102),
        ("DATETIME", "'2026-01-02'", datetime.fromisoformat("2026-01-02")),
        ("DATETIME", "'2026-01-02 03:04'", datetime.fromisoformat("2026-01-02 03:04")),
        ("DATETIME", "'2026-01-02 03:04:05.1234567'", "2026-01-02 03:04:05.1234567"),
        ("DATETIME", "'20260102T030405'", "20260102T030405"),
        ("DATE", "'2026-01-02'", date(2026, 1, 2)),
        ("DATE", "'20260102'", 20260102),
        ("DATE", "'2026-W01-1'", "2026-W01-1"),
        ("DATE", "'2026-02-30'", "2026-02-30"),
        ("TIME", "'25:00:00'", "25:00:00"),
        ("TIME", "'03:04:05.5'", time(3, 4, 5, 500000)),
        ("TIME", "'03:04'", "03:04"),
        ("TIME", "'03'", 3),
        ("TIME", "'T03:04:05'", "T03:04:05"),
        ("JSON", "5", 5),
        ("JSON", "'[1]'", JsonText("[1]")),
        ("JSON", "x'00'", b"\x00"),
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


@pytest.mark.parametrize(
    ("kind", "stored", "reason"),
    [
        ("TEXT", "CAST(x'ff41' AS TEXT)", "a text that is not UTF-8"),
        ("DATETIME", "CAST(x'ff41' AS TEXT)", "a text that is not UTF-8"),
        ("BOOLEAN", "CAST(x'ff41' AS TEXT)", "a text that is not UTF-8"),
    ],
)
def test_value_that_cannot_be_read_is_one_rejected_row(
    database: TestDatabase, kind: str, stored: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(database, kind, "'[]'", stored, "'[1]'")

    assert [str(row["v"]) for row in source() if row["id"] != 1] == ["[]", "[1]"]
    with pytest.raises(RunFailed) as failed:
        copy(monkeypatch, database, database, "loose", columns={"id": int, "v": "text"})
    assert f"cannot take {reason}, read from column 'v' of row 1 in the order of id" in str(failed.value.__cause__)

    options = {"columns": {"id": int, "v": "text"}, "max_rejected": 1, "run_options": {"tolerance": 1}}
    assert copy(monkeypatch, database, database, "loose", **options).rows_committed == 2
    assert database.rows("copied") == [(0, "[]"), (2, "[1]")]


@pytest.mark.parametrize(("kind", "step"), [("DECIMAL(20,5)", 0.125), ("DATETIME", 1000), ("DECIMAL(20,5)", 2**53 + 1)])
def test_loose_value_is_a_key(database: TestDatabase, kind: str, step: float) -> None:
    fill(database, kind, *(str(number * step) for number in range(250)))
    reader = source("v")
    reader.prepare()
    state = json.loads(json.dumps(reader.get_state()))
    reader.restore_state(state)

    assert [row["id"] for row in reader] == list(range(250))


def test_text_that_is_not_json_is_refused_by_a_column_of_json(
    database: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(database, "JSON_TEXT", "'[]'", "'not json'", "'{\"a\": NaN}'", "'5'")
    database.execute("CREATE TABLE copied (id INTEGER PRIMARY KEY, v JSON_TEXT)")

    with pytest.raises(RunFailed) as failed:
        copy(monkeypatch, database, database, "loose")
    assert "column 'v' (json) cannot take a text that is not" in str(failed.value.__cause__)
    assert "row 1)" in str(failed.value.__cause__)

    assert (
        copy(monkeypatch, database, database, "loose", max_rejected=2, run_options={"tolerance": 2}).rows_committed == 2
    )
    assert database.rows("copied") == [(0, "[]"), (3, "5")]
