"""JSON text: numbers digit for digit, keys once."""

from __future__ import annotations

import copy
import json
import pickle
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_parallel_provider.values import typed_json
from airflow_parallel_provider.values.json_text import JsonNumber, dumps, loads
from tests.support.given import quick

LONG = "12345678901234567.89"


@quick
@given(st.decimals(allow_nan=False, allow_infinity=False))
def test_every_number_is_exact(number: Decimal) -> None:
    text = json.dumps(float(number)) if number == number.to_integral_value() else f"{number:E}"
    value = loads(text)

    exact = value.decimal if isinstance(value, JsonNumber) else Decimal(repr(value))
    assert exact == Decimal(text)


@quick
@given(st.floats(allow_nan=False, allow_infinity=False))
def test_what_was_written_from_a_float_is_that_float(number: float) -> None:
    assert type(loads(repr(number))) is float
    assert loads(repr(number)) == number


def test_long_number_is_a_float_that_knows_its_digits() -> None:
    value: Any = loads(f'{{"amount": {LONG}}}')["amount"]

    assert value.decimal == Decimal(str(value)) == Decimal(LONG)
    assert isinstance(value, float)
    assert value == float(LONG)
    assert type(value * 2) is float


def test_long_number_survives_copies_processes_and_dead_letters() -> None:
    value = loads(LONG)

    for other in (copy.deepcopy([value])[0], pickle.loads(pickle.dumps(value))):
        assert (type(other), str(other)) == (JsonNumber, LONG)
    text, exact = typed_json.dumps({"amount": [value]}, 1000)
    assert exact
    assert str(typed_json.loads(text)["amount"][0]) == LONG


@pytest.mark.parametrize("text", ["1e400", "-1e400", "1e-400", "4.9e-325", "9007199254740993.0", "0.10000000000000001"])
def test_number_beyond_a_float_is_kept(text: str) -> None:
    assert loads(text).decimal == Decimal(text)


def test_written_digit_for_digit() -> None:
    text = f'{{"a": [{LONG}, 1.5, "x", null], "b": {{"c": 0.1234567890123456789}}}}'

    assert dumps(loads(text), json.dumps) == text
    assert dumps(1.5, json.dumps) == "1.5"


@pytest.mark.parametrize("text", ['{"v": 1, "v": 2}', '[{"a": {"v": 1, "b": 2, "v": 1}}]'])
def test_key_that_is_there_twice_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="the key 'v' twice"):
        loads(text)


def test_number_with_an_endless_exponent_is_refused() -> None:
    with pytest.raises(ValueError, match="exponent"):
        loads("1e" + "9" * 30)


def test_long_number_wants_decimals_if_few_of_its_digits_are_a_fraction() -> None:
    texts = (LONG, "0.1234567890123456789", "0.10000000000000001")

    assert [text for text in texts if JsonNumber(text).wants_decimals] == [LONG]
