"""What becomes an XCom: any value passes Airflow's supervisor and PostgreSQL's JSONB: by then all work is done."""

from __future__ import annotations

import json
import math
from datetime import date
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_parallel_provider import Pipeline, Stage
from airflow_parallel_provider.monitoring.json_values import to_json_value
from airflow_parallel_provider.monitoring.summary import summary_of
from airflow_parallel_provider.sinks.aggregates.report_view import report_view
from tests.support.databases import PostgresDatabase
from tests.support.given import quick
from tests.support.liars import leave, liar
from tests.support.running import run_pipeline

HOSTILE = "\x00 \x1b[2J \ud800 \u202e" + "x" * 10**6

_text = st.text(st.characters(codec=None, exclude_categories=()), max_size=30)
_leaf = (
    st.none() | st.booleans() | st.integers() | st.integers(-(2**200), 2**200) | st.floats() | _text | st.binary()
    | st.dates() | st.datetimes() | st.decimals() | st.just(object())
)  # fmt: skip
_key = _text | st.integers() | st.booleans() | st.none() | st.floats() | st.dates() | st.tuples(st.integers())
_anything = st.recursive(
    _leaf,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_key, inner, max_size=4) | st.sets(st.integers()),
    max_leaves=15,
)


def assert_passes(value: Any) -> str:
    """Through the supervisor's socket and into a JSON column; return the JSON."""
    msgspec.msgpack.encode(value)
    text = json.dumps(value, allow_nan=False)
    assert "\\u0000" not in text
    text.encode()
    assert json.loads(text) == value, "keys must be texts"
    return text


@quick
@given(_anything)
def test_any_value_passes(value: Any) -> None:
    assert_passes(to_json_value(value))


@quick
@given(st.dictionaries(_key, st.integers(), max_size=6))
def test_no_key_hides_another(value: dict[Any, int]) -> None:
    found = to_json_value(value, text_limit=5)

    assert list(found.values()) == to_json_value(list(value.values()), text_limit=5)


def test_numbers_that_json_or_airflow_do_not_have_become_text_or_nothing() -> None:
    found = to_json_value([math.nan, math.inf, 2**64 - 1, 2**64, -(2**63) - 1, 10**10_000])

    assert found == [None, None, 2**64 - 1, str(2**64), str(-(2**63) - 1), "<int of 33220 bits>"]


def test_a_structure_that_contains_itself_ends() -> None:
    knot: dict[str, Any] = {}
    knot["self"] = knot

    assert_passes(to_json_value(knot))


def test_aggregates_of_any_kind_pass() -> None:
    shown = report_view(
        {
            "sum": 10**30,
            "huge": Decimal("1E+999999"),
            "last": date(2013, 1, 31),
            "worst": HOSTILE,
            "by": {1: 1, "1": 2, None: 3, "None": 4, date(2013, 1, 31): math.nan, HOSTILE: 2**70},
        }
    )

    assert_passes(shown)
    assert shown["sum"] == str(10**30)
    assert list(shown["by"].values())[:5] == [1, 2, 3, 4, None]


class HostileError(ValueError):
    pass


HostileError.__qualname__ = HOSTILE[:50]


def hostile_run(kind: str) -> Any:
    """A run whose error, item and pipeline have texts from hell."""
    stage = Stage(fail if kind != "async" else fail_later, name="fail", kind=kind)  # type: ignore[arg-type]
    items = [{"text": HOSTILE, 1: 2}, HOSTILE, [HOSTILE], liar("__repr__", leave)() if kind != "process" else 1]
    return run_pipeline(items, [stage], tolerance=1.0, name=HOSTILE).report


def fail(item: Any) -> None:
    raise HostileError(HOSTILE, item)


async def fail_later(item: Any) -> None:
    fail(item)


@pytest.mark.parametrize("kind", ["thread", "process", "async", "inline"])
def test_the_report_of_hostile_errors_passes(kind: str) -> None:
    report = hostile_run(kind)

    assert_passes(summary_of(report, {"load_key": HOSTILE, "sink": None}))
    assert_passes(report.as_dict())
    str(report).encode()
    assert "\x1b" not in str(report)
    assert report.items_dead_lettered == 4


@pytest.mark.parametrize("database", ["postgres"], indirect=True)
def test_postgres_takes_the_summary_of_hostile_errors(database: PostgresDatabase) -> None:
    """Airflow stores XComs as JSONB there."""
    found = assert_passes(summary_of(hostile_run("thread"), {"load_key": HOSTILE}))

    with database.raw() as connection:
        assert connection.execute("SELECT %s::jsonb", [found]).fetchone()[0] == json.loads(found)


def test_a_stages_name_is_one_printable_line() -> None:
    for name in ("a\x00", "two\nlines", "\x1b[31m", "half\ud800", "x" * 201):
        with pytest.raises(ValueError, match=r"Stage\.name"):
            Stage(fail, name=name)
    assert Stage(fail, name="取 得  ü").name == "取 得  ü"
    Pipeline([1], [Stage(fail, name="fits" * 50)])
