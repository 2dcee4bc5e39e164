"""Dates of MariaDB in ``SqlSource``."""

from __future__ import annotations

from datetime import date, datetime

import pytest

from airflow_parallel_provider import SqlSource
from airflow_parallel_provider.errors import SourceError
from tests.support.databases import TestDatabase

pytestmark = pytest.mark.airflow


def source(database: TestDatabase, key: str = "id") -> SqlSource:
    return SqlSource("days", conn_id="warehouse", key=key, schema=database.schema, range_size=100)


def fill(database: TestDatabase, kind: str, *values: str) -> None:
    rows = ", ".join(f"({number}, {value})" for number, value in enumerate(values))
    database.execute(
        f"CREATE TABLE {database.place('days')} (id int PRIMARY KEY, day {kind} NULL UNIQUE)",
        f"SET STATEMENT sql_mode='ALLOW_INVALID_DATES' FOR INSERT INTO {database.place('days')} VALUES {rows}",
    )


@pytest.mark.parametrize("database", ["mariadb"], indirect=True)
@pytest.mark.parametrize("kind", ["date", "datetime", "datetime(6)"])
@pytest.mark.parametrize("value", ["0000-00-00", "2024-02-31", "2024-00-00"])
def test_date_that_does_not_exist_is_refused_by_column_and_row(database: TestDatabase, kind: str, value: str) -> None:
    fill(database, kind, "'2024-01-01'", f"'{value}'")

    with pytest.raises(SourceError, match=r"column 'day' has a date that does not exist.*row 1 in .*columns="):
        list(source(database))


@pytest.mark.parametrize("database", ["mariadb"], indirect=True)
def test_zero_timestamp_is_refused(database: TestDatabase) -> None:
    fill(database, "timestamp", "0")

    with pytest.raises(SourceError, match="column 'day' has a date that does not exist"):
        list(source(database))


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
