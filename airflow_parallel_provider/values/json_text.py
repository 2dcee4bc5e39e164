"""JSON text -> values and back, without changing a number or losing one of two fields of the same name."""

from __future__ import annotations

import codecs
import contextlib
import json
import re
from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from typing import Any, ClassVar, Self
from uuid import uuid4

_ALWAYS_EXACT = 16
"""A number of so few characters, without an exponent, has at most 15 digits: a float gives them all back."""

_DIGITS_OF_FLOATS = 17
"""Digits that tell any two floats apart. A number with more of them was not written from a float."""

_DIGITS_AFTER_POINT = 10
"""Digits after the point that a new column of decimals keeps on every database."""


class JsonNumber(float):
    """A number of JSON that a float cannot give back as it is written.

    It is a float for everyone who calculates with it. A sink writes it digit for digit into a column of decimals, text
    or JSON, and as the nearest float into a column of floats. ``str()`` gives the text.
    """

    __slots__ = ("text",)

    exist: ClassVar[bool] = False
    """Whether this process has made one: only then JSON that is written must be searched for them."""

    text: str

    def __new__(cls, text: str) -> Self:
        """Make a number of its text."""
        self = super().__new__(cls, text)
        self.text = text
        JsonNumber.exist = True
        return self

    def __repr__(self) -> str:
        """The text."""
        return self.text

    __str__ = __repr__

    def __reduce__(self) -> tuple[Any, ...]:
        """As its text."""
        return JsonNumber, (self.text,)

    @property
    def decimal(self) -> Decimal:
        """The exact number."""
        return Decimal(self.text)

    @property
    def wants_decimals(self) -> bool:
        """Whether a new column for it should hold decimals: more digits than a float has, few of them after the point.

        A long fraction (``0.1234567890123456789``) rather comes from a measurement or a calculation.
        """
        _, digits, exponent = self.decimal.as_tuple()
        return len(digits) > _DIGITS_OF_FLOATS and isinstance(exponent, int) and -_DIGITS_AFTER_POINT <= exponent <= 0


def loads(text: str) -> Any:
    """The value of a JSON text.

    :raises ValueError: if it is not JSON, or an object names a key twice: all values but the last would be lost.
    """
    return _decode(text)


def text_of(content: bytes, charset: str | None = None) -> str:
    """The text of JSON in bytes: UTF-8, UTF-16 or UTF-32, with or without a byte-order mark.

    :param charset: what its sender says; believed if there is no byte-order mark and Python knows the name.
    :raises UnicodeDecodeError: if it cannot be decoded.
    """
    marked = content.startswith((codecs.BOM_UTF8, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))  # those of UTF-32, too
    encoding: str = json.detect_encoding(content)
    if charset is not None and not marked:
        with contextlib.suppress(LookupError):
            encoding = codecs.lookup(charset).name
    return content.decode(encoding).removeprefix("\ufeff")


def dumps(value: Any, encode: Callable[[Any], str]) -> str:
    """JSON text of a value; each :class:`JsonNumber` in it is written digit for digit.

    :param encode: makes JSON of values without such numbers.
    """
    if not JsonNumber.exist:
        return encode(value)
    numbers: list[str] = []
    marked = _marked(value, numbers)
    return encode(value) if not numbers else _MARK.sub(lambda found: numbers[int(found[1])], encode(marked))


_TOKEN = uuid4().hex
_MARK = re.compile(f'"{_TOKEN}-([0-9]+)"')


def _marked(value: Any, numbers: list[str]) -> Any:
    """A copy with a text in the place of each number, since the encoder of the standard library cannot be told."""
    if isinstance(value, JsonNumber):
        numbers.append(value.text)
        return f"{_TOKEN}-{len(numbers) - 1}"
    if isinstance(value, dict):
        return {key: _marked(each, numbers) for key, each in value.items()}
    return [_marked(each, numbers) for each in value] if isinstance(value, (list, tuple)) else value


def _number(text: str) -> float:
    if len(text) <= _ALWAYS_EXACT and "e" not in text and "E" not in text:
        return float(text)
    value = float(text)
    try:
        exact = Decimal(text) == Decimal(repr(value))
    except InvalidOperation:
        raise ValueError("a number has an exponent that no number type holds") from None
    return value if exact else JsonNumber(text)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for at, key in enumerate(keys) if key in keys[:at])
        raise ValueError(
            f"an object has the key {twice!r} twice, and only one of the two values could be kept: have it written "
            "once, or take the text apart in a stage of your own"
        )
    return made


_decode = json.JSONDecoder(parse_float=_number, object_pairs_hook=_object).decode
