"""Dates of MariaDB in ``SqlSource``."""

from __future__ import annotations

from datetime import date, datetime, time, timedelta

import pytest

from airflow_parallel_provider import RunFailed, SqlSource
from airflow_parallel_provider.errors import SchemaMismatch
from airflow_parallel_provider.values.unreadable import Unreadable, UnreadableValue
from tests.support.copies import copy
from tests.support.databases import TestDatabase

pytestmark = pytest.mark.airflow

NO_DATES = ("'0000-00-00'", "'2024-02-31'", "'2024-00-00'")
REASON = "a date that does not exist, such as 0000-00-00 or 2024-02-31"


def source(database: TestDatabase, key: str = "id") -> SqlSource:
    return SqlSource("days", conn_id="warehouse", key=key, schema=database.schema, range_size=100)


def fill(database: TestDatabase, kind: str, *values: str) -> None:
    rows = ", ".join(f"({number}, {value})" for number, value in enumerate(values))
    database.execute(
        f"CREATE TABLE {database.place('days')} (id int PRIMARY KEY, day {kind} NULL UNIQUE)",
        f"SET STATEMENT sql_mode='ALLOW_INVALID_DATES' FOR INSERT INTO {database.place('days')} VALUES {rows}",
    )


@pytest.mark.parametrize("database", ["mariadb"], indirect=True)
@pytest.mark.parametrize(
    ("kind", "value"),
    [
        *((kind, value) for kind in ("date", "datetime", "datetime(6)") for value in NO_DATES),
        ("timestamp", "0"),
    ],
)
def test_date_that_does_not_exist_is_one_rejected_row(
    database: TestDatabase, kind: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(database, kind, "'2024-01-01'", value, "'2024-01-03'")

    row = list(source(database))[1]
    assert isinstance(row["day"], Unreadable)
    assert (row["day"].reason, row["day"].place) == (REASON, "column 'day' of row 1 in the order of id")
    with pytest.raises(UnreadableValue, match=f"column 'day' of row 1 .*{REASON}.*where="):
        str(row["day"])

    with pytest.raises(RunFailed) as failed:
        copy(monkeypatch, database, database, "days", columns={"id": int, "day": "text"})
    assert f"column 'day' (text) cannot take {REASON}, read from column 'day' of row 1" in str(failed.value.__cause__)

    options = {"columns": {"id": int, "day": "datetime"}, "max_rejected": 1, "run_options": {"tolerance": 1}}
    assert copy(monkeypatch, database, database, "days", **options).rows_committed == 2
    assert [number for (number,) in database.rows("copied", "id")] == [0, 2]


@pytest.mark.parametrize("database", ["mariadb"], indirect=True)
def test_other_dates_and_nulls_are_read_as_they_are(database: TestDatabase) -> None:
    fill(database, "datetime(6)", "'1000-01-01'", "NULL", "'9999-12-31 23:59:59.999999'")

    days = [row["day"] for row in source(database)]

    assert days[1] is None
    assert list(map(type, days)) == [datetime, type(None), datetime]
    assert [str(day) for day in days] == ["1000-01-01 00:00:00", "None", "9999-12-31 23:59:59.999999"]


@pytest.mark.parametrize("database", ["mariadb"], indirect=True)
def test_date_is_a_key(database: TestDatabase) -> None:
    fill(database, "date", *(f"'2024-01-01' + INTERVAL {number} DAY" for number in range(250)))
    database.execute(f"ALTER TABLE {database.place('days')} MODIFY day date NOT NULL")

    days = [row["day"] for row in source(database, "day")]

    assert days[0] == date(2024, 1, 1)
    assert days == sorted(set(days))
    assert len(days) == 250


@pytest.mark.parametrize("database", ["mariadb"], indirect=True)
def test_float_of_four_bytes_keeps_all_its_digits(database: TestDatabase, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server shows six of them: 1234567.8 would become 1234570."""
    fill(database, "float", "0.1", "1234567.8", "16777215", "3.4028234e38", "NULL", "-1e-30", "0")
    database.execute(f"CREATE TABLE {database.place('copied')} (id int PRIMARY KEY, day float)")

    assert [row["day"] for row in source(database)] == [
        0.1,
        1234567.8,
        16777215.0,
        3.4028234663852886e38,
        None,
        -1e-30,
        0.0,
    ]
    copy(monkeypatch, database, database, "days")
    exact = "id, day + 0e0"
    assert database.rows("copied", exact, "id") == database.rows("days", exact, "id")


@pytest.mark.parametrize("database", ["mariadb"], indirect=True)
@pytest.mark.parametrize(
    ("kind", "values"),
    [
        ("time(6)", ["100:00:00", "-00:00:00.000001", "-838:59:59", "838:59:59", "23:59:59.5", "24:00:00"]),
        ("set('a','b','c')", ["a,c", "", "b"]),
    ],
)
def test_spans_and_sets_are_copied_as_they_are(
    database: TestDatabase, kind: str, values: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(database, kind, *map(repr, values), "NULL")
    database.execute(f"CREATE TABLE {database.place('copied')} (id int PRIMARY KEY, day {kind})")

    copy(monkeypatch, database, database, "days")

    text = "id, CAST(day AS CHAR)"
    assert database.rows("copied", text, "id") == database.rows("days", text, "id")
    assert database.rows("copied", text, "id")[-1] == (len(values), None)


@pytest.mark.parametrize("database", ["mariadb"], indirect=True)
def test_span_beyond_a_column_of_times_is_refused(database: TestDatabase, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(database, "time", "'10:00:00'", "'100:00:00'")

    monkeypatch.setattr("airflow_parallel_provider.sql.database.get_connection", lambda *_: database.connection)
    assert [row["day"] for row in source(database)] == [time(10), timedelta(hours=100)]
    with database.opened(columns={"id": int, "day": "time"}) as hook, pytest.raises(SchemaMismatch, match="refused"):
        hook.write_chunk("00000000", [{"id": 1, "day": timedelta(hours=900)}])
