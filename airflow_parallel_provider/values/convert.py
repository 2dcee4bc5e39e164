# SPDX-License-Identifier: Apache-2.0
"""Conversion of a plain value into a value of a column's kind, without loss.

The rule: a value is written when reading it back can give the same value, else it is refused with the reason. So
``3.0`` fits an integer column and ``3.5`` does not, a UUID fits a text column, ``"12"`` does not fit an integer column.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from operator import attrgetter
from typing import Any, Final
from uuid import UUID

from airflow_parallel_provider.values import json_text
from airflow_parallel_provider.values.intervals import DayTime, Interval
from airflow_parallel_provider.values.json_text import JsonNumber, JsonText
from airflow_parallel_provider.values.kinds import Kind
from airflow_parallel_provider.values.plain import plain

Converter = Callable[[Any], Any]


class ConversionError(ValueError):  # a caller of the package only sees SchemaMismatch
    """A value does not fit a column. The text is the reason, and never holds the value."""


_GREATEST, _MOST_DIGITS = int(sys.float_info.max), 100
"""An integer of more digits is refused before Python computes it."""


def unchanged(value: Any) -> Any:
    """The value itself. A column whose values all use this converter is not converted at all."""
    return value


def _bool_from_int(value: int) -> bool:
    if value in (0, 1):
        return bool(value)
    raise ConversionError("an integer other than 0 and 1")


def _int_from_float(value: float) -> int | None:
    if math.isnan(value):
        return None  # an integer column of a DataFrame with gaps is a float column full of NaN
    if value.is_integer():
        return int(value)
    raise ConversionError("a float with a fraction" if math.isfinite(value) else "an infinite float")


def _int_from_decimal(value: Decimal) -> int | None:
    if value.is_nan():
        return None
    if not value.is_finite():
        raise ConversionError("an infinite Decimal")
    if value.adjusted() > _MOST_DIGITS:  # int(Decimal("1E+999999999")) would not return
        raise ConversionError("an integer beyond 64 bit")
    if value == value.to_integral_value():
        return int(value)
    raise ConversionError("a Decimal with a fraction")


def _float_from_int(value: int) -> float:
    if -(2**53) <= value <= 2**53 or (-_GREATEST <= value <= _GREATEST and float(value) == value):
        return float(value)
    raise ConversionError("an integer beyond 2**53, which a float cannot hold exactly")


def _float_from_decimal(value: Decimal) -> float:
    close = float(value)
    if not value.is_finite() or Decimal(repr(close)) == value:
        return close
    raise ConversionError("a Decimal with more digits than a float holds")


def _float_from_json(value: JsonNumber) -> float:
    if math.isinf(value):
        raise ConversionError("a number beyond the range of a float")
    if value.wants_decimals:
        raise ConversionError("a number with more digits than a float holds")
    return float(value)


def _decimal_from_float(value: float) -> Decimal | None:
    if math.isnan(value):
        return None
    if math.isinf(value):
        raise ConversionError("an infinite float")
    return Decimal(repr(value))


def _float_from_timedelta(value: timedelta) -> float:
    seconds = value / timedelta(seconds=1)
    if timedelta(seconds=seconds) != value:
        raise ConversionError("a timedelta with more digits than a float holds")
    return seconds


def _decimal_from_timedelta(value: timedelta) -> Decimal:
    return Decimal(value // timedelta(microseconds=1)).scaleb(-6)


def _int_from_timedelta(value: timedelta) -> int:
    if value.microseconds:
        raise ConversionError("a timedelta with a fraction of a second")
    return value // timedelta(seconds=1)


def _iso(value: date | datetime | time) -> str:
    return value.isoformat()


def _datetime_from_date(value: date) -> datetime:
    return datetime(value.year, value.month, value.day)  # noqa: DTZ001  # the column has no time zone


def _aware_from_date(value: date) -> datetime:
    return datetime(value.year, value.month, value.day, tzinfo=UTC)


def to_naive(value: datetime) -> datetime:
    """A value for a column without a time zone: an aware one in UTC, a naive one unchanged."""
    return value if value.tzinfo is None else value.astimezone(UTC).replace(tzinfo=None)


def to_aware(value: datetime) -> datetime:
    """A value for a column with a time zone, in UTC: so is a naive one."""
    return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def _naive_time(value: time) -> time:
    if value.tzinfo is not None:
        raise ConversionError("a time of day with a time zone")
    return value


def _without_overflow(shift: Callable[[datetime], datetime]) -> Converter:
    def convert(value: datetime) -> datetime:
        try:
            return shift(value)
        except OverflowError:
            raise ConversionError("a time at the end of the calendar, which has no counterpart in UTC") from None

    return convert


def _parser(parse: Converter, what: str) -> Converter:
    def parse_text(value: str) -> Any:
        try:
            return parse(value)
        except (ValueError, OverflowError):
            raise ConversionError(f"a text that is not {what}") from None

    return parse_text


def to_json(value: Any) -> str:
    """A dict, list, scalar or :class:`JsonText` as JSON text.

    Keys that are numbers, booleans or None become texts, as in the standard library.

    :raises ConversionError: for values that JSON does not have (NaN, bytes, a set, keys of other types ...).
    """
    if type(value) is JsonText:
        return str(value)
    try:
        return json_text.dumps(value, _encode, plain)
    except ConversionError:
        raise
    except json.JSONDecodeError:
        raise ConversionError("a JsonText that is not JSON") from None
    except RecursionError:
        raise ConversionError("a structure nested too deeply for JSON, or one that contains itself") from None
    except (TypeError, ValueError) as error:
        # Not the text of the error: "Out of range float values are not JSON compliant" may end with the value.
        if isinstance(error, TypeError):
            raise ConversionError("a dict with keys that are neither texts nor numbers") from None
        reason = (
            "a structure that contains itself" if "Circular" in str(error) else "a NaN or an infinite float in JSON"
        )
        raise ConversionError(reason) from None


def _json_checker(*, unique_keys: bool) -> Converter:
    def check(value: str) -> str:
        try:
            json_text.check(value, unique_keys=unique_keys)
        except json.JSONDecodeError:
            raise ConversionError("a text that is not JSON") from None
        except ValueError as error:
            # Not the text of the error: it may name a key.
            twice = "JSON with a key that an object has twice, of which it keeps one"
            raise ConversionError(twice if "twice" in str(error) else "a text that is not JSON") from None
        return value

    return check


def _json_parser(*, unique_keys: bool) -> Converter:
    check = _json_checker(unique_keys=unique_keys)

    def parse(text: str) -> JsonText:
        if json_text.is_structure(text):
            return JsonText(check(text))
        raise ConversionError(
            "a text that is not an object or array of JSON (give JsonText(text) for other JSON, and "
            "JsonText(json.dumps(text)) for a text in JSON)"
        )

    return parse


def _encode(value: Any) -> str:
    return json.dumps(value, default=_json_default, allow_nan=False, ensure_ascii=False)


def _json_default(value: Any) -> Any:
    reduced = plain(value)
    if type(reduced) is type(value):
        raise ConversionError(f"a {type(value).__qualname__} inside JSON")
    return reduced


CONVERTERS: Final[Mapping[Kind, Mapping[type, Converter]]] = {
    Kind.BOOL: {bool: unchanged, int: _bool_from_int},
    Kind.INT: {
        int: unchanged, bool: int, float: _int_from_float, Decimal: _int_from_decimal, timedelta: _int_from_timedelta,
        DayTime: _int_from_timedelta, JsonNumber: lambda value: _int_from_decimal(value.decimal),
    },
    Kind.FLOAT: {
        float: unchanged, int: _float_from_int, Decimal: _float_from_decimal, timedelta: _float_from_timedelta,
        DayTime: _float_from_timedelta,
        JsonNumber: _float_from_json,
    },
    Kind.DECIMAL: {
        Decimal: unchanged, int: Decimal, float: _decimal_from_float, timedelta: _decimal_from_timedelta,
        DayTime: _decimal_from_timedelta, JsonNumber: attrgetter("decimal"),
    },
    Kind.TEXT: {
        str: unchanged, int: str, float: repr, JsonNumber: str, Decimal: str, UUID: str, date: _iso, datetime: _iso,
        time: _iso, JsonText: str, dict: to_json, list: to_json,
    },
    Kind.BYTES: {bytes: unchanged},
    Kind.DATE: {date: unchanged, str: _parser(date.fromisoformat, "an ISO date")},
    Kind.DATETIME: {
        datetime: _without_overflow(to_naive), date: _datetime_from_date,
        str: _parser(lambda text: to_naive(datetime.fromisoformat(text)), "an ISO date and time"),
    },
    Kind.DATETIMETZ: {
        datetime: _without_overflow(to_aware), date: _aware_from_date,
        str: _parser(lambda text: to_aware(datetime.fromisoformat(text)), "an ISO date and time"),
    },
    Kind.TIME: {
        time: _naive_time, str: _parser(lambda text: _naive_time(time.fromisoformat(text)), "an ISO time of day"),
    },
    Kind.TIMEDELTA: {timedelta: unchanged, DayTime: unchanged, Interval: unchanged},
    Kind.UUID: {UUID: unchanged, str: _parser(UUID, "a UUID")},
    Kind.JSON: {
        dict: unchanged, list: unchanged, bool: unchanged, int: unchanged, float: unchanged, JsonNumber: unchanged,
        str: _json_parser(unique_keys=False), JsonText: _json_checker(unique_keys=False),
    },
    Kind.OTHER: {JsonNumber: attrgetter("decimal"), JsonText: str},
}  # fmt: skip
"""Column kind -> plain type of the value -> its converter. A type that is not here does not fit the kind; a column of
kind OTHER takes all others as they are."""

UNIQUE_KEYS: Final[Mapping[type, Converter]] = {
    str: _json_parser(unique_keys=True), JsonText: _json_checker(unique_keys=True),
}  # fmt: skip
"""The converters for a JSON column that keeps only one of two fields of the same name."""


def integer_range(bits: int, *, unsigned: bool) -> tuple[int, int]:
    """Least and greatest integer of a number of bits."""
    return (0, (1 << bits) - 1) if unsigned else (-(1 << (bits - 1)), (1 << (bits - 1)) - 1)


def within_bits(bits: int, *, unsigned: bool) -> Converter:
    """A converter that refuses an integer beyond a number of bits."""
    least, most = integer_range(bits, unsigned=unsigned)

    def check(value: int) -> int:
        if least <= value <= most:
            return value
        raise ConversionError(f"an integer beyond {bits} bit")

    return check


def within_digits(precision: int, scale: int) -> Converter:
    """A converter that refuses a Decimal that a column would round (MySQL and MariaDB do, with no more than a note)."""
    whole, quantum = precision - scale, Decimal((0, (1,), -scale))

    def check(value: Decimal) -> Decimal:
        if Decimal.same_quantum(value, quantum) and Decimal.adjusted(value) < whole:
            return value  # most values: to look at the digits takes ten times as long
        significant = _significant(value)
        if significant and value.adjusted() >= whole:
            raise ConversionError(f"a Decimal with more than {whole} digits before the point")
        if significant and significant - 1 - value.adjusted() > scale:
            raise ConversionError(f"a Decimal with more than {scale} digits after the point")
        return value

    return check


def within_significant(digits: int) -> Converter:
    """A converter that refuses a Decimal of which a column would keep only the first digits."""

    def check(value: Decimal) -> Decimal:
        if _significant(value) > digits:
            raise ConversionError(f"a Decimal of more than {digits} significant digits")
        return value

    return check


def _significant(value: Decimal) -> int:
    """Number of significant digits. Without arithmetic, which would round to the 28 digits of the context."""
    _, digits, exponent = value.as_tuple()
    if not isinstance(exponent, int):
        raise ConversionError("a Decimal that is not a finite number")
    return len("".join(map(str, digits)).strip("0")) if any(digits) else 0
