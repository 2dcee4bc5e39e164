"""Values for people: like ``repr``, but short, and never longer in the making than in the reading."""

from __future__ import annotations

import dataclasses
from collections import OrderedDict, defaultdict, deque
from datetime import date
from decimal import Decimal
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_parallel_provider.foreign import calls
from airflow_parallel_provider.foreign.shown import full_text, shown, text_of
from tests.support.given import quick
from tests.support.liars import RELEASED, hang, leave, liar


@dataclasses.dataclass
class Flight:
    id: int
    legs: Any = ()


class Delay(NamedTuple):
    minutes: float


class Named(list[Any]):
    pass


class Titled:
    def __repr__(self) -> str:
        return "a title\x00"


_printable = st.text(st.characters(categories=("L", "N"), max_codepoint=0x7F), max_size=8)
_hashable = st.none() | st.booleans() | st.integers() | st.floats() | _printable | st.binary(max_size=8)
_values = st.recursive(
    _hashable,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.lists(inner, max_size=3).map(deque)
        | st.dictionaries(_hashable, inner, max_size=3)
        | st.sets(_hashable, max_size=3)
        | st.frozensets(_hashable, max_size=3)
    ),
    max_leaves=10,
)


@quick
@given(_values)
def test_built_in_values_are_shown_as_repr_shows_them(value: Any) -> None:
    assert shown(value, 10_000) == repr(value)


@pytest.mark.parametrize(
    "value",
    [
        Flight(1, [Delay(0.5)]), Named([1]), defaultdict(int), date(2013, 1, 31), Decimal("1.5"), range(3), {}, set(),
        (1,), Flight, KeyError("a"),
    ],
    ids=str,
)  # fmt: skip
def test_others_are_shown_as_their_class_says(value: Any) -> None:
    expected = "defaultdict({})" if isinstance(value, defaultdict) else repr(value)

    assert shown(value, 1000) == expected


def test_ordered_dicts_are_shown_as_dicts() -> None:
    assert shown(OrderedDict(a=1), 100) == "OrderedDict({'a': 1})"


def test_text_stays_short_and_clean() -> None:
    assert shown("x" * 10**6, 50) == "'" + "x" * 48 + "…"
    assert shown(Titled(), 50) == "a title\\x00"
    assert text_of("as it is", 50) == "as it is"


# repr() of this takes longer than anybody has: it has 2 ** 60 parts.
@pytest.mark.parametrize("wrap", [list, tuple, deque, Flight, lambda parts: {"a": parts[0], "b": parts[1]}])
def test_shared_parts_are_not_followed_without_end(wrap: Any) -> None:
    value: Any = 1
    for _ in range(60):
        value = wrap([value, value]) if wrap is not Flight else Flight(0, [value, value])

    assert len(shown(value, 200)) == 200
    assert len(text_of(ValueError(value), 200)) == 200


def test_a_value_that_contains_itself_ends() -> None:
    knot: dict[str, Any] = {}
    knot["self"] = knot

    assert shown(knot, 100) == "{'self': ...}"


def test_very_long_numbers_are_not_written() -> None:
    assert shown(10**10_000, 100) == "<int of 33220 bits>"


def test_a_class_that_hangs_is_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls, "SECONDS", 0.2)
    monkeypatch.setattr(calls, "_hung", {})
    RELEASED.clear()
    asked: list[int] = []

    def slow() -> None:
        asked.append(1)
        hang()

    kind = liar("__repr__", slow)
    try:
        assert shown(kind(), 100) == "<Liar that cannot be shown>"
        assert shown([kind(), 2], 100) == "[<Liar>, 2]"
    finally:
        RELEASED.set()
    assert asked == [1]


def test_a_class_that_exits_is_named_and_the_rest_is_shown() -> None:
    assert shown([1, liar("__repr__", leave)(), 2], 100) == "[1, <Liar whose repr raises>, 2]"


# It is part of the identity of a load, which a retry compares with that of an older version.
@quick
@given(_values)
def test_the_full_text_is_that_of_repr(value: Any) -> None:
    assert full_text(value) == repr(value)
    assert full_text(OrderedDict(a=value)) == repr(OrderedDict(a=value))
    assert full_text(Flight(1, value)) == repr(Flight(1, value))


def test_a_full_text_that_cannot_be_had_is_the_classes_name() -> None:
    assert full_text(liar("__repr__", leave)()) == "<Liar whose repr raises>"
