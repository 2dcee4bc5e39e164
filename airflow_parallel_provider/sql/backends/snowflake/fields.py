# SPDX-License-Identifier: Apache-2.0
"""The rows of a chunk as texts, which Snowflake reads into columns of every type: the fields of a CSV file.

Not Parquet: there, COPY sees a VARIANT, which has no times, dates or bytes of its own. How texts are read is
documented for each type.
"""

from __future__ import annotations

import gzip
import json
import re
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from airflow_parallel_provider.errors import SchemaMismatch
from airflow_parallel_provider.rows.arrow_rows import ArrowRows, append_row_numbers, as_table
from airflow_parallel_provider.values.convert import ConversionError, to_json
from airflow_parallel_provider.values.kinds import Kind

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from airflow_parallel_provider.sql.backends.row_dml import Rows
    from airflow_parallel_provider.values.table_shape import TableColumn, TableShape

FIELD_KINDS = frozenset(
    {
        Kind.BOOL, Kind.INT, Kind.HUGEINT, Kind.FLOAT, Kind.DECIMAL, Kind.TEXT, Kind.DATE, Kind.DATETIME,
        Kind.DATETIMETZ, Kind.TIME,
    }
)  # fmt: skip
"""Kinds that Arrow writes as Snowflake reads them."""
FILE_FORMAT = (
    "TYPE = CSV COMPRESSION = GZIP FIELD_OPTIONALLY_ENCLOSED_BY = '\"' ESCAPE_UNENCLOSED_FIELD = NONE NULL_IF = () "
    "EMPTY_FIELD_AS_NULL = TRUE"
)
"""A text is in quotes, also an empty one; NULL is an empty field without them."""

_MOST_DIGITS, _DIGITS_OF_A_FLOAT = 38, 17
_LONG_NUMBER = re.compile(r"\d[\d.]{16,}")


def within_38_digits(value: int) -> int:
    """Refuse an integer that no NUMBER holds."""
    if abs(value) < 10**_MOST_DIGITS:
        return value
    raise ConversionError(f"an integer of more than {_MOST_DIGITS} digits")


def json_within_38_digits(value: Any) -> str:
    """JSON as text; refuse a number that a VARIANT would round."""
    text: str = to_json(value)
    if _LONG_NUMBER.search(text):
        json.loads(text, parse_float=_check_number, parse_int=_check_number)
    return text


def _check_number(text: str) -> None:
    digits = len(Decimal(text).as_tuple().digits)
    most = _DIGITS_OF_A_FLOAT if "e" in text.lower() else _MOST_DIGITS
    if digits > most:
        raise ConversionError(f"JSON with a number of more than {most} digits, which a VARIANT rounds")


def read_field(column: TableColumn, field: str) -> str:
    """How a text becomes a value of a column, as SQL.

    :param field: the text as SQL.
    """
    if column.kind is Kind.TEXT:
        return field  # no CAST: it might cut a text that is too long, where an INSERT refuses it
    if column.kind is Kind.BYTES:
        return f"TO_BINARY({field}, 'HEX')"
    if column.kind is Kind.JSON:
        return f"PARSE_JSON({field})"
    return f"CAST({field} AS {column.sql_type})"


def field_table(shape: TableShape, names: Sequence[str], rows: Rows) -> Any:
    """The rows as an Arrow table whose columns are written as texts, with the number of each row at the end.

    :raises SchemaMismatch: for a column of a type that is not written here.
    """
    import pyarrow as pa

    if isinstance(rows, ArrowRows) and not rows.materialized:
        table = as_table(rows.table)
        columns = [table.column(at) for at in range(len(names))]
    else:
        listed = list(rows)
        columns = [_column(shape, name, [row[at] for row in listed]) for at, name in enumerate(names)]
    fields = [_written(column) for column in columns]
    return append_row_numbers(pa.table(fields, names=[f"c{at}" for at in range(len(names))]), "n")


def write_file(table: Any, path: Path) -> None:
    """Write what :func:`field_table` returns as a compressed file.

    The number of the row is in it, too: a line is then never empty, which Snowflake refuses.
    """
    from pyarrow import csv

    options = csv.WriteOptions(include_header=False, quoting_style="needed")
    with (
        gzip.open(path, "wb", compresslevel=1) as file,
        csv.CSVWriter(file, table.schema, write_options=options) as out,
    ):
        for batch in table.to_batches():
            if batch.num_rows:  # for an empty one Arrow writes its buffer, whatever is in it
                out.write_batch(batch)


def texts(table: Any) -> list[tuple[str | None, ...]]:
    """The same fields as Python's texts, row by row."""
    import pyarrow as pa

    columns = [column.cast(pa.string()).to_pylist() for column in table.columns]
    return list(zip(*columns, strict=True))


def _column(shape: TableShape, name: str, values: list[Any]) -> Any:
    import pyarrow as pa

    column = shape.by_name[name]
    fixed = {
        Kind.BOOL: pa.bool_(), Kind.FLOAT: pa.float64(), Kind.TEXT: pa.string(), Kind.DATE: pa.date32(),
        Kind.DATETIME: pa.timestamp("us"), Kind.DATETIMETZ: pa.timestamp("us", "UTC"), Kind.TIME: pa.time64("us"),
        Kind.JSON: pa.string(), Kind.BYTES: pa.string(),
    }  # fmt: skip
    if column.kind is Kind.OTHER:
        raise SchemaMismatch(
            f"table {shape.display_name!r}, column {name!r} ({column.type_name()}): values of this type are not "
            "written on Snowflake: load them as text or JSON (a VARCHAR or VARIANT column), and convert them there"
        )
    if column.kind is Kind.HUGEINT:
        return pa.array([None if value is None else str(value) for value in values], pa.string())
    if column.kind is Kind.BYTES:
        values = [None if value is None else bytes(value).hex() for value in values]
    arrow: Any = fixed.get(column.kind) or pa.decimal128(column.precision, column.scale)
    try:
        return pa.array(values, arrow)
    except pa.ArrowException:  # its text may be the value
        raise SchemaMismatch(
            f"table {shape.display_name!r}, column {name!r} ({column.type_name()}) cannot take all values of the "
            f"rows: convert {name!r} in a stage"
        ) from None


def _written(column: Any) -> Any:
    """A column that Arrow writes in a form which Snowflake reads: instants with an offset, floats as wide as there."""
    import pyarrow as pa
    import pyarrow.compute as pc

    arrow = column.type
    if pa.types.is_timestamp(arrow) and arrow.tz is not None:
        utc = column.cast(pa.timestamp(arrow.unit, "UTC")).cast(pa.timestamp(arrow.unit))
        return pc.binary_join_element_wise(utc.cast(pa.string()), "+00:00", "")
    if pa.types.is_float32(arrow):
        return column.cast(pa.float64())  # or 0.1 of 32 bit is written as 0.1, which is another number in 64 bit
    return column
