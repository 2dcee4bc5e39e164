# SPDX-License-Identifier: Apache-2.0
"""Arrow columns as columns of another type, with the same values; where that cannot be, they are refused.

Arrow's own casts make a number of the text '01', a date of the number 5, true of 7 and another number of 0.1.
"""

from __future__ import annotations

from typing import Any

_DIGITS = 38


class NotExact(ValueError):
    """A type or value has no place that gives it back."""


def exact_cast(column: Any, kind: Any) -> Any:
    """An Arrow column with the values of another one, as another type.

    :raises NotExact: if a value of the one type is something else in the other, or would be rounded.
    :raises pyarrow.ArrowInvalid: if a value does not fit.
    """
    import pyarrow as pa
    from pyarrow import types

    found = column.type
    if found == kind:
        return column
    if column.null_count == len(column):
        return pa.nulls(len(column), kind)
    if types.is_dictionary(found):
        return exact_cast(column.cast(found.value_type), kind)
    _require_kin(found, kind)
    if types.is_integer(found) and types.is_decimal(kind):  # Arrow asks for room for every number of the type
        column = column.cast(pa.decimal128(_DIGITS, kind.scale))
    changed = column.cast(kind)
    if types.is_floating(found) and types.is_floating(kind):
        _require_same(column, changed)
    return changed


def _require_same(column: Any, changed: Any) -> None:
    """Arrow rounds a double into a float without a word."""
    import pyarrow.compute as pc

    same = pc.or_(pc.equal(changed.cast(column.type), column), pc.is_nan(column))
    if not pc.all(pc.fill_null(same, True)).as_py():
        raise NotExact("a number would be rounded")


def _require_kin(found: Any, kind: Any, *, inside: bool = False) -> None:
    """Refuse a cast that makes something else of a value.

    :param inside: of a list, map or struct, where Arrow does not check that a number is not rounded.
    """
    from pyarrow import types

    if types.is_null(found):
        return
    if types.is_struct(found) and types.is_struct(kind):
        if {field.name for field in found} - {field.name for field in kind}:
            raise NotExact("a struct with other fields")
        for field in found:
            _require_kin(field.type, kind.field(field.name).type, inside=True)
    elif _is_list(found) and _is_list(kind):
        _require_kin(found.value_type, kind.value_type, inside=True)
    elif types.is_map(found) and types.is_map(kind):
        _require_kin(found.key_type, kind.key_type, inside=True)
        _require_kin(found.item_type, kind.item_type, inside=True)
    elif found != kind and not (_is_number_of(found, kind, inside=inside) or _is_other_form(found, kind)):
        raise NotExact("they are different kinds of values")


def _is_number_of(found: Any, kind: Any, *, inside: bool) -> bool:
    """Whether both are numbers, and a cast refuses a number that it would change."""
    from pyarrow import types

    exact = types.is_integer(found) or types.is_decimal(found)
    if types.is_integer(kind) or types.is_decimal(kind):
        return exact or (types.is_floating(found) and types.is_integer(kind) and not inside)
    if not types.is_floating(kind):
        return False
    if types.is_floating(found):
        return not inside or kind.bit_width > found.bit_width
    return bool(types.is_integer(found))


def _is_other_form(found: Any, kind: Any) -> bool:
    """Whether both hold the same values in another form: long texts, dates in milliseconds, another time zone."""
    from pyarrow import types

    if types.is_timestamp(found) and types.is_timestamp(kind):
        return (found.tz is None) == (kind.tz is None)
    forms = (_is_text, is_binary, types.is_date, types.is_time, types.is_duration)
    return any(has_form(found) and has_form(kind) for has_form in forms)


def _is_list(kind: Any) -> bool:
    from pyarrow import types

    return bool(types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind))


def _is_text(kind: Any) -> bool:
    from pyarrow import types

    return bool(types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind))


def is_binary(kind: Any) -> bool:
    """Whether a type of Arrow is one of bytes."""
    from pyarrow import types

    return bool(
        types.is_binary(kind)
        or types.is_large_binary(kind)
        or types.is_fixed_size_binary(kind)
        or types.is_binary_view(kind)
    )
