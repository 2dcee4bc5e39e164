# SPDX-License-Identifier: Apache-2.0
"""The rows of an Arrow table, which become Python objects only when they are needed.

A backend that can send the table as it is (``Backend.arrow_kinds``) does not need them, where the type of every Arrow
column is one that the table's column takes without loss.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any

from airflow_parallel_provider.errors import SchemaMismatch
from airflow_parallel_provider.values.json_text import JsonText
from airflow_parallel_provider.values.kinds import Kind

if TYPE_CHECKING:
    from airflow_parallel_provider.values.table_shape import TableColumn

ARROW_JSON = "extension<arrow.json>"
"""Arrow's type of JSON texts."""
_INTEGERS = {"int8": 8, "int16": 16, "int32": 32, "int64": 64}
_UNSIGNED = {"uint8": 8, "uint16": 16, "uint32": 32, "uint64": 64}
_ARROW_TYPES: dict[Kind, frozenset[str]] = {
    Kind.BOOL: frozenset({"bool"}),
    Kind.FLOAT: frozenset({"float", "double"}),
    Kind.TEXT: frozenset({"string", "large_string"}),
    Kind.BYTES: frozenset({"binary", "large_binary"}),
    Kind.DATE: frozenset({"date32[day]"}),
    Kind.TIME: frozenset({"time32[s]", "time32[ms]", "time64[us]"}),
    Kind.TIMEDELTA: frozenset({"duration[us]", "month_day_nano_interval"}),
}


class ArrowRows(Sequence[tuple[Any, ...]]):
    """The rows of an Arrow table, as a sequence of tuples.

    :param table: an Arrow table or batch.
    :param to_rows: converts the rows, where the table comes from a data frame whose own conversion yields other objects
        than Arrow's.
    """

    def __init__(self, table: Any, to_rows: Callable[[], list[tuple[Any, ...]]] | None = None) -> None:
        self.table = table
        self._to_rows = to_rows
        self._rows: list[tuple[Any, ...]] | None = None

    @property
    def materialized(self) -> bool:
        """Whether the rows have been converted to Python objects."""
        return self._rows is not None

    def _materialize(self) -> list[tuple[Any, ...]]:
        if self._rows is None and self._to_rows is not None:
            self._rows = self._to_rows()
        elif self._rows is None:
            columns = [_python_values(self.table.column(at), name) for at, name in enumerate(self.table.schema.names)]
            self._rows = list(zip(*columns, strict=True))
        return self._rows

    def __len__(self) -> int:
        """Number of rows."""
        return int(self.table.num_rows)

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        """Iterate over the rows, as tuples."""
        return iter(self._materialize())

    def __getitem__(self, at: Any) -> Any:
        """One row, or a list of rows for a slice."""
        return self._materialize()[at]

    def append_text_column(self, name: str, text: str) -> ArrowRows:
        """The same rows with a further column that holds one text."""
        import pyarrow as pa

        extended = as_table(self.table).append_column(name, pa.repeat(pa.scalar(text), len(self)))
        return ArrowRows(extended, lambda: [(*row, text) for row in self._materialize()])


def _python_values(column: Any, name: str) -> list[Any]:
    try:
        found: list[Any] = column.to_pylist()
    except (ValueError, OverflowError):  # its text may be the value
        raise SchemaMismatch(
            f"column {name!r} of an Arrow table ({column.type}) has a value that Python cannot represent, such as a "
            "day before the year 1: cast the column in a stage"
        ) from None
    if str(column.type) == ARROW_JSON:
        return [None if text is None else JsonText(text) for text in found]
    return found


def as_table(table: Any) -> Any:
    """An Arrow table, from a table or a batch."""
    import pyarrow as pa

    return pa.Table.from_batches([table]) if isinstance(table, pa.RecordBatch) else table


def append_row_numbers(table: Any, name: str) -> Any:
    """A table with a further column, the number of each row."""
    import pyarrow as pa

    return table.append_column(name, pa.array(range(table.num_rows), pa.int64()))


def with_row_numbers(rows: Iterable[tuple[Any, ...]]) -> Iterable[tuple[Any, ...]]:
    """Rows with their number at the end; rows of an Arrow table stay in Arrow unless they were materialized."""
    if isinstance(rows, ArrowRows) and not rows.materialized:
        return ArrowRows(append_row_numbers(as_table(rows.table), ""))
    return ((*row, at) for at, row in enumerate(rows))


def concat(parts: Sequence[Any]) -> ArrowRows | None:
    """The rows of several Arrow tables as those of one; None when some are not of Arrow, or schemas differ."""
    if not parts or not all(isinstance(part, ArrowRows) for part in parts):
        return None
    if len(parts) == 1:
        return parts[0]  # type: ignore[no-any-return]  # just checked
    if any(part.table.schema != parts[0].table.schema for part in parts):
        return None
    import pyarrow as pa

    whole = pa.concat_tables([as_table(part.table) for part in parts])
    return ArrowRows(whole, lambda: list(chain.from_iterable(parts)))


def takes_without_loss(column: TableColumn, arrow: Any, values: Any = None) -> bool:
    """Whether a column takes every value of an Arrow type as it is: none to convert, to refuse or to round.

    :param values: the Arrow column, where the type alone does not decide.
    """
    name = str(arrow)
    if column.kind is Kind.FLOAT and (column.bits < 64 or column.scale is not None):
        return column.scale is None and (name == "float" or (name == "double" and _fit_four_bytes(values)))
    if column.kind is Kind.INT:
        return _holds_integers(column, name)
    if column.kind is Kind.HUGEINT:
        return name in _INTEGERS or name in _UNSIGNED
    if column.kind is Kind.DECIMAL:
        return name.startswith("decimal128") and _holds_decimals(column, arrow.precision, arrow.scale)
    if column.kind in (Kind.DATETIME, Kind.DATETIMETZ):
        exact = name.startswith("timestamp") and arrow.unit in ("s", "ms", "us")
        return exact and (arrow.tz is not None) == (column.kind is Kind.DATETIMETZ)
    return name in _ARROW_TYPES.get(column.kind, frozenset())


def _holds_integers(column: TableColumn, name: str) -> bool:
    if column.unsigned:
        return _UNSIGNED.get(name, 65) <= column.bits
    return _INTEGERS.get(name, 65) <= column.bits or _UNSIGNED.get(name, 65) < column.bits


def _fit_four_bytes(column: Any) -> bool:
    """Whether floats fit a column of four bytes (:mod:`~airflow_parallel_provider.rows.narrow_floats`)."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if column is None:
        return False
    narrow = column.cast(pa.float32()).cast(pa.float64())
    changed = pc.not_equal(column, narrow)
    if not pc.any(changed).as_py():
        return True
    whole = pc.and_(pc.equal(column, pc.floor(column)), pc.less_equal(pc.abs(column), 2.0**53))
    lost = pc.or_(pc.is_inf(narrow), pc.equal(narrow, 0.0))
    return not pc.any(pc.and_(changed, pc.or_(whole, lost))).as_py()


def _holds_decimals(column: TableColumn, precision: int, scale: int) -> bool:
    if scale < 0 or column.digits is not None:
        return False
    if column.precision is None:
        return True
    column_scale = column.scale or 0
    return scale <= column_scale and precision - scale <= column.precision - column_scale
