"""What a column's type reads in a text, and what it refuses."""

from __future__ import annotations

from datetime import UTC, date, datetime, time
from decimal import Decimal
from math import inf, isnan
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_parallel_provider.rows.texts.notations import from_text
from airflow_parallel_provider.values.convert import ConversionError
from airflow_parallel_provider.values.kinds import Kind
from tests.support.given import quick

READ: list[tuple[Kind, str, Any]] = [
    (Kind.INT, "12", 12),
    (Kind.INT, " -7\t", -7),
    (Kind.INT, "+7", 7),
    (Kind.INT, "007", 7),
    (Kind.INT, "3.0", 3),
    (Kind.INT, "1e3", 1000),
    (Kind.INT, "9223372036854775807", 2**63 - 1),
    (Kind.HUGEINT, "1" * 38, int("1" * 38)),
    (Kind.DECIMAL, "1.50", Decimal("1.50")),
    (Kind.DECIMAL, "-.5", Decimal("-0.5")),
    (Kind.DECIMAL, "12345678901234567.89", Decimal("12345678901234567.89")),
    (Kind.FLOAT, "0.1", 0.1),
    (Kind.FLOAT, "1e-7", 1e-7),
    (Kind.FLOAT, "-Infinity", -inf),
    (Kind.BOOL, "TRUE", True),
    (Kind.BOOL, "no", False),
    (Kind.BOOL, "0", False),
    (Kind.DATE, "2026-12-01", date(2026, 12, 1)),
    (Kind.DATETIME, "2026-12-01T10:00:00", datetime(2026, 12, 1, 10)),  # noqa: DTZ001
    (Kind.DATETIMETZ, "2026-12-01 10:00:00+02:00", datetime(2026, 12, 1, 8, tzinfo=UTC)),
    (Kind.TIME, "10:00", time(10)),
    (Kind.UUID, "7d7df6ad-9d3a-4ab4-a3a1-7a6b0a5d9f0e", UUID("7d7df6ad-9d3a-4ab4-a3a1-7a6b0a5d9f0e")),
    (Kind.JSON, '{"a": 1}', '{"a": 1}'),
]


@pytest.mark.parametrize(("kind", "text", "value"), READ)
def test_values_in_the_usual_notations(kind: Kind, text: str, value: Any) -> None:
    convert = from_text(kind)
    assert convert is not None
    found = convert(text)
    assert (found, type(found) in (type(value), str, *type(found).__mro__)) == (value, True)
    assert str(found) == str(value)  # 1.50 is not 1.5


def test_not_a_number_is_a_float() -> None:
    convert = from_text(Kind.FLOAT)
    assert convert is not None
    assert isnan(convert("NaN"))


REFUSED = [
    (Kind.INT, "1_000"),
    (Kind.INT, "1,000"),
    (Kind.INT, "0x1F"),
    (Kind.INT, "\uff11\uff12"),  # digits of another script
    (Kind.INT, "3.5"),
    (Kind.INT, "1 2"),
    (Kind.INT, "NULL"),
    (Kind.INT, "1e999"),
    (Kind.INT, "1" * 5000),
    (Kind.DECIMAL, "1,50"),
    (Kind.DECIMAL, "NaN"),
    (Kind.DECIMAL, "1e99999"),
    (Kind.FLOAT, "1.2.3"),
    (Kind.FLOAT, "1e400"),
    (Kind.FLOAT, "12345678901234567.89"),
    (Kind.FLOAT, "."),
    (Kind.BOOL, "2"),
    (Kind.BOOL, "ja"),
    (Kind.DATE, "01.12.2026"),
    (Kind.DATE, "2026-02-30"),
    (Kind.DATE, "infinity"),
    (Kind.DATETIME, "now"),
    (Kind.UUID, "7d7df6ad"),
    (Kind.JSON, "nothing"),
]


@pytest.mark.parametrize(("kind", "text"), REFUSED)
def test_nothing_is_guessed(kind: Kind, text: str) -> None:
    convert = from_text(kind)
    assert convert is not None
    with pytest.raises(ConversionError) as caught:
        convert(text)
    assert text not in str(caught.value)


@pytest.mark.parametrize("kind", [kind for kind in Kind if from_text(kind) is not None])
@pytest.mark.parametrize("text", ["", "  "])
def test_an_empty_text_is_null(kind: Kind, text: str) -> None:
    convert = from_text(kind)
    assert convert is not None
    assert convert(text) is None


def test_booleans_of_mysql_are_small_numbers() -> None:
    convert = from_text(Kind.INT, bits=8)
    assert convert is not None
    assert [convert(text) for text in ("true", "No", "1", "17", "")] == [1, 0, 1, 17, None]
    with pytest.raises(ConversionError):
        convert("maybe")


def test_texts_and_bytes_are_taken_as_always() -> None:
    assert from_text(Kind.TEXT) is from_text(Kind.BYTES) is from_text(Kind.OTHER) is None


def test_json_with_a_key_twice_where_one_would_be_lost() -> None:
    convert = from_text(Kind.JSON, unique_keys=True)
    assert convert is not None
    assert convert("") is None
    with pytest.raises(ConversionError, match="twice"):
        convert('{"a": 1, "a": 2}')


@quick
@given(st.one_of(st.integers(-(2**63), 2**63 - 1), st.decimals(allow_nan=False, allow_infinity=False), st.floats()))
def test_what_python_writes_is_read(value: Any) -> None:
    kind = {int: Kind.INT, Decimal: Kind.DECIMAL, float: Kind.FLOAT}[type(value)]
    convert = from_text(kind)
    assert convert is not None
    try:
        found = convert(str(value))
    except ConversionError:
        assert abs(value.adjusted()) > 999  # an exponent of more than three digits
        return
    assert found == value or value != value  # NaN
