# SPDX-License-Identifier: Apache-2.0
"""Data frames of pandas and polars as Arrow tables, where that changes no value.

Where it could change one, the frame goes row by row. Whether a column of the database's table takes an Arrow type as it
is (it does not take categories, lists, nanoseconds of polars) is checked where the table is known:
:func:`~airflow_parallel_provider.rows.arrow_rows.takes_without_loss`.
"""

from __future__ import annotations

from typing import Any

_EXACT = frozenset(
    {
        "bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float32", "float64",
        "boolean", "Int8", "Int16", "Int32", "Int64", "UInt8", "UInt16", "UInt32", "UInt64",
        "datetime64[s]", "datetime64[ms]", "datetime64[us]", "timedelta64[us]", "str", "string",
    }
)  # fmt: skip
"""Types of pandas that correspond to one Arrow type, value by value."""


def arrow_of(frame: Any, library: str) -> Any:
    """A frame as an Arrow table; None when it has to go row by row, or pyarrow is not installed.

    :param library: ``pandas`` or ``polars``.
    """
    try:
        import pyarrow as pa
    except ImportError:
        return None
    try:
        return _of_pandas(frame, pa) if library == "pandas" else _of_polars(frame)
    except (pa.ArrowException, TypeError, ValueError, OverflowError):
        return None  # a value that is not of its column's type


def _of_pandas(frame: Any, pa: Any) -> Any:
    arrays = []
    for number in range(len(frame.columns)):
        series = frame.iloc[:, number]
        if not _is_exact(series):
            return None
        arrays.append(pa.array(series, from_pandas=True))
    return pa.table(arrays, names=list(frame.columns)) if arrays else None


def _is_exact(series: Any) -> bool:
    dtype = series.dtype
    name = str(dtype)
    if name == "object":  # texts are, in older pandas
        from pandas.api.types import infer_dtype

        return bool(infer_dtype(series, skipna=True) == "string")
    if getattr(dtype, "tz", None) is not None:
        return bool(dtype.unit != "ns")
    return name in _EXACT


def _of_polars(frame: Any) -> Any:
    from polars import CompatLevel

    return frame.to_arrow(compat_level=CompatLevel.oldest())  # texts as large_string
