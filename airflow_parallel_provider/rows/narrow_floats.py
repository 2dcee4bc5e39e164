# SPDX-License-Identifier: Apache-2.0
"""Floats of four bytes: which numbers a column of them takes.

A float with a fraction is a measurement, and becomes the nearest number that the column has. A whole number may count
something, and is exact or refused; so are a Decimal and a duration.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from decimal import Decimal
from math import inf
from struct import Struct

from airflow_parallel_provider.values.convert import ConversionError, Converter

_FOUR_BYTES = Struct("f")

_CHANGED = "a number that a float of four bytes cannot hold exactly"


def rounded(value: float) -> float:
    """A float that may be rounded, if it is no whole number.

    :raises ConversionError: if it is one that would change, or beyond the range.
    """
    narrow = _narrow(value)
    # Beyond 2**53 there are only whole floats, so that is no sign of a count.
    if narrow != value and value.is_integer() and abs(value) <= 2**53:
        raise ConversionError(f"a whole number: {_CHANGED}")
    return value


def exact(value: float) -> float:
    """The float of a number that must not be rounded.

    :raises ConversionError: if the column would not give back its digits.
    """
    narrow = _narrow(value)
    if narrow != value:
        digits = len(Decimal(repr(value)).normalize().as_tuple().digits)
        if float(f"{narrow:.{digits}g}") != value:
            raise ConversionError(_CHANGED)
    return value


def _narrow(value: float) -> float:
    try:
        narrow: float = _FOUR_BYTES.unpack(_FOUR_BYTES.pack(value))[0]
    except OverflowError:
        narrow = inf
    if (narrow == inf and abs(value) != inf) or (not narrow and value):
        raise ConversionError("a number beyond the range of a float of four bytes")
    return narrow


def need_no_look(values: Sequence[float]) -> bool:
    """Whether :func:`rounded` accepts all of many floats, as far as a look at the whole column can tell."""
    narrow = array("f", values).tolist()
    if narrow == values:
        return True
    return not (inf in narrow or -inf in narrow or 0.0 in narrow or any(map(float.is_integer, values)))


def limited(scale: int) -> Converter:
    """A converter for a column of MySQL that rounds to some digits after the point."""

    def check(value: float) -> float:
        if value == round(value, scale) or value != value:  # noqa: PLR0124  # NaN
            return value
        raise ConversionError(f"a number with more than {scale} digits after the point")

    return check
