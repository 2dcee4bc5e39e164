"""Data frames reach DuckDB and PostgreSQL by way of Arrow, and what arrives is what arrives row by row."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import Phase, given
from hypothesis import strategies as st

from airflow_parallel_provider.rows.arrow_rows import ArrowRows
from airflow_parallel_provider.rows.block import to_block
from tests.rows.test_arrow_rows import untouched
from tests.support.databases import TestDatabase
from tests.support.given import examples

pytest.importorskip("pyarrow")
pd = pytest.importorskip("pandas")
pl = pytest.importorskip("polars")
pytestmark = pytest.mark.airflow
FAST = pytest.mark.parametrize("database", ["postgres", "duckdb"], indirect=True)
__all__ = ["untouched"]

_floats = st.floats() | st.floats(width=32)
_texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=8)
_times = st.datetimes(datetime(1900, 1, 1), datetime(2200, 1, 1))  # noqa: DTZ001
_spans = st.timedeltas(timedelta(days=-9_000), timedelta(days=9_000))
_VALUES: Mapping[str, st.SearchStrategy[Any]] = {
    "bool": st.booleans(),
    "int64": st.integers(-(2**63), 2**63 - 1),
    "int8": st.integers(-128, 127),
    "uint32": st.integers(0, 2**32 - 1),
    "float64": _floats | st.none(),
    "float32": st.floats(width=32),
    "Int64": st.integers(-(2**63), 2**63 - 1) | st.none(),
    "boolean": st.booleans() | st.none(),
    "str": _texts | st.none(),
    "string": _texts | st.none(),
    "object": _texts | st.none(),
    "datetime64[us]": _times | st.none(),
    "datetime64[s]": _times.map(lambda at: at.replace(microsecond=0)),
    "datetime64[us, UTC]": _times.map(lambda at: at.replace(tzinfo=UTC)) | st.none(),
    "datetime64[us, Europe/Berlin]": _times.map(lambda at: at.replace(tzinfo=UTC)) | st.none(),
    "timedelta64[us]": _spans | st.none(),
}
"""Values of a column by its type."""
MIXED = {
    "int64 as object": (st.integers(-9, 9) | st.none(), "object"),
    "bytes": (st.binary(max_size=4) | st.none(), "object"),
    "category": (st.sampled_from(["a", "b"]) | st.none(), "category"),
    "datetime64[ns]": (_times | st.none(), "datetime64[ns]"),
    "Float64": (_floats | st.none(), "Float64"),
}
"""Columns that go row by row."""
_POLARS: Mapping[str, tuple[Any, st.SearchStrategy[Any]]] = {
    "bool": (pl.Boolean, st.booleans()),
    "int": (pl.Int64, st.integers(-(2**63), 2**63 - 1)),
    "small": (pl.UInt16, st.integers(0, 2**16 - 1)),
    "float": (pl.Float64, _floats),
    "real": (pl.Float32, st.floats(width=32)),
    "text": (pl.String, _texts),
    "day": (pl.Date, st.dates()),
    "at": (pl.Datetime("us"), _times),
    "instant": (pl.Datetime("us", "Europe/Berlin"), _times.map(lambda at: at.replace(tzinfo=UTC))),
    "decimal": (pl.Decimal(20, 4), st.decimals(-(10**9), 10**9, allow_nan=False, allow_infinity=False, places=4)),
}
_POLARS_SLOW: Mapping[str, tuple[Any, st.SearchStrategy[Any]]] = {
    "time": (pl.Time, st.times()),
    "enum": (pl.Enum(["a", "b"]), st.sampled_from(["a", "b"])),
    "list": (pl.List(pl.Int64), st.lists(st.integers(0, 9), max_size=3)),
    "nano": (pl.Datetime("ns"), _times),
}

PROPERTY = examples(15, phases=[Phase.explicit, Phase.generate])  # no shrinking: a failing frame is small as it is


def shown(rows: list[tuple[Any, ...]]) -> list[list[str]]:
    return [[repr(value) for value in row] for row in rows]  # a NaN is not equal to itself, and -0.0 is to 0.0


@st.composite
def pandas_frames(draw: st.DrawFn, *, mixed: bool) -> Any:
    rows = draw(st.integers(1, 6))
    types = {name: (strategy, name) for name, strategy in _VALUES.items()}
    wanted = {**types, **MIXED} if mixed else types

    def column(strategy: st.SearchStrategy[Any], dtype: str) -> Any:
        values = draw(st.lists(strategy, min_size=rows, max_size=rows))
        if "UTC" in dtype or "Berlin" in dtype:
            instants = pd.Series(values, dtype="datetime64[us, UTC]")
            return instants.dt.tz_convert(dtype.partition(", ")[2][:-1])
        return pd.Series(values, dtype=dtype)

    # Numbered, because DuckDB does not tell int64 from Int64.
    frame = pd.DataFrame({f"{at} {name}": column(*wanted[name]) for at, name in enumerate(wanted)})
    frame.insert(0, "seq", range(rows))
    return frame


@st.composite
def polars_frames(draw: st.DrawFn, *, mixed: bool) -> Any:
    rows = draw(st.integers(1, 6))
    wanted = {**_POLARS, **_POLARS_SLOW} if mixed else _POLARS
    columns = {
        name: pl.Series(name, draw(st.lists(strategy | st.none(), min_size=rows, max_size=rows)), dtype)
        for name, (dtype, strategy) in wanted.items()
    }
    return pl.DataFrame({"seq": list(range(rows)), **columns})


@pytest.mark.hypothesis
@pytest.mark.parametrize("mixed", [False, True], ids=["plain", "mixed"])
@pytest.mark.parametrize("frames", [pandas_frames, polars_frames], ids=["pandas", "polars"])
@FAST
def test_rows_are_those_of_the_careful_way(database: TestDatabase, frames: Any, mixed: bool) -> None:
    """Two tables, one of which is written row by row; every example is a chunk of both."""
    looked: list[int] = []
    made = ArrowRows._materialize
    numbers = itertools.count()

    def written(hook: Any, frame: Any, number: int) -> list[list[str]]:
        hook.write_chunk(f"{number:08d}", [frame, frame], first_position=number)
        table, seq = hook.spec.table, database.quote("seq")
        where = f"{seq} BETWEEN {number * 10} AND {number * 10 + 9}"
        return shown(database.fetch(f"SELECT * FROM {database.place(table)} WHERE {where} ORDER BY {seq}"))

    with (
        database.opened("fast", dead_letters=None) as fast,
        database.opened("slow", dead_letters=None) as slow,
        pytest.MonkeyPatch.context() as patch,
    ):
        slow._database.backend.arrow_kinds = frozenset()

        @PROPERTY
        @given(frames(mixed=mixed))
        def check(frame: Any) -> None:
            if database.name == "postgres":  # Arrow writes no spans of time as CSV
                frame = frame[[name for name in frame.columns if "timedelta" not in name]]
            number = next(numbers)
            frame = in_tens(frame, number)
            by_hand = written(slow, frame, number)
            del looked[:]

            assert written(fast, frame, number) == by_hand
            assert len(by_hand) == 2 * len(frame)
            assert mixed or not looked or not number  # the first chunk makes the table, which may take a look

        patch.setattr(ArrowRows, "_materialize", lambda rows: looked.append(1) or made(rows))
        check()


def in_tens(frame: Any, number: int) -> Any:
    """The frame, its rows numbered from ten times ``number``."""
    seq = range(number * 10, number * 10 + len(frame))
    return frame.assign(seq=seq) if isinstance(frame, pd.DataFrame) else frame.with_columns(seq=pl.Series(seq))


@FAST
def test_missing_and_not_a_number(database: TestDatabase) -> None:
    """pandas has one sign for both in a column of floats, polars has two."""
    with database.opened() as hook:
        hook.write_chunk("00000000", [pd.DataFrame({"value": [1.0, math.nan]})])
        hook.write_chunk("00000001", [pl.DataFrame({"value": [2.0, math.nan, None]})], first_position=2)

    assert sorted(map(repr, database.rows())) == sorted(["(1.0,)", "(None,)", "(2.0,)", "(nan,)", "(None,)"])


@pytest.mark.usefixtures("untouched")
@FAST
def test_frames_are_merged_without_a_look_at_them(database: TestDatabase) -> None:
    with database.opened(write_disposition="merge", primary_key="id", load_column="load") as hook:
        hook.write_chunk("00000000", [pd.DataFrame({"id": [1, 2, 1], "n": [1.5, 2.5, 3.5]})])
        hook.write_chunk("00000001", [pl.DataFrame({"id": [2, 3], "n": [4.5, None]})], first_position=100)

    assert database.rows(columns="id, n") == [(1, 3.5), (2, 4.5), (3, None)]


def test_frame_is_not_converted_where_nobody_takes_arrow_tables() -> None:
    frame = pd.DataFrame({"id": [1, 2]})

    assert isinstance(to_block([frame, frame], arrow=True).rows, ArrowRows)
    assert to_block([frame, frame]).rows == [(1,), (2,), (1,), (2,)]


@pytest.mark.parametrize("value", [2**70, "a\ud800", [1]])
def test_value_that_arrow_cannot_have_goes_row_by_row(value: Any) -> None:
    frame = pd.DataFrame({"value": pd.Series([value], dtype="object")})

    assert to_block([frame], arrow=True).rows == [(value,)]
