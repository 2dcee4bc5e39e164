"""Intervals of PostgreSQL in ``SqlSource``."""

from __future__ import annotations

from datetime import timedelta

import pytest

from airflow_parallel_provider import SqlSource
from airflow_parallel_provider.errors import SourceError
from tests.support.databases import TestDatabase

pytestmark = pytest.mark.airflow


def source(database: TestDatabase, key: str = "id") -> SqlSource:
    return SqlSource("terms", conn_id="warehouse", key=key, schema=database.schema, range_size=100)


def fill(database: TestDatabase, *terms: str, kind: str = "interval") -> None:
    values = ", ".join(f"({number}, interval '{term}')" for number, term in enumerate(terms))
    database.execute(
        f"CREATE TABLE {database.place('terms')} (id int PRIMARY KEY, term {kind} NOT NULL UNIQUE)",
        f"INSERT INTO {database.place('terms')} VALUES {values}",
    )


@pytest.mark.parametrize("database", ["postgres"], indirect=True)
@pytest.mark.parametrize("term", ["1 month", "1 year", "-1 month", "1 year -1 month", "1 month 3 days 04:05:06.789"])
def test_interval_of_months_is_refused_by_column_and_row(database: TestDatabase, term: str) -> None:
    fill(database, "1 day", term)

    with pytest.raises(SourceError, match=r"column 'term' has an interval with months.*row 1 in .*columns="):
        list(source(database))


@pytest.mark.parametrize("database", ["postgres"], indirect=True)
def test_row_is_counted_over_all_ranges(database: TestDatabase) -> None:
    fill(database, *(f"{number} days" for number in range(130)), "1000 months")

    with pytest.raises(SourceError, match=r"\(row 130 in the order"):
        list(source(database))


@pytest.mark.parametrize("database", ["postgres"], indirect=True)
@pytest.mark.parametrize("key", ["id", "term"])
def test_interval_without_months_is_exact(database: TestDatabase, key: str) -> None:
    expected = [timedelta(microseconds=-1), timedelta(hours=2), timedelta(days=9), timedelta(10, 7384, 123457)]
    fill(database, "-0.000001 s", "2 hours", "9 days", "10 days 02:03:04.123457")

    assert [row["term"] for row in source(database, key)] == expected


@pytest.mark.parametrize("database", ["postgres"], indirect=True)
def test_null_stays_null_and_a_key_of_months_is_refused(database: TestDatabase) -> None:
    fill(database, "1 month")
    with pytest.raises(SourceError, match="interval with months"):
        list(source(database, "term"))
    database.execute(
        f"ALTER TABLE {database.place('terms')} ALTER term DROP NOT NULL",
        f"UPDATE {database.place('terms')} SET term = NULL",
    )

    assert list(source(database)) == [{"id": 0, "term": None}]
