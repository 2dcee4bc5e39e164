"""Items in the table of dead letters: readable for people, exact where they can be replayed, never longer than said."""

from __future__ import annotations

import dataclasses
import enum
import json
import math
from datetime import timedelta, timezone
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_parallel_provider.values.items import Message, SourceFile
from airflow_parallel_provider.values.typed_json import Opaque, dumps, loads
from tests.support.given import quick

_zones = st.none() | st.builds(timezone, st.timedeltas(timedelta(hours=-12), timedelta(hours=12)))
_hashable = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary() | st.uuids()
    | st.decimals(allow_nan=False) | st.dates() | st.datetimes(timezones=_zones) | st.times() | st.timedeltas()
    | st.complex_numbers(allow_nan=False)
)  # fmt: skip
_values = st.recursive(
    _hashable,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(st.text() | st.just("$type"), inner, max_size=4)
        | st.dictionaries(st.integers() | st.tuples(st.text(), st.integers()), inner, max_size=4)
        | st.frozensets(_hashable, max_size=4)
        | st.sets(_hashable, max_size=4)
    ),
    max_leaves=15,
)


def kinds(value: Any) -> Any:
    """The types all the way down: 1, 1.0 and True are equal, and not the same."""
    if isinstance(value, dict):
        return [dict, [(kinds(key), kinds(item)) for key, item in value.items()]]
    if isinstance(value, (list, tuple)):
        return [type(value), [kinds(item) for item in value]]
    return type(value)


@quick
@given(_values)
def test_what_is_exact_comes_back_as_it_was(value: Any) -> None:
    text, exact = dumps(value, 10**9)

    assert exact
    assert loads(text) == value
    assert kinds(loads(text)) == kinds(value)
    assert text.isascii()
    assert "\x00" not in text


def test_nan_comes_back() -> None:
    text, exact = dumps([math.nan, math.inf], 1000)

    assert exact
    assert math.isnan(loads(text)[0])
    assert loads(text)[1] == math.inf


def test_plain_json_stays_plain() -> None:
    value = {"id": 1, "tags": ["a", None, True], "score": 0.5}

    assert dumps(value, 1000) == (json.dumps(value), True)


@quick
@given(_values, st.integers(200, 400))
def test_no_text_is_longer_than_said(value: Any, cap: int) -> None:
    text, exact = dumps([value, "x" * 150], cap)

    assert len(text) <= cap
    json.loads(text)
    assert exact == (isinstance(loads(text), list))


def test_what_was_cut_begins_as_it_did() -> None:
    text, exact = dumps({"page": '<a href="x">' * 1000}, 300)

    found = loads(text)
    assert not exact
    assert isinstance(found, Opaque)
    assert found.kind == "cut"
    assert found.content.startswith('{"page": "<a href')
    assert 250 < len(text) <= 300


class Color(enum.Enum):
    RED = "red"


@dataclasses.dataclass
class Flight:
    id: int
    carrier: Any


class Delay(NamedTuple):
    minutes: float


class Broken:
    def __repr__(self) -> str:
        raise RuntimeError("no")


@pytest.mark.parametrize(
    ("value", "kind", "content"),
    [
        (Color.RED, "Color", "red"),
        (Flight(1, ("UA",)), "Flight", {"id": 1, "carrier": ("UA",)}),
        (Delay(0.5), "Delay", {"minutes": 0.5}),
        (range(3), "range", "range(0, 3)"),
    ],
)
def test_objects_are_written_for_people_only(value: Any, kind: str, content: Any) -> None:
    text, exact = dumps(value, 1000)

    assert not exact
    assert loads(text).kind.endswith(f":{kind}")
    assert loads(text).content == content


@pytest.mark.parametrize(
    "item",
    [
        SourceFile("s3://raw/day 1#.csv", 17, "abc", "aws"),
        Message("1-0", b"\xff{", {"kind": "order"}),
        {"file": SourceFile("file:///a", 0, "1.5")},
    ],
)
def test_items_of_our_own_sources_come_back(item: Any) -> None:
    text, exact = dumps(item, 1000)

    assert exact
    assert loads(text) == item


def test_values_of_libraries_are_written_as_what_they_stand_for() -> None:
    np = pytest.importorskip("numpy")
    pendulum = pytest.importorskip("pendulum")
    moment = pendulum.datetime(2013, 1, 31, 5, tz="UTC")

    text, exact = dumps([np.int64(1), np.array([1.5]), moment], 1000)

    assert exact
    assert loads(text) == [1, [1.5], moment]


def test_item_that_cannot_even_be_shown_does_not_lose_the_dead_letter() -> None:
    text, exact = dumps(Broken(), 1000)

    assert not exact
    assert loads(text) == Opaque("unreadable", "RuntimeError")


def test_item_that_contains_itself_ends() -> None:
    knot: list[Any] = []
    knot.append(knot)

    text, exact = dumps(knot, 10_000)

    assert not exact
    assert loads(text) == [Opaque("cycle", "list")]


def test_nothing_that_a_text_names_is_run() -> None:
    text = '{"$type": "object", "class": "os:system", "value": "echo owned"}'

    assert loads(text) == Opaque("os:system", "echo owned")
    assert loads('{"$type": "eval", "value": "1"}') == Opaque("eval", "1")
