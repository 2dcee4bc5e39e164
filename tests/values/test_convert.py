"""Converters: what a column would round or cut off is refused."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from airflow_parallel_provider.values.convert import ConversionError, within_digits
from tests.support.given import quick

DECIMALS = st.decimals(allow_nan=False, allow_infinity=False) | st.decimals(-1000, 1000, places=2)


@quick
@given(DECIMALS, st.integers(1, 40), st.integers(0, 12))
@example(Decimal("9999999999.99"), 12, 2)
@example(Decimal("10000000000.00"), 12, 2)
@example(Decimal("0E-2"), 2, 2)
@example(Decimal("0E+90"), 2, 2)
@example(Decimal("-0.10"), 2, 2)
@example(Decimal("1.00"), 2, 2)
@example(Decimal("0.500"), 3, 1)
@example(Decimal("1E+3"), 4, 0)
def test_decimal_is_refused_exactly_if_the_column_would_change_it(value: Decimal, precision: int, scale: int) -> None:
    exact, scale = Fraction(value), min(scale, precision)
    fits = abs(exact) < 10 ** (precision - scale) and (exact * 10**scale).denominator == 1

    check = within_digits(precision, scale)

    if fits:
        assert check(value) is value
    else:
        with pytest.raises(ConversionError):
            check(value)


@pytest.mark.parametrize("text", ["NaN", "sNaN", "Infinity", "-Infinity"])
def test_decimal_that_is_no_number_is_refused(text: str) -> None:
    with pytest.raises(ConversionError, match="not a finite number"):
        within_digits(5, 2)(Decimal(text))
