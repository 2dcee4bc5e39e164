# SPDX-License-Identifier: Apache-2.0
"""JSON text -> values and back, without changing a number or losing one of two fields of the same name."""

from __future__ import annotations

import contextlib
import json
import logging
import re
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any, ClassVar, Self
from uuid import uuid4

log = logging.getLogger(__name__)

_ALWAYS_EXACT = 16
"""A number of so few characters, without an exponent, has at most 15 digits: a float gives them all back."""

_DIGITS_OF_FLOATS = 17
"""Digits that tell any two floats apart. A number with more of them was not written from a float."""

_DIGITS_AFTER_POINT, _DIGITS_BEFORE_POINT = 10, 28
"""Digits that a new column of decimals keeps on every database."""


_LONGEST_PLACE = 200
"""Characters of keys in an error text."""


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
    def exceeds_floats(self) -> bool:
        """Whether it was not written from a float: the nearest one has other digits."""
        exact = self.decimal
        digits = exact.as_tuple().digits
        return len(digits) > _DIGITS_OF_FLOATS or Decimal(f"{float(self):.{len(digits) - 1}e}") != exact

    @property
    def wants_decimals(self) -> bool:
        """Whether only a column of decimals keeps it: it was not written from a float, and its fraction is short.

        A long fraction (``0.1234567890123456789``) rather comes from a measurement or a calculation.
        """
        exact = self.decimal
        exponent = exact.as_tuple().exponent
        if not isinstance(exponent, int) or exponent < -_DIGITS_AFTER_POINT or exact.adjusted() >= _DIGITS_BEFORE_POINT:
            return False
        return self.exceeds_floats


class JsonText(str):
    """JSON as a database holds it, digit for digit: what ``SqlSource`` yields for a column of JSON.

    A sink writes it as it stands into a column of JSON, and as a text into a column of text. ``JsonText("null")`` is
    the null of JSON; ``None`` is a column without a value. ``JsonText(json.dumps(text))`` is a text in JSON. Whether it
    is JSON is checked where it is written.
    """

    __slots__ = ()

    exist: ClassVar[bool] = False
    """Whether this process has made one: as in :class:`JsonNumber`."""

    def __new__(cls, text: str) -> Self:
        """Make one of a text, unchecked."""
        JsonText.exist = True
        return super().__new__(cls, text)

    @property
    def value(self) -> Any:
        """The value: a dict, a list, a text, a number, True, False or None. Made anew each time.

        :raises ValueError: if it is not JSON, or an object names a key twice.
        """
        return loads(self)


def tell_rounded(values: Iterable[Any], where: str) -> None:
    """Log, once for each place, that a column of floats takes numbers that it does not hold digit for digit."""
    if where not in _told and any(type(value) is JsonNumber and value.exceeds_floats for value in values):
        _told.add(where)
        log.warning(
            "%s: numbers of JSON with more digits than a float holds are stored as the nearest floats. Declare the "
            "column as decimal or text to keep each digit",
            where,
        )


_told: set[str] = set()


