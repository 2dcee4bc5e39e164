# SPDX-License-Identifier: Apache-2.0
"""Bounds of a column (width, digits) held against all its values at once, which takes a tenth of one look at each."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from itertools import repeat
from typing import TYPE_CHECKING, Any

from airflow_parallel_provider.rows import narrow_floats
from airflow_parallel_provider.values.convert import integer_range
from airflow_parallel_provider.values.kinds import Kind

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from airflow_parallel_provider.values.table_shape import TableColumn

_NONE = type(None)
_INTS, _FLOATS, _DECIMALS = (frozenset({kind, _NONE}) for kind in (int, float, Decimal))


def without_bounds(column: TableColumn, present: frozenset[type], values: Iterable[Any]) -> TableColumn:
    """The column, without the bounds that all of these values are known to keep to; else as it is.

    :param present: the types of the values.
    """
    if column.kind is Kind.INT and present <= _INTS and (column.bits < 64 or column.unsigned):
        least, most = integer_range(column.bits, unsigned=column.unsigned)
        held = _held(present, values)
        kept = least <= min(held, default=0) and max(held, default=0) <= most
        return replace(column, bits=64, unsigned=False) if kept else column
    if column.kind is Kind.DECIMAL and present <= _DECIMALS and column.precision is not None:
        return replace(column, precision=None) if _have_scale(column, _held(present, values)) else column
    if column.kind is Kind.FLOAT and present <= _FLOATS and column.bits < 64:
        return replace(column, bits=64) if narrow_floats.need_no_look(_held(present, values)) else column
    return column


def _held(present: frozenset[type], values: Iterable[Any]) -> Sequence[Any]:
    """The values but None."""
    return [value for value in values if value is not None] if _NONE in present else list(values)


def _have_scale(column: TableColumn, values: Sequence[Any]) -> bool:
    """Whether all decimals have as many digits after the point as the column, and not too many before it."""
    assert column.precision is not None, "checked by the caller"
    scale = column.scale or 0
    quantum = Decimal((0, (1,), -scale))
    if not all(map(Decimal.same_quantum, values, repeat(quantum))):  # no NaN, no infinity has it
        return False
    return max(map(Decimal.adjusted, values), default=0) < column.precision - scale
