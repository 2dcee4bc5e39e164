# SPDX-License-Identifier: Apache-2.0
"""Types of columns from annotations, Arrow schemas and dtypes, which say more than the values of one chunk.

They give a type to a column that holds only None in the first chunk, and the right type to one that happens to hold
only small numbers there.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from airflow_parallel_provider.rows.arrow_rows import ARROW_JSON
from airflow_parallel_provider.values.annotations import columns_of_class
from airflow_parallel_provider.values.kinds import Column, Kind, common_kind

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_RANKS = {"pyarrow": 1, "pandas": 2, "polars": 2}
"""Which source counts first: annotations (0) before Arrow before data frames."""
_KIND_OF_TYPE_NAME: Mapping[str, Kind] = {
    **dict.fromkeys(("bool", "boolean"), Kind.BOOL),
    **dict.fromkeys(("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32"), Kind.INT),
    **dict.fromkeys(("uint64", "int128", "uint128"), Kind.HUGEINT),
    **dict.fromkeys(("float16", "float32", "float64", "halffloat", "float", "double"), Kind.FLOAT),
    **dict.fromkeys(("string", "large_string", "string_view", "str", "utf8", "categorical", "enum"), Kind.TEXT),
    **dict.fromkeys(("binary", "large_binary", "binary_view", "fixed_size_binary"), Kind.BYTES),
    **dict.fromkeys(("date", "date32", "date64"), Kind.DATE),
    **dict.fromkeys(("time", "time32", "time64"), Kind.TIME),
    **dict.fromkeys(("duration", "timedelta64", "month_day_nano_interval"), Kind.TIMEDELTA),
    **dict.fromkeys(("list", "large_list", "fixed_size_list", "array", "struct"), Kind.JSON),
}
"""Names of types of Arrow, pandas and polars, in lower case and without parameters."""
_MOST_DIGITS = 38
"""A decimal of more digits gets no bound: not every database has so many."""


def hinted_columns(sources: Iterable[Any]) -> dict[str, Column]:
    """A column for each name that a source gives a type.

    :param sources: classes of the row objects, Arrow tables and data frames.
    """
    hints: dict[str, dict[int, list[Column]]] = {}
    for source in sources:
        rank = 0 if isinstance(source, type) else _RANKS[_library(source)]
        columns = columns_of_class(source) if isinstance(source, type) else _columns_of_table(source)
        for name, column in columns.items():
            hints.setdefault(name, {}).setdefault(rank, []).append(column)
    best = {name: _common_column(by_rank[min(by_rank)]) for name, by_rank in hints.items()}
    return {name: column for name, column in best.items() if column is not None}


def _common_column(columns: list[Column]) -> Column | None:
    first = columns[0]
    if all(column == first for column in columns):
        return first
    kind = common_kind(frozenset(column.kind for column in columns if column.kind is not None))
    return None if kind is None else Column(first.name, kind)


def _library(table: Any) -> str:
    return type(table).__module__.partition(".")[0]


def _columns_of_table(table: Any) -> dict[str, Column]:
    if _library(table) == "pandas":
        dtypes: Iterable[tuple[str, Any]] = zip(table.columns, table.dtypes, strict=True)
        found = {name: _column_of_pandas(dtype) for name, dtype in dtypes}
    elif _library(table) == "polars":
        found = {name: _column_of_polars(dtype) for name, dtype in table.schema.items()}
    else:
        found = {field.name: _column_of_arrow(field.type) for field in table.schema}
    return {name: replace(column, name=name) for name, column in found.items() if column is not None}


def _column_of_arrow(arrow: Any) -> Column | None:
    if hasattr(arrow, "index_type"):  # a dictionary type
        return _column_of_arrow(arrow.value_type)
    if hasattr(arrow, "scale"):
        return _decimal_column(arrow.precision, arrow.scale)
    if str(arrow) == ARROW_JSON:
        return Column("", Kind.JSON)
    name = str(arrow).partition("[")[0].partition("<")[0].partition("(")[0]
    if name == "timestamp":
        return Column("", Kind.DATETIME if arrow.tz is None else Kind.DATETIMETZ)
    return _column_by_name(name)


def _column_of_pandas(dtype: Any) -> Column | None:
    arrow = getattr(dtype, "pyarrow_dtype", None)
    if arrow is not None:
        return _column_of_arrow(arrow)
    categories = getattr(dtype, "categories", None)
    if categories is not None:
        return _column_of_pandas(categories.dtype)
    name = str(dtype).partition("[")[0].lower()
    if name == "datetime64":
        return Column("", Kind.DATETIME if getattr(dtype, "tz", None) is None else Kind.DATETIMETZ)
    return _column_by_name(name)


def _column_of_polars(dtype: Any) -> Column | None:
    name = str(dtype).partition("(")[0].lower()
    if name == "decimal":
        return _decimal_column(dtype.precision, dtype.scale)
    if name == "datetime":
        return Column("", Kind.DATETIME if dtype.time_zone is None else Kind.DATETIMETZ)
    return _column_by_name(name)


def _decimal_column(precision: int | None, scale: int | None) -> Column:
    if precision is None or precision > _MOST_DIGITS or not 0 <= (scale or 0) <= precision:
        return Column("", Kind.DECIMAL)
    return Column("", Kind.DECIMAL, precision=precision, scale=scale or 0)


def _column_by_name(name: str) -> Column | None:
    kind = _KIND_OF_TYPE_NAME.get(name)
    return None if kind is None else Column("", kind)
