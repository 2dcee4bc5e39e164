# SPDX-License-Identifier: Apache-2.0
"""Values that are written as texts, as in CSV, whose columns have no types: what a column's type reads in them.

Numbers are ASCII digits with a sign, a point and an exponent, as Python, JSON and every database write them. Spaces
around a value do not count. Nothing else is guessed: not a comma for the point, not another order of day and month.
Dates, times, UUIDs and JSON have the converters of :mod:`~airflow_parallel_provider.values.convert`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final

from airflow_parallel_provider.values.convert import CONVERTERS, UNIQUE_KEYS, ConversionError, Converter
from airflow_parallel_provider.values.json_text import JsonNumber
from airflow_parallel_provider.values.kinds import Kind

SPACES: Final = " \t"
"""What does not count around a value."""

_WHOLE = re.compile(r"[+-]?[0-9]{1,100}")
_NUMBER = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]{1,4})?")
_NOT_FINITE = {
    sign + word: float(sign + word) for sign in ("", "+", "-") for word in ("nan", "inf", "infinity")
}  # fmt: skip

TRUE: Final = frozenset({"true", "t", "yes", "y", "on", "1"})
FALSE: Final = frozenset({"false", "f", "no", "n", "off", "0"})
"""The texts that PostgreSQL takes for booleans, in lower case."""

_ALWAYS_EXACT = 15
"""A float gives back so many digits."""

_int_of = CONVERTERS[Kind.INT][Decimal]
_float_of = CONVERTERS[Kind.FLOAT][JsonNumber]


def _stripped(convert: Converter) -> Converter:
    """A converter that takes an empty text for NULL: it has no other meaning in a column that is not of texts."""

    def of_text(text: str) -> Any:
        plain = text.strip(SPACES)
        return convert(plain) if plain else None

    return of_text


def _bool(text: str) -> bool:
    word = text.lower()
    if word in TRUE:
        return True
    if word in FALSE:
        return False
    raise ConversionError("a text that is not true or false")


def _whole(text: str) -> int:
    if _WHOLE.fullmatch(text):
        return int(text)
    return _int_of(_number(text, "a whole number"))  # type: ignore[no-any-return]  # 3.0 is one


def _whole_or_bool(text: str) -> int:
    """Of a column that MySQL makes for booleans, which holds 0 and 1."""
    word = text.lower()
    return int(_bool(word)) if word.isalpha() and word in TRUE | FALSE else _whole(text)


def _number(text: str, what: str) -> Decimal:
    if _NUMBER.fullmatch(text):
        return Decimal(text)
    raise ConversionError(f"a text that is not {what}")


def _decimal(text: str) -> Decimal:
    return _number(text, "a number")


def _float(text: str) -> float:
    if _NUMBER.fullmatch(text):
        if len(text) <= _ALWAYS_EXACT and "e" not in text.lower():
            return float(text)
        return _float_of(JsonNumber(text))  # type: ignore[no-any-return]  # which is a text, too: one rule for both
    try:
        return _NOT_FINITE[text.lower()]
    except KeyError:
        raise ConversionError("a text that is not a number") from None


def _same(kind: Kind) -> Converter:
    return _stripped(CONVERTERS[kind][str])


_FROM_TEXT: Final[Mapping[Kind, Converter]] = {
    Kind.BOOL: _stripped(_bool),
    Kind.INT: _stripped(_whole),
    Kind.HUGEINT: _stripped(_whole),
    Kind.FLOAT: _stripped(_float),
    Kind.DECIMAL: _stripped(_decimal),
    Kind.DATE: _same(Kind.DATE),
    Kind.DATETIME: _same(Kind.DATETIME),
    Kind.DATETIMETZ: _same(Kind.DATETIMETZ),
    Kind.TIME: _same(Kind.TIME),
    Kind.UUID: _same(Kind.UUID),
    Kind.JSON: _same(Kind.JSON),
}
_OF_UNIQUE_KEYS = _stripped(UNIQUE_KEYS[str])
_OF_8_BITS = _stripped(_whole_or_bool)


def from_text(kind: Kind, *, bits: int = 64, unique_keys: bool = False) -> Converter | None:
    """The converter of texts for a kind of column; None: the kind takes texts as it always does.

    :param bits: of whole numbers, as ``TableColumn`` has it, and ``unique_keys`` of JSON.
    """
    if unique_keys:
        return _OF_UNIQUE_KEYS
    return _OF_8_BITS if kind is Kind.INT and bits == 8 else _FROM_TEXT.get(kind)
