# SPDX-License-Identifier: Apache-2.0
"""Texts of an Arrow table, which a column of another type reads: a column at a time, without Python objects.

Only the notations are read here that Arrow and :mod:`~airflow_parallel_provider.rows.texts.notations` read alike, which
is most of them. A column with any other text stays as it is, and its values are converted, or refused, one by one.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

from airflow_parallel_provider.rows.texts.notations import FALSE, TRUE
from airflow_parallel_provider.values.kinds import Kind

if TYPE_CHECKING:
    from airflow_parallel_provider.values.table_shape import TableColumn, TableShape

_LINES: Final = b"airflow_parallel_provider.lines"
"""Key in the metadata of a table's schema: which line of its file each row begins on."""

_DAY = "[1-9][0-9]{3}-[0-9]{2}-[0-9]{2}"
_MOMENT = _DAY + "[ T][0-9]{2}:[0-9]{2}:[0-9]{2}(?:[.][0-9]{1,6})?"
_ZONE = "(?:Z|[+-][0-9]{2}:[0-9]{2})"
_PLAIN_FLOAT = "-?[0-9]{1,7}(?:[.][0-9]{1,8})?"
"""At most 15 digits, which a float gives back."""


def with_lines(table: Any, first: int, lines: Sequence[int] | None = None) -> Any:
    """An Arrow table that knows the lines of its rows.

    :param first: the line of the first row; the others follow line by line.
    :param lines: the line of each row, where it is not as simple.
    """
    value = str(first).encode() if lines is None else b"q" + array("q", lines).tobytes()
    return table.replace_schema_metadata({**(table.schema.metadata or {}), _LINES: value})


def lines_of(table: Any) -> Sequence[int] | None:
    """The line of each row of a table of any library, where the table knows that."""
    value = (getattr(getattr(table, "schema", None), "metadata", None) or {}).get(_LINES)
    if value is None:
        return None
    if value[:1] != b"q":
        return range(int(value), int(value) + table.num_rows)
    lines = array("q")
    lines.frombytes(value[1:])
    return lines if len(lines) == table.num_rows else None


def parsed_texts(table: Any, shape: TableShape) -> Any:
    """A table with values in place of the texts that a column of another type reads.

    :param table: an Arrow table or batch.
    :param shape: the table of the database. A column that is not in it stays as it is.
    """
    import pyarrow as pa

    fields, columns = list(table.schema), list(table.columns)
    for at, field in enumerate(fields):
        column = shape.by_name.get(field.name)
        if column is None or not column.parse_texts or not pa.types.is_string(field.type):
            continue
        values = _parsed(column, columns[at])
        if values is not None:
            fields[at], columns[at] = pa.field(field.name, values.type), values
    return type(table).from_arrays(columns, schema=pa.schema(fields, table.schema.metadata))


def _parsed(column: TableColumn, texts: Any) -> Any:
    """The values of a column; None: not all texts can be read here."""
    import pyarrow as pa

    parse = _PARSERS.get(column.kind)
    if parse is None:
        return None
    try:
        return parse(column, _without_empty(texts))
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):  # it finds a value that is none, without saying which
        return None


def _without_empty(texts: Any) -> Any:
    """An empty text is NULL in a column that is not of texts."""
    import pyarrow as pa
    import pyarrow.compute as pc

    empty = pc.equal(texts, "")
    return pc.if_else(empty, pa.scalar(None, texts.type), texts) if pc.any(empty).as_py() else texts


def _all_match(texts: Any, pattern: str) -> bool:
    import pyarrow.compute as pc

    return pc.all(pc.match_substring_regex(texts, f"^(?:{pattern})$")).as_py() is not False


def _integers(column: TableColumn, texts: Any) -> Any:
    if not _all_match(texts, "[0-9]{1,18}" if column.unsigned else "-?[0-9]{1,18}"):
        words = _booleans(column, texts) if column.bits == 8 else None  # what MySQL has for booleans
        return None if words is None else words.cast("uint8" if column.unsigned else "int8")
    bits = column.bits if column.bits in (8, 16, 32) else 64  # MySQL has columns of 24 bit, which are looked at later
    return texts.cast(f"uint{bits}" if column.unsigned else f"int{bits}")


def _floats(column: TableColumn, texts: Any) -> Any:
    if column.bits < 64 or column.scale is not None or not _all_match(texts, _PLAIN_FLOAT):
        return None  # what a narrow column would round is decided value by value
    return texts.cast("float64")


def _decimals(column: TableColumn, texts: Any) -> Any:
    import pyarrow as pa

    if column.digits is not None:
        return None
    if column.precision is None:  # it keeps the zeros at the end: all must have as many digits after the point
        scale = _scale_of_first(texts)
        same = f"-?[0-9]{{1,18}}[.][0-9]{{{scale}}}" if scale else "-?[0-9]{1,18}"
        return texts.cast(pa.decimal128(38, scale)) if scale <= 18 and _all_match(texts, same) else None
    scale = column.scale or 0
    if not 0 <= scale <= column.precision <= 38:
        return None
    fits = f"-?[0-9]{{1,{max(1, column.precision - scale)}}}" + (f"(?:[.][0-9]{{1,{scale}}})?" if scale else "")
    return texts.cast(pa.decimal128(column.precision, scale)) if _all_match(texts, fits) else None


def _scale_of_first(texts: Any) -> int:
    first = next((text.as_py() for text in texts if text.is_valid), "")
    return len(first.partition(".")[2])


def _booleans(column: TableColumn, texts: Any) -> Any:  # noqa: ARG001  # as all parsers
    import pyarrow as pa
    import pyarrow.compute as pc

    words = pc.ascii_lower(texts)
    true = pc.is_in(words, pa.array(sorted(TRUE)))
    known = pc.or_(true, pc.is_in(words, pa.array(sorted(FALSE))))
    if pc.all(pc.or_(known, pc.is_null(texts))).as_py() is False:
        return None
    return pc.if_else(pc.is_null(texts), pa.scalar(None, pa.bool_()), true)


def _dates(column: TableColumn, texts: Any) -> Any:  # noqa: ARG001
    return texts.cast("date32") if _all_match(texts, _DAY) else None


def _moments(column: TableColumn, texts: Any) -> Any:  # noqa: ARG001
    import pyarrow as pa

    return texts.cast(pa.timestamp("us")) if _all_match(texts, _MOMENT) else None


def _moments_in_zone(column: TableColumn, texts: Any) -> Any:  # noqa: ARG001
    import pyarrow as pa

    if _all_match(texts, _MOMENT):  # without a zone it is UTC
        return texts.cast(pa.timestamp("us")).cast(pa.timestamp("us", "UTC"))
    return texts.cast(pa.timestamp("us", "UTC")) if _all_match(texts, _MOMENT + _ZONE) else None


_PARSERS: Final[dict[Kind, Callable[[TableColumn, Any], Any]]] = {
    Kind.INT: _integers,
    Kind.FLOAT: _floats,
    Kind.DECIMAL: _decimals,
    Kind.BOOL: _booleans,
    Kind.DATE: _dates,
    Kind.DATETIME: _moments,
    Kind.DATETIMETZ: _moments_in_zone,
}
