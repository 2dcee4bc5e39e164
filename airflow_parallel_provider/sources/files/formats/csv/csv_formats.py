# SPDX-License-Identifier: Apache-2.0
"""Dates, times and numbers of CSV files in notations other than Python's own."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import datetime
from decimal import Decimal
from functools import partial
from typing import Any

_DAY = re.compile(r"%[djUuVwWGyYmbBaAxc]")
_CLOCK = re.compile(r"%[HIMSfpXczZ]")
_SPACES = (" ", "\u00a0", "\u202f")
"""What separates thousands where people write a space."""


def checked_format(column: str, given: Any) -> Any:
    """A format of a column, as an author gave it: a text of ``strptime``, a dict for numbers, or a function.

    :raises TypeError: for what is none; also ValueError.
    """
    if callable(given):
        return given
    if isinstance(given, str):
        if not (_DAY.search(given) or _CLOCK.search(given)):
            raise ValueError(f"the format of {column!r} has nothing like %d or %H in it")
        try:
            datetime.strptime("", given)  # noqa: DTZ007
        except ValueError as error:
            if "bad directive" in str(error) or "stray" in str(error):
                raise ValueError(f"the format of {column!r} is not one of strptime ({error})") from None
        return given
    if not isinstance(given, Mapping) or not given or set(given) - {"decimal", "thousands"}:
        raise TypeError(
            f"the format of {column!r} is a text such as '%d.%m.%Y', a dict such as {{'decimal': ',', 'thousands': "
            "'.'}, or a function"
        )
    marks = {"decimal": ".", "thousands": None, **given}
    for name, mark in marks.items():
        if mark is not None and (not isinstance(mark, str) or len(mark) != 1 or mark.isalnum() or mark in "+-"):
            raise ValueError(f"{name} of {column!r} is one character, such as ','")
    if marks["decimal"] is None or marks["decimal"] == marks["thousands"]:
        raise ValueError(f"decimal and thousands of {column!r} are two characters")
    return marks


def converter(nulls: frozenset[str], given: Any) -> Callable[[Any], Any]:
    """The function that makes a value of a text; it raises ValueError with the reason.

    :param nulls: texts that stand for NULL.
    :param given: the format, checked; None: the text is the value.
    """
    convert = _converter(given)

    def value_of(text: Any) -> Any:
        if not isinstance(text, str):  # csv.reader has made a number of it, or it stands for a missing field
            return text
        if text in nulls:
            return None
        return text if convert is None else convert(text)

    return value_of


def _converter(given: Any) -> Callable[[str], Any] | None:
    if given is None or callable(given):
        return given  # type: ignore[no-any-return]
    if isinstance(given, str):
        return partial(_moment, given, has_day=_DAY.search(given) is not None, has_clock=bool(_CLOCK.search(given)))
    return partial(_number, _pattern(given["decimal"], given["thousands"]), given["decimal"], given["thousands"])


def _moment(form: str, text: str, *, has_day: bool, has_clock: bool) -> Any:
    try:
        found = datetime.strptime(text.strip(), form)  # noqa: DTZ007  # the format says whether there is a zone
    except ValueError:
        raise ValueError(f"it does not have the format {form!r}") from None
    if not has_clock:
        return found.date()
    return found if has_day else found.timetz()


def _pattern(decimal: str, thousands: str | None) -> re.Pattern[str]:
    whole = r"\d+"
    if thousands is not None:
        mark = f"[{''.join(_SPACES)}]" if thousands in _SPACES else re.escape(thousands)
        whole = rf"(?:\d{{1,3}}(?:{mark}\d{{2,3}})*{mark}\d{{3}}|\d+)"  # in India groups of two
    point = re.escape(decimal)
    return re.compile(rf"[+-]?(?:{whole}(?:{point}\d*)?|{point}\d+)(?:[eE][+-]?\d+)?", re.ASCII)


def _number(pattern: re.Pattern[str], decimal: str, thousands: str | None, text: str) -> Decimal:
    text = text.strip()
    if not pattern.fullmatch(text):
        by = f" and {thousands!r} between thousands" if thousands is not None else ""
        raise ValueError(f"it is not a number with {decimal!r} as decimal mark{by}")
    for mark in _SPACES if thousands in _SPACES else (thousands or "",):
        text = text.replace(mark, "")
    return Decimal(text.replace(decimal, "."))
