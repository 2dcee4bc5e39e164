# SPDX-License-Identifier: Apache-2.0
"""Tables of Parquet and ORC files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from airflow_parallel_provider.errors import SourceError
from airflow_parallel_provider.sources.files.formats.libraries import library
from airflow_parallel_provider.values.items import SourceFile


def parquet_tables(file: SourceFile, columns: Sequence[str] | None, filters: Any) -> Iterator[Any]:
    """The row groups of a file, but those in which the statistics say that no row passes the filters."""
    pq = library("pyarrow.parquet", "Parquet", "arrow")
    with file.open("rb") as raw:
        groups = pq.ParquetFile(raw)
        chosen = None if columns is None else _present(columns, groups.schema_arrow.names)
        if filters is None:
            for number in range(groups.metadata.num_row_groups):
                yield groups.read_row_group(number, columns=chosen, use_threads=False)
            return
        import pyarrow as pa
        import pyarrow.dataset as ds

        raw.seek(0)
        passing = pq.filters_to_expression(filters)
        whole = ds.ParquetFileFormat().make_fragment(pa.PythonFile(raw, mode="r"))
        for group in whole.split_by_row_group(passing, schema=groups.schema_arrow):
            names = groups.schema_arrow.names if chosen is None else chosen
            table = group.to_table(schema=groups.schema_arrow, columns=names, filter=passing, use_threads=False)
            if len(table):
                yield table


def orc_tables(file: SourceFile, columns: Sequence[str] | None) -> Iterator[Any]:
    """The stripes of a file."""
    orc = library("pyarrow.orc", "ORC", "arrow")
    import pyarrow as pa

    with file.open("rb") as raw:
        stripes = orc.ORCFile(pa.PythonFile(raw, mode="r"))
        chosen = None if columns is None else _present(columns, stripes.schema.names)
        rows = 0
        for number in range(stripes.nstripes):
            try:
                batch = stripes.read_stripe(number, columns=chosen)
            except Exception as error:
                raise SourceError(f"stripe {number}: {type(error).__name__}: {error}") from error
            rows += batch.num_rows
            table = pa.Table.from_batches([batch])
            yield table if chosen is None else table.select(chosen)
        if rows != stripes.nrows:
            raise SourceError(f"it has {rows} rows, but says that it has {stripes.nrows}: have it written again")


def _present(columns: Sequence[str], names: Sequence[str]) -> list[str]:
    """Pyarrow leaves out what a file does not have, without a word."""
    missing = next((name for name in columns if name not in names), None)
    if missing is not None:
        raise SourceError(f"there is no column {missing!r} of columns=; there are {', '.join(map(repr, names[:20]))}")
    return list(columns)
