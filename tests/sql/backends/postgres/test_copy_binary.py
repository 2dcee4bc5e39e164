"""The short way into a binary COPY writes what psycopg's own way writes."""

from __future__ import annotations

import enum
from collections import namedtuple
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from psycopg import pq
from psycopg.adapt import Transformer

from airflow_parallel_provider.errors import SchemaMismatch
from airflow_parallel_provider.hooks.sink_table import SinkTableHook
from airflow_parallel_provider.rows.block import Block
from airflow_parallel_provider.rows.fit import DriverChecks, RowSlices
from airflow_parallel_provider.sql.backends.postgres import copy_binary
from airflow_parallel_provider.values.kinds import Kind
from airflow_parallel_provider.values.table_shape import TableColumn, TableShape
from tests.support.databases import PostgresDatabase

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
            copy_binary.send_rows(copy, iter(given), [20, 25, 701, 1700, 1184, 17, 1186, 1082])
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


# -- what is left to psycopg ------------------------------------------------------------------------------------------

KINDS = {"a": Kind.INT, "b": Kind.TEXT, "c": Kind.DATETIME, "d": Kind.FLOAT}
OIDS = [20, 25, 1114, 701]
NAIVE = AT.replace(tzinfo=None)
ROW, ROWS = 2_300, 3_000


class Number(enum.IntEnum):
    SEVEN = 7


class Word(enum.Enum):
    HELLO = "hello"


class Text(str):
    def __str__(self) -> str:
        return "not this"


class Index:
    def __index__(self) -> int:
        return 7


INTEGERS = [None, True, 2**63 - 1, 2**63, -(2**63) - 1, 7.0, 7.5, Decimal(7), Decimal("7.5"), "7", b"7"]
INTEGERS += [Number.SEVEN, np.int64(7), np.int8(-7), np.uint64(2**63), np.bool_(True), pd.NA]
TEXTS = [None, "", "a\0b", "\ud800", "\N{PILE OF POO}", 7, True, 7.5, b"x", NAIVE, [1], object()]
TEXTS += [Word.HELLO, Text("this"), np.str_("numpy"), pd.NA]
TIMES = [None, NAIVE.replace(tzinfo=UTC), NAIVE.date(), "2026-11-21", 7]
TIMES += [pd.NaT, pd.Timestamp(NAIVE), np.datetime64("2026-11-21T01:02:03")]
FLOATS = [None, True, 7, 10**400, Decimal("7.5"), float("nan"), "7.5", np.float32(0.1)]
ODD: list[tuple[int, Any]] = [
    *((0, value) for value in INTEGERS),
    *((1, value) for value in TEXTS),
    *((2, value) for value in TIMES),
    *((3, value) for value in FLOATS),
]


def with_odd(column: int, value: Any) -> RowSlices:
    rows: list[tuple[Any, ...]] = [(at, f"row {at}", NAIVE + timedelta(seconds=at), at / 7) for at in range(ROWS)]
    rows[ROW] = (*rows[ROW][:column], value, *rows[ROW][column + 1 :])
    shape = TableShape("t", None, tuple(TableColumn(name, kind, None) for name, kind in KINDS.items()))
    return RowSlices(Block(tuple(KINDS), rows), shape, {}, "chunk 7", 2_000)


def sent(rows: Any) -> bytes | tuple[type, str]:
    """What goes to the server, or what is said instead."""
    copy = Copying()
    try:
        copy_binary.send_rows(copy, rows, OIDS)
    except Exception as error:  # whatever it is, it is to be the same
        return type(error), str(error)
    return bytes(copy.data)


class Copying:
    """Stands for the COPY of a cursor."""

    def __init__(self) -> None:
        transformer = Transformer(None)
        transformer.set_dumper_types(OIDS, pq.Format.BINARY)
        self.formatter = SimpleNamespace(transformer=transformer)
        self.data = bytearray()

    def write(self, data: bytes) -> None:
        self.data += data


@pytest.mark.parametrize(("column", "value"), ODD, ids=lambda value: type(value).__name__)
def test_value_is_taken_or_refused_as_if_all_had_been_looked_at(column: int, value: Any) -> None:
    rows = with_odd(column, value)
    assert sent(rows) == sent(iter(rows))


@pytest.mark.parametrize(("value", "times"), [(7, 0), (Decimal(7), 1)])
def test_all_is_looked_at_only_near_a_value_that_psycopg_refuses(
    monkeypatch: pytest.MonkeyPatch, value: Any, times: int
) -> None:
    looked: list[DriverChecks | None] = []
    fit = RowSlices.fit

    def noted(self: RowSlices, start: int, stop: int, strict: DriverChecks | None = None) -> list[tuple[Any, ...]]:
        looked.append(strict)
        assert strict or start <= ROW < stop <= start + copy_binary._MOST_ROWS
        return fit(self, start, stop, strict)

    monkeypatch.setattr(RowSlices, "fit", noted)

    assert isinstance(sent(with_odd(0, value)), bytes)
    assert looked.count(None) == times
    assert looked.count(DriverChecks(frozenset({0, 1}), frozenset({2}))) == 2


def test_an_integer_is_what_python_takes_for_an_index() -> None:
    """Where all values are looked at this is refused."""
    assert sent(with_odd(0, Index())) == sent(iter(with_odd(0, 7)))


# -- rows that are looked at when they are sent -----------------------------------------------------------------------

Pair = namedtuple("Pair", ["b", "a"])  # noqa: PYI024  # rows of authors who do not annotate
IRREGULAR = {
    "list": ([2_300, "a list"], (2_300, "a list")),
    "dict": ({"b": "a dict", "a": 2_300}, (2_300, "a dict")),
    "names in another order": (Pair("named", 2_300), (2_300, "named")),
    "shorter": ((2_300,), "row 2300 of the chunk has 1 values, but there are 2 columns"),
    "longer": ((2_300, "x", "y"), "row 2300 of the chunk has 3 values, but there are 2 columns"),
    "text": ("ab", "row 2300 of the chunk is of type str, which has no columns"),
}


@pytest.mark.parametrize("kind", IRREGULAR)
def test_rows_that_turn_out_to_be_of_another_kind_are_looked_at_again(postgres: PostgresDatabase, kind: str) -> None:
    """The first thousands are sent by then."""
    odd, expected = IRREGULAR[kind]
    given: list[Any] = [(at, f"row {at}") for at in range(ROWS)]
    points: list[str] = []

    class Noting(SinkTableHook):
        def reached(self, point: str) -> None:
            points.append(point)

    with postgres.opened("t", cls=Noting, columns={"a": "int", "b": "text"}) as hook:
        hook.write_chunk("00000000", given)
        given[ROW] = odd
        del points[:]
        if isinstance(expected, str):
            with pytest.raises(SchemaMismatch, match=expected):
                hook.write_chunk("00000001", given, first_position=ROWS)
        else:
            assert hook.write_chunk("00000001", given, first_position=ROWS).rows == ROWS
        claims = points.count("after_claim")
        hook.write_chunk("00000002", [(-1, "the next one")], first_position=2 * ROWS)

    rows = postgres.rows("t")
    if isinstance(expected, str):
        assert (claims, len(rows)) == (1, ROWS + 1)
    else:
        assert (claims, len(rows)) == (2, 2 * ROWS + 1)
        assert expected in rows
