"""Values of rows as columns of Parquet."""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from typing import Any

import pytest

from airflow_parallel_provider.errors import SchemaMismatch
from airflow_parallel_provider.sinks.files.parquet_values import array
from airflow_parallel_provider.values.json_text import JsonNumber
from airflow_parallel_provider.values.unreadable import Unreadable

LONG, FRACTION = JsonNumber("12345678901234567.89"), JsonNumber("0.1234567890123456789")


def test_numbers_of_json_are_decimals_if_they_must_be() -> None:
    assert array([1.5, LONG, None], "x", None).to_pylist() == [Decimal("1.5"), Decimal(str(LONG)), None]
    assert array([1.5, FRACTION], "x", None).to_pylist() == [1.5, float(FRACTION)]


@pytest.mark.parametrize(("number", "problem"), [(LONG, "more digits"), (JsonNumber("1e400"), "beyond the range")])
def test_floats_of_earlier_parts_take_no_number_that_they_would_change(number: JsonNumber, problem: str) -> None:
    import pyarrow as pa

    with pytest.raises(SchemaMismatch, match=rf"x: a number .*{problem}.* a Decimal in a stage, in all rows"):
        array([1.5, number], "x", pa.float64())


@pytest.mark.parametrize("values", [["x", b"y"], [1.5, True], [date(2026, 1, 1), datetime(2026, 1, 1)]])  # noqa: DTZ001
def test_never_makes_one_type_of_two(values: list[Any]) -> None:
    """Arrow would: of a text bytes, of true the number 1, of a moment its date."""
    with pytest.raises(SchemaMismatch, match=r"x cannot be written \("):
        array(values, "x", None)


def test_value_that_was_not_read_says_why() -> None:
    with pytest.raises(SchemaMismatch, match=r"^x: infinity, read from column 'x' of row 3"):
        array([1, Unreadable("infinity", "column 'x' of row 3")], "x", None)
