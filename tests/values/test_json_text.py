"""JSON text: numbers digit for digit, keys once."""

from __future__ import annotations

import copy
import json
import pickle
from collections import UserDict
from decimal import Decimal
from enum import Enum
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_parallel_provider.rows.block import to_block
from airflow_parallel_provider.rows.fit import fit_block
from airflow_parallel_provider.values import json_text, typed_json
from airflow_parallel_provider.values.convert import CONVERTERS, ConversionError, to_json
from airflow_parallel_provider.values.json_text import JsonNumber, JsonText, dumps, loads, text_of
from airflow_parallel_provider.values.kinds import Kind
from airflow_parallel_provider.values.table_shape import TableColumn, TableShape
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


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ('{"v": 1, "v": 2}', "an object has the key 'v' twice"),
        ('[{"v": 1}, {"v": 1, "v": 2}]', r"at \[1\]: an object has the key 'v' twice"),
        (
            f'{{"a": {{"b": [[], {{"c": {"7" * 5_000}}}]}}}}',
            r"at a\.b\[1\]\.c: a whole number has more than 4,300 digits",
        ),
        (f'{{"a": 1e{"9" * 30}}}', "at a: a number has an exponent"),
        (f'[{"7" * 5_000}, {{"v": 1, "v": 2}}]', r"at \[0\]: a whole number"),
        ("[" * 900 + '{"v": 1, "v": 2}' + "]" * 900, r"at (\[0\]){66}\[0: an object"),
    ],
)
def test_error_says_where(text: str, place: str) -> None:
    with pytest.raises(ValueError, match=f"^{place}"):
        loads(text)


def test_number_with_an_endless_exponent_is_refused() -> None:
    with pytest.raises(ValueError, match="exponent"):
        loads("1e" + "9" * 30)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (LONG, True),
        ("9007199254740993.0", True),  # a float holds ...992
        ("9007199254740.993", True),  # the float is written as ...992
        ("1234567890123456789E5", True),
        ("0.1234567890123456789", False),  # of a measurement or a calculation
        ("0.10000000000000001", False),  # 0.1, as C writes it with 17 digits
        ("1e400", False),
        ("1.7976931348623157081e308", False),
        ("4.9e-325", False),
    ],
)
def test_long_number_wants_decimals_if_few_of_its_digits_are_a_fraction(text: str, wanted: bool) -> None:
    assert JsonNumber(text).wants_decimals is wanted
    if wanted:
        with pytest.raises(ConversionError, match="more digits than a float holds"):
            CONVERTERS[Kind.FLOAT][JsonNumber](JsonNumber(text))


@quick
@given(st.floats(allow_nan=False, allow_infinity=False))
def test_what_was_written_from_a_float_wants_none(number: float) -> None:
    """With any number of digits: Python writes the shortest text, C up to 17 digits."""
    for text in (repr(number), f"{number:.17g}", f"{number:.16e}"):
        assert not JsonNumber(text).wants_decimals


def test_whole_number_of_too_many_digits_is_refused() -> None:
    with pytest.raises(ValueError, match="a whole number has more than 4,300 digits: have it written as a text"):
        loads("1" * 5_000)


@pytest.mark.parametrize(
    ("content", "charset"),
    [
        ("ë".encode(), None),
        ("ë".encode(), "no-such-charset"),
        ("ë".encode(), "zlib"),
        ("ë".encode("latin-1"), "latin-1"),
        ('"ë"'.encode("utf-16-be"), "utf-8"),
        ("\ufeffë".encode(), "latin-1"),
        ("\ufeffë".encode("gb18030"), "gb18030"),  # a mark that only this charset knows
    ],
)
def test_text_of_bytes(content: bytes, charset: str | None) -> None:
    assert text_of(content, charset).strip('"') == "ë"


def test_json_text_survives_copies_processes_and_dead_letters() -> None:
    value = JsonText("null")

    for other in (copy.deepcopy([value])[0], pickle.loads(pickle.dumps(value))):
        assert (type(other), str(other)) == (JsonText, "null")
    text, exact = typed_json.dumps({"v": [value, None]}, 1000)
    assert exact
    assert [type(each) for each in typed_json.loads(text)["v"]] == [JsonText, type(None)]


def test_json_text_inside_other_json_stands_there_as_it_is() -> None:
    assert dumps({"a": JsonText('{"n": 1.10,\n"n": 2}')}, json.dumps) == '{"a": {"n": 1.10, "n": 2}}'
    with pytest.raises(ValueError, match="Expecting value"):
        dumps([JsonText("no")], json.dumps)


def test_value_of_a_json_text_loses_nothing() -> None:
    assert JsonText(f"[{LONG}]").value[0].decimal == Decimal(LONG)
    with pytest.raises(ValueError, match="the key 'a' twice"):
        JsonText('{"a": 1, "a": 2}').value  # noqa: B018


class Prices(Enum):
    KNOWN = JsonText("[1.10]")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (MappingProxyType({"a": JsonNumber(LONG), "b": JsonText('{"n":1.10}')}), f'{{"a": {LONG}, "b": {{"n":1.10}}}}'),
        ([UserDict(a=JsonNumber(LONG))], f'[{{"a": {LONG}}}]'),
        ({JsonNumber(LONG): 1}, f'{{"{LONG}": 1}}'),
        ({"a": Prices.KNOWN}, '{"a": [1.10]}'),
    ],
    ids=["a mapping", "within a list", "a key", "an enum"],
)
def test_numbers_and_texts_stay_exact_wherever_they_are(value: Any, text: str) -> None:
    """Within another mapping than a dict a number was rounded, and a text of JSON became a text in JSON."""
    assert to_json(value) == text


def test_a_column_that_rounds_is_told_once(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """Digits of long fractions were lost in silence. One with 17 digits may be of a float, which loses none."""
    monkeypatch.setattr(json_text, "_told", set())
    shape = TableShape("prices", None, (TableColumn("a", Kind.FLOAT, None), TableColumn("b", Kind.FLOAT, None)))
    rows = [{"a": JsonNumber("0.1234567890123456789"), "b": JsonNumber("0.10000000000000001")}]

    for chunk in ("first", "second"):
        assert fit_block(to_block(rows), shape, {}, chunk) == [(0.12345678901234568, 0.1)]

    (told,) = caplog.messages
    assert told.startswith("table 'prices', column 'a': numbers of JSON with more digits than a float holds")