def check(text: str, *, unique_keys: bool = False) -> None:
    """Check that a text is JSON.

    :param unique_keys: also refuse an object that names a key twice.
    :raises ValueError: if it is not.
    """
    try:
        (_check_keys if unique_keys else _check)(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def is_structure(text: str) -> bool:
    """Whether a text, if it is JSON, is an object or an array."""
    return text.lstrip(_BLANKS)[:1] in ("{", "[")


def loads(text: str) -> Any:
    """The value of a JSON text.

    :raises ValueError: if it is not JSON, or an object names a key twice: all values but the last would be lost. It
        says where in the text.
    """
    try:
        return _decode(text)
    except json.JSONDecodeError:
        raise
    except ValueError as error:
        raise ValueError(_with_place(text, str(error), len(text) - len(text.lstrip(_BLANKS)))) from None


def decode_at(text: str, at: int, path: str) -> tuple[Any, int]:
    """The value that begins in a text of JSON, and where it ends.

    :param at: where it begins, without blanks.
    :param path: to the value, for errors.
    :raises ValueError: as :func:`loads` does; ``JSONDecodeError`` where the text ends before the value does.
    """
    try:
        return _decode_part(text, at)
    except json.JSONDecodeError:
        raise
    except ValueError as error:
        raise ValueError(_with_place(text, str(error), at, path)) from None


def text_of(content: bytes, charset: str | None = None) -> str:
    """The text of JSON in bytes: UTF-8, UTF-16 or UTF-32, with or without a byte-order mark.

    :param charset: what its sender says; believed if the bytes do not say otherwise and Python knows the name.
    :raises UnicodeDecodeError: if it cannot be decoded.
    """
    encoding: str = json.detect_encoding(content)
    if (
        charset is not None and encoding == "utf-8"
    ):  # else a byte-order mark, or the NULs of UTF-16 and UTF-32, say more
        with contextlib.suppress(LookupError):  # also of a codec that is not one of texts
            return content.decode(charset).removeprefix("\ufeff")
    return content.decode(encoding)  # it names the codec that skips the mark


def dumps(value: Any, encode: Callable[[Any], str], reduce: Callable[[Any], Any] = lambda value: value) -> str:
    """JSON text of a value; each :class:`JsonNumber` and :class:`JsonText` in it is written as it stands, on one line.

    :param encode: makes JSON of values without these.
    :param reduce: makes of a value that JSON has not one that it has, such as a dict of another mapping.
    :raises ValueError: if a :class:`JsonText` is not JSON.
    """
    if not (JsonNumber.exist or JsonText.exist):
        return encode(value)
    texts: list[str] = []
    marked = _marked(value, texts, reduce)
    text = encode(marked)
    return _MARK.sub(lambda found: texts[int(found[1])], text) if texts else text


_TOKEN = uuid4().hex
_MARK = re.compile(f'"{_TOKEN}-([0-9]+)"')
_SCALARS = frozenset({str, int, float, bool, type(None)})


def _marked(value: Any, texts: list[str], reduce: Callable[[Any], Any]) -> Any:
    """A copy with a mark in the place of each such value, since the encoder of the standard library cannot be told."""
    kind = type(value)
    if kind in _SCALARS:
        return value
    if kind is JsonNumber:
        texts.append(value.text)
    elif isinstance(value, JsonText):
        check(value)
        texts.append(value.translate(_ONE_LINE))
    elif isinstance(value, dict):
        return {_key(key): _marked(each, texts, reduce) for key, each in value.items()}
    elif isinstance(value, (list, tuple)):
        return [_marked(each, texts, reduce) for each in value]
    else:
        reduced = reduce(value)
        return value if type(reduced) is kind else _marked(reduced, texts, reduce)
    return f"{_TOKEN}-{len(texts) - 1}"


def _key(key: Any) -> Any:
    return key.text if type(key) is JsonNumber else key


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
        raise ValueError(named_twice(next(key for at, key in enumerate(keys) if key in keys[:at])))
    return made


def named_twice(key: str) -> str:
    """The error of an object that names a key twice."""
    return (
        f"an object has the key {key!r:.{_LONGEST_PLACE}} twice, and only one of the two values could be kept: have it "
        "written once, or take the text apart in a stage of your own"
    )


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is not JSON")


_BLANKS = " \t\n\r"
_ONE_LINE = str.maketrans("\n\r", "  ")
"""In JSON, line ends are only between values."""

# Numbers stay texts: making them would take longer, and Python refuses integers of very many digits.
_check = json.JSONDecoder(parse_float=str, parse_int=str, parse_constant=_refuse).decode
_check_keys = json.JSONDecoder(parse_float=str, parse_int=str, parse_constant=_refuse, object_pairs_hook=_object).decode


def _whole(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        most = f"{sys.get_int_max_str_digits():,}"
        raise ValueError(f"a whole number has more than {most} digits: have it written as a text") from None


@dataclass(frozen=True, slots=True)
class _Bad:
    """Stands for a value that cannot be read."""

    reason: str


def _or_bad(read: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def reading(given: Any) -> Any:
        try:
            return read(given)
        except ValueError as error:
            return _Bad(str(error))

    return reading


def _with_place(text: str, reason: str, at: int = 0, path: str = "") -> str:
    """The reason of the first value that cannot be read, and its place: ``[17].price``.

    :param at: where the outermost value begins.
    :param path: to it.
    """
    number, whole, pairs = _or_bad(_number), _or_bad(_whole), _or_bad(_object)
    decoder = json.JSONDecoder(parse_float=number, parse_int=whole, object_pairs_hook=pairs)
    open_values: list[tuple[str, Any]] = [(path, decoder.raw_decode(text, at)[0])]
    while open_values:
        place, value = open_values.pop()
        if isinstance(value, _Bad):
            return f"at {place:.{_LONGEST_PLACE}}: {value.reason}" if place else value.reason
        if isinstance(value, dict):
            open_values.extend(
                (f"{place}.{repr(name)[1:-1]}".lstrip("."), each) for name, each in reversed(value.items())
            )
        elif isinstance(value, list):
            open_values.extend((f"{place}[{at}]", each) for at, each in reversed(list(enumerate(value))))
    return reason


_decoder = json.JSONDecoder(parse_float=_number, object_pairs_hook=_object)
_decode, _decode_part = _decoder.decode, _decoder.raw_decode
scan_unchecked = json.JSONDecoder(parse_float=_number).scan_once  # type: ignore[attr-defined]  # typeshed lacks it
"""The value at a place, and its end; of a key that occurs twice it keeps the last. StopIteration: there is none."""
