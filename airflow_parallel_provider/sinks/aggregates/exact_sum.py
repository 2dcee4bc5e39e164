# SPDX-License-Identifier: Apache-2.0
"""Sums that are the same however their values are divided into parts.

Integers and decimals add up exactly by themselves. Floats are kept as an *expansion*: a few floats whose exact sum is
the exact sum of all values (J. R. Shewchuk, "Adaptive Precision Floating-Point Arithmetic", 1997). It is found with
``math.fsum``, which rounds correctly: the sum, then what remains after subtracting it, and so on.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from decimal import Context, Decimal
from fractions import Fraction
from itertools import chain
from typing import Any

_DIGITS = Context(prec=4000)
"""Of a decimal sum: exact for numbers as different in size as any database stores them."""

State = dict[str, Any]
"""``int``: sum of the integers; ``decimal``: of the decimals, None without any; ``float``: expansion, None without any;
``infinite``: sum of the infinities (NaN for both), None without any."""


def of(values: Sequence[Any]) -> State:
    """The state of some numbers (int, bool, Decimal, float)."""
    whole = [value for value in values if isinstance(value, int)]
    decimals = [value for value in values if isinstance(value, Decimal)]
    floats = [value for value in values if isinstance(value, float)]
    finite = [value for value in floats if math.isfinite(value)]
    return {
        "int": sum(whole),
        "decimal": _decimal_sum(value for value in decimals if value.is_finite()) if decimals else None,
        "float": _expansion(finite) if floats else None,
        "infinite": _infinite(
            chain((v for v in floats if math.isinf(v)), (float(v) for v in decimals if v.is_infinite()))
        ),
    }


def merge(states: Sequence[State]) -> State:
    """The state of all their values together."""
    decimals = [state["decimal"] for state in states if state["decimal"] is not None]
    floats = [state["float"] for state in states if state["float"] is not None]
    return {
        "int": sum(state["int"] for state in states),
        "decimal": _decimal_sum(decimals) if decimals else None,
        "float": _expansion(list(chain.from_iterable(floats))) if floats else None,
        "infinite": _infinite(state["infinite"] for state in states if state["infinite"] is not None),
    }


def result(state: State) -> int | float | Decimal:
    """The sum: a float where there were floats, a Decimal where there were decimals, else an int."""
    if state["infinite"] is not None:
        infinite = float(state["infinite"])
        return infinite if state["float"] is not None else Decimal(infinite)
    if state["float"] is None:
        return int(state["int"]) if state["decimal"] is None else _DIGITS.add(state["decimal"], Decimal(state["int"]))
    if state["decimal"] is None and not state["int"]:
        return math.fsum(state["float"])
    exact = sum(map(Fraction, state["float"]), Fraction(state["int"]) + Fraction(state["decimal"] or 0))
    try:
        return float(exact)
    except OverflowError:
        return math.copysign(math.inf, exact)


def _decimal_sum(values: Iterable[Decimal]) -> Decimal:
    total = Decimal(0)
    for value in values:
        total = _DIGITS.add(total, value)
    return total


def _expansion(values: list[float]) -> list[float]:
    parts: list[float] = []
    try:
        while rest := math.fsum(chain(values, (-part for part in parts))):
            parts.append(rest)
    except OverflowError:  # the sum is larger than the largest float
        return [math.copysign(1.7976931348623157e308, math.fsum(value / 2**64 for value in values))]
    return parts


def _infinite(values: Iterable[float]) -> float | None:
    listed = list(values)
    return sum(listed) if listed else None
