"""Values as Arrow arrays that hold exactly these values, for Parquet files that share the types of the first.

Arrow itself changes values silently: 1.5 becomes the integer 1, a datetime a date, and a new field of a struct is
dropped.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from datetime import date, datetime
from typing import Any
from uuid import UUID

from airflow_parallel_provider.errors import SchemaMismatch
from airflow_parallel_provider.values.convert import CONVERTERS, unchanged
from airflow_parallel_provider.values.json_text import JsonNumber
from airflow_parallel_provider.values.kinds import Kind
from airflow_parallel_provider.values.plain import plain

_DIGITS = 38
"""Of a 128-bit decimal: the first part must not limit how large the numbers of the others may be."""


def array(column: Iterable[Any], where: str, kind: Any) -> Any:
    """The values of a column.

    :param where: chunk and column, for errors.
    :param kind: the Arrow type of the column in the earlier parts; None: this is the first.
    :raises SchemaMismatch: if the type cannot hold all of them unchanged.
    """
    import pyarrow as pa

    values = [str(value) if isinstance(value, UUID) else value for value in map(plain, column)]
    if any(type(value) is JsonNumber for value in values):
        values = _numbers(values, kind, where)
    try:
        found = pa.array(values)
        _require_one_kind_of_time(values, found.type)
        if kind is None:
            return _widened(found)
        _require_lossless(found.type, kind)
        # From an array, Arrow checks that a float is a whole number; from values it does not.
        checked = pa.types.is_floating(found.type) and pa.types.is_integer(kind)
        return found.cast(kind) if checked else pa.array(values, type=kind)
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, OverflowError, UnicodeError) as error:
        expected = "" if kind is None else f" as {kind}, the type it has in the earlier parts"
        # Not the text of Arrow's error: it contains a value of the row.
        text = f"{where} cannot be written{expected} ({type(error).__name__})"
        cure = "make its values of one type in a stage, or return Arrow tables, whose columns have types"
        raise SchemaMismatch(f"{text}: {cure}") from None


def _numbers(values: list[Any], kind: Any, where: str) -> list[Any]:
    """Numbers of JSON as what the column holds: decimals, or else the nearest floats."""
    import pyarrow as pa

    long = [value for value in values if type(value) is JsonNumber]
    if pa.types.is_decimal(kind) if kind is not None else any(value.wants_decimals for value in long):
        convert = CONVERTERS[Kind.DECIMAL]
    elif any(map(math.isinf, long)):
        raise SchemaMismatch(f"{where}: a number beyond the range of a float: make it a text in a stage")
    else:
        convert = {JsonNumber: float}
    return [convert.get(type(value), unchanged)(value) for value in values]


def as_before(table: Any, schema: Any) -> Any:
    """A table with the types of the earlier parts.

    :raises pyarrow.ArrowInvalid: if they cannot hold its values unchanged.
    """
    for before, now in zip(schema, table.schema, strict=True):
        _require_lossless(now.type, before.type)
    return table.cast(schema)


def _require_one_kind_of_time(values: Sequence[Any], kind: Any) -> None:
    """Refuse a mix of dates, datetimes with a time zone and datetimes without one: Arrow makes one type of them."""
    import pyarrow as pa

    if pa.types.is_date(kind) or pa.types.is_timestamp(kind):
        kinds = {(type(value), getattr(value, "tzinfo", None) is None) for value in values if value is not None}
        if len({(issubclass(each, datetime), naive) for each, naive in kinds if issubclass(each, date)}) > 1:
            raise pa.ArrowInvalid("dates and datetimes, or datetimes with and without a time zone")


def _require_lossless(found: Any, kind: Any, *, inside: bool = False) -> None:
    """Check that a type can hold the values of another one, where Arrow itself would not check.

    :param inside: of a list or a struct, where a float cannot be checked for being a whole number.
    """
    import pyarrow as pa

    fits = True
    if pa.types.is_timestamp(found):
        fits = pa.types.is_timestamp(kind) and (found.tz is None) == (kind.tz is None)
    elif pa.types.is_floating(found) and pa.types.is_integer(kind):
        fits = not inside
    elif pa.types.is_struct(found) and pa.types.is_struct(kind):
        names = {each.name for each in kind}
        fits = all(each.name in names for each in found)
        for each in found if fits else ():
            _require_lossless(each.type, kind.field(each.name).type, inside=True)
    elif pa.types.is_list(found) and pa.types.is_list(kind):
        _require_lossless(found.value_type, kind.value_type, inside=True)
    if not fits:
        raise pa.ArrowInvalid(f"{found} is not {kind}")


def _widened(found: Any) -> Any:
    import pyarrow as pa

    if pa.types.is_null(found.type):  # only None so far: a text column takes whatever is written as text later
        return found.cast(pa.string())
    if pa.types.is_decimal128(found.type):
        return found.cast(pa.decimal128(_DIGITS, found.type.scale))
    return found
