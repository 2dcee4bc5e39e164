# SPDX-License-Identifier: Apache-2.0
"""A table as a Parquet file in memory, and what its footer says of its columns."""

from __future__ import annotations

from datetime import date
from typing import Any

_DICTIONARY = 128 * 1024
"""Bytes of the different values of a column, from which on they are written one by one. A part is small: with the
megabyte that Parquet allows, columns of nothing but different values would be hashed to their end, which takes longer
than all the rest."""
_PROBED = 1024
"""How many values of a column are looked at, to see whether they repeat."""
_DIFFERENT = 0.95
"""Share of different values among them from which on a dictionary does not pay."""


def parquet_file(table: Any, **options: Any) -> tuple[bytes, Any]:
    """The bytes of a file, and its footer.

    :param options: of pyarrow's writer.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    stream, footers = pa.BufferOutputStream(), list[Any]()
    how = {"dictionary_pagesize_limit": _DICTIONARY, "use_dictionary": _that_repeat(table), **options}
    with pq.ParquetWriter(stream, table.schema, metadata_collector=footers, **how) as writer:
        writer.write_table(table)
    return stream.getvalue().to_pybytes(), footers[0]


def _that_repeat(table: Any) -> list[str] | bool:
    """Names of the columns that a dictionary pays for; True: of all, as far as is known."""
    import pyarrow as pa
    import pyarrow.compute as pc

    rows = len(table)
    if rows < _PROBED or any(pa.types.is_nested(field.type) for field in table.schema):
        return True
    places = pa.array(range(0, rows, rows // _PROBED))
    found = []
    for field, column in zip(table.schema, table.columns, strict=True):
        if isinstance(field.type, pa.BaseExtensionType) or (
            pc.count_distinct(column.take(places), "all").as_py() < _DIFFERENT * len(places)
        ):
            found.append(field.name)
    return found


def statistics_of(footer: Any, schema: Any) -> dict[str, Any]:
    """Bounds and numbers of NULLs by column, for the readers of a Delta table; bounds of integers and dates only.

    Those of texts would have to be shortened, and those of floats say nothing of NaN.

    :param footer: of the file.
    :param schema: the Arrow schema of what was written.
    """
    import pyarrow as pa

    found: dict[str, dict[str, Any]] = {"minValues": {}, "maxValues": {}, "nullCount": {}}
    leaf = 0
    for field in schema:
        at, leaf = leaf, leaf + _leaves(field.type)
        if pa.types.is_nested(field.type):
            continue
        groups = [footer.row_group(n).column(at).statistics for n in range(footer.num_row_groups)]
        if not all(group is not None and group.has_null_count for group in groups):
            continue
        found["nullCount"][field.name] = sum(group.null_count for group in groups)
        bounded = [group for group in groups if group.has_min_max]
        if bounded and (pa.types.is_integer(field.type) or pa.types.is_date(field.type)):
            found["minValues"][field.name] = _plain(min(group.min for group in bounded))
            found["maxValues"][field.name] = _plain(max(group.max for group in bounded))
    return found


def _leaves(kind: Any) -> int:
    """How many columns of a Parquet file a column of a table is."""
    import pyarrow as pa

    return sum(_leaves(kind.field(n).type) for n in range(kind.num_fields)) if pa.types.is_nested(kind) else 1


def _plain(value: Any) -> Any:
    return value.isoformat() if isinstance(value, date) else value
