# SPDX-License-Identifier: Apache-2.0
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
from airflow_parallel_provider.sinks.files.exact_casts import NotExact, exact_cast
from airflow_parallel_provider.values.convert import CONVERTERS, unchanged
from airflow_parallel_provider.values.json_text import JsonNumber, tell_rounded
from airflow_parallel_provider.values.kinds import Kind
from airflow_parallel_provider.values.plain import plain
from airflow_parallel_provider.values.unreadable import NOT_READ_CURE, Unreadable

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
    types = set(map(type, values))
    if Unreadable in types:
        found = next(value for value in values if type(value) is Unreadable)
        raise SchemaMismatch(f"{where}: {reason_of(found)}")
    if JsonNumber in types:
        values = numbers(values, kind, where)
    try:
        found = pa.array(values)
        _require_one_kind(values, found.type)
        return _widened(found) if kind is None else exact_cast(found, kind)
    except (pa.ArrowException, NotExact, OverflowError, UnicodeError) as error:
        expected = "" if kind is None else f" as {kind}, the type it has in the earlier parts"
        # Not the text of Arrow's error: it contains a value of the row.
        reason = str(error) if isinstance(error, NotExact) else type(error).__name__
        text = f"{where} cannot be written{expected} ({reason})"
        cure = "make its values of one type in a stage, or return Arrow tables, whose columns have types"
        raise SchemaMismatch(f"{text}: {cure}") from None


def reason_of(value: Unreadable) -> str:
    """Why a value cannot be written that the source could not read."""
    return f"{value.reason}, read from {value.place}: {NOT_READ_CURE}"


def numbers(values: list[Any], kind: Any, where: str) -> list[Any]:
    """Numbers of JSON as what the column holds: decimals, or else the nearest floats.

    :raises SchemaMismatch: for one that wants decimals, or is too large, in a column of floats.
    """
    import pyarrow as pa

    long = [value for value in values if type(value) is JsonNumber]
    precise = any(value.wants_decimals for value in long)
    if pa.types.is_decimal(kind) if kind is not None else precise:
        convert = CONVERTERS[Kind.DECIMAL]
    elif precise or any(map(math.isinf, long)):
        problem = "a number with more digits than a float holds" if precise else "a number beyond the range of a float"
        raise SchemaMismatch(f"{where}: {problem}: make it a text or a Decimal in a stage, in all rows")
    else:
        convert = {JsonNumber: float}
        tell_rounded(long, where.rpartition(": ")[2])  # the column, not the chunk
    return [convert.get(type(value), unchanged)(value) for value in values]


def as_before(table: Any, schema: Any) -> Any:
    """A table with the types of the earlier parts.

    :raises pyarrow.ArrowInvalid: if a value does not fit.
    :raises NotExact: if they cannot hold its values unchanged.
    """
    import pyarrow as pa

    columns = [exact_cast(table.column(field.name), field.type) for field in schema]
    return pa.Table.from_arrays(columns, schema=schema)


def _require_one_kind(values: Sequence[Any], kind: Any) -> None:
    """Refuse a mix of which Arrow makes one type.

    That is: dates, datetimes with a time zone and those without one; texts and bytes; booleans and numbers.
    """
    import pyarrow as pa

    types = set(map(type, values))
    if pa.types.is_date(kind) or pa.types.is_timestamp(kind):
        kinds = {(type(value), getattr(value, "tzinfo", None) is None) for value in values if value is not None}
        if len({(issubclass(each, datetime), naive) for each, naive in kinds if issubclass(each, date)}) > 1:
            raise NotExact("dates and datetimes, or datetimes with and without a time zone")
    elif pa.types.is_binary(kind) and any(issubclass(each, str) for each in types):
        raise NotExact("texts and bytes")
    elif bool in types and not pa.types.is_boolean(kind):
        raise NotExact("booleans and numbers")


def _widened(found: Any) -> Any:
    import pyarrow as pa

    if pa.types.is_null(found.type):  # only None so far: a text column takes whatever is written as text later
        return found.cast(pa.string())
    if pa.types.is_decimal128(found.type):
        return found.cast(pa.decimal128(_DIGITS, found.type.scale))
    return found
