"""The short way into a binary COPY writes what psycopg's own way writes."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from airflow_parallel_provider.sinks.writers import copy_binary
from tests.sinks.databases import PostgresDatabase

pytestmark = pytest.mark.airflow
TYPES = "a bigint, b text, c double precision, d numeric, e timestamptz, f bytea, g interval, h date"
AT = datetime(2026, 11, 21, 1, 2, 3, 456789, tzinfo=UTC)


@pytest.fixture
def postgres() -> Iterator[PostgresDatabase]:
    database = PostgresDatabase()
    yield database
    database.drop()


def rows(count: int, width: int = 3) -> list[tuple[Any, ...]]:
    """Rows with every kind of value, None among them, some of them wide."""
    return [
        (
            at,
            "ü" * (width if at % 7 else 40 * width),
            at / 3,
            Decimal(at).scaleb(-2),
            AT,
            b"\0\xff",
            timedelta(at),
            None,
        )
        if at % 5
        else (-at, None, None, None, None, None, None, date(2026, 1, 1))
        for at in range(count)
    ]


def copied(database: PostgresDatabase, given: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    database.execute(f"DROP TABLE IF EXISTS {database.place('t')}", f"CREATE TABLE {database.place('t')} ({TYPES})")
    with database.raw() as raw, raw.cursor() as cursor:
        with cursor.copy(f"COPY {database.place('t')} FROM STDIN (FORMAT BINARY)") as copy:
            copy.set_types(["int8", "text", "float8", "numeric", "timestamptz", "bytea", "interval", "date"])
            copy_binary.send_rows(copy, iter(given))
        raw.commit()
    return database.rows("t", order="abs(a)")


@pytest.mark.parametrize(("count", "width"), [(0, 1), (1, 1), (5_000, 3), (200, 60_000)])
def test_rows_arrive_as_they_are(postgres: PostgresDatabase, count: int, width: int) -> None:
    assert copied(postgres, rows(count, width)) == rows(count, width)


def test_short_way_is_taken() -> None:
    """With the psycopg that the tests run with: a version that needs the long way is to be noticed."""
    assert copy_binary.row_formatter() is not None


@pytest.mark.parametrize("fault", ["is gone", "raises", "does something else"])
def test_long_way_is_taken_where_the_short_one_is_not_as_known(
    postgres: PostgresDatabase, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    from psycopg import _copy_base

    def other(row: Any, transformer: Any, out: bytearray) -> None:
        if fault == "raises":
            raise TypeError
        out += b"something"

    with monkeypatch.context() as patched:
        if fault == "is gone":
            patched.delattr(_copy_base, "format_row_binary")
        else:
            patched.setattr(_copy_base, "format_row_binary", other)
        copy_binary.row_formatter.cache_clear()
        assert copy_binary.row_formatter() is None
    assert copied(postgres, rows(100)) == rows(100)
    copy_binary.row_formatter.cache_clear()
