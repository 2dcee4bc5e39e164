# SPDX-License-Identifier: Apache-2.0
"""The rows of one file: CSV, JSON lines, JSON or Parquet."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import IO, Any

from airflow_parallel_provider.engine.interfaces.failed_part import FailedPart
from airflow_parallel_provider.errors import SourceError
from airflow_parallel_provider.sources.files.csv_options import CsvOptions
from airflow_parallel_provider.sources.files.csv_rows import csv_rows
from airflow_parallel_provider.sources.files.csv_tables import CsvTables
from airflow_parallel_provider.sources.files.json_records import flat_object, json_records
from airflow_parallel_provider.sources.files.row_shapes import flat, partitions_of, records_in, with_partitions
from airflow_parallel_provider.sources.files.text_lines import LARGEST_TEXT, TextLines
from airflow_parallel_provider.values import json_text
from airflow_parallel_provider.values.items import SourceFile, SourceLine
from airflow_parallel_provider.values.unpack import PACKED_SUFFIXES, compression_of

FORMATS = ("auto", "csv", "jsonl", "json", "parquet")

_BY_SUFFIX = {
    ".csv": "csv",
    ".tsv": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".parquet": "parquet",
    ".pq": "parquet",
}

_PACKED_PARQUET = "a Parquet file cannot be read from within a packed one: unpack it first"


def format_of(name: str) -> str | None:
    """The format that the suffix of a file's name stands for; None: an unknown suffix."""
    suffix = _suffix_of(name)
    return None if suffix is None else _BY_SUFFIX[suffix]


def _suffix_of(name: str) -> str | None:
    """The suffix of a file's name that names a format, whatever stands behind it because the file is packed."""
    plain = name.lower()
    for packed in PACKED_SUFFIXES:
        plain = plain.removesuffix(packed)
    return next((suffix for suffix in _BY_SUFFIX if plain.endswith(suffix)), None)


def read_rows(
    item: SourceFile | SourceLine,
    *,
    format: str = "auto",  # noqa: A002  # the usual name
    encoding: str = "utf-8",
    csv_options: Mapping[str, Any] | None = None,
    compression: str | None = "infer",
    members: str | None = None,
    largest_text: int = LARGEST_TEXT,
    records: str | None = None,
    flatten: str | None = None,
    hive_partitioning: bool = False,
    columns: Sequence[str] | None = None,
    filters: Any = None,
    for_table: bool = False,
) -> Iterator[Any]:
    """Yield the rows of a file: dicts, or Arrow tables (one for each row group of a Parquet file).

    A line that cannot be read is a failed part of its own, which holds a :class:`SourceLine`.

    :param item: a file, or a line of one, which a dead letter has held.
    :param format: one of ``FORMATS``.
    :param encoding: of texts; a byte-order mark at the beginning is skipped.
    :param csv_options: as :class:`FilesToTableOperator` takes them.
    :param compression: as :class:`FilesSource` takes it.
    :param members: of a zip archive, as :class:`FilesSource` takes it.
    :param largest_text: as :class:`FilesSource` takes it.
    :param records: as :class:`FilesToTableOperator` takes it, and ``flatten``, ``hive_partitioning``, ``columns`` and
        ``filters``.
    :param for_table: whether the rows go into a table as they are: then plain CSV becomes Arrow tables of texts, and
        all rows of CSV know their lines.
    :raises SourceError: if the file cannot be read; names it, and the line where it is known.
    """
    options = CsvOptions.of(csv_options or {})
    shape = _Shape(records, flatten, partitions_of(item.path) if hive_partitioning else {})
    if isinstance(item, SourceLine):
        yield from _rows_of_line(item, encoding, options, shape)
        return
    shown = item.path
    try:
        of_file = format_of(item.name) if format == "auto" else format
        if of_file == "parquet":
            for table in _parquet_tables(item, compression, columns, filters):
                yield with_partitions(table, shape.partitions)
            return
        if columns is not None or filters is not None:
            raise SourceError(f"{shown}: columns= and filters= are for Parquet; drop columns in transform=")
        longest_line = None if of_file == "json" else largest_text
        with closing(item.parts(compression=compression, members=members, longest_line=longest_line)) as parts:
            for shown, stream in parts:  # read where an error is named
                kind = _kind_of(shown, item, format)
                if kind == "json":
                    yield from map(shape.of, json_records(stream, encoding, records, max(largest_text, item.size)))
                else:
                    delimiter = "\t" if (_suffix_of(shown) or _suffix_of(item.name)) == ".tsv" else None
                    as_lines = functools.partial(TextLines.of_stream, encoding=encoding, shown=shown)
                    if kind == "csv" and for_table:
                        tables = CsvTables(stream, encoding, options, delimiter)
                        yield from _csv_for_table(tables, as_lines, options, shape, delimiter)
                    else:
                        yield from _records(as_lines(stream), kind, options, shape, delimiter)
    except Exception as error:
        raise _named(error, shown) from error


def _named(error: Exception, shown: str) -> SourceError:
    """An error that names the file."""
    if isinstance(error, SourceError):
        return error if shown in str(error) else SourceError(f"{shown}: {error}")
    return SourceError(f"{shown}: {type(error).__name__}: {error}")


def _kind_of(shown: str, file: SourceFile, given: str) -> str:
    if given != "auto":
        return given
    kind = format_of(shown) or format_of(file.name)  # of the member, else of the archive
    if kind is None:
        raise SourceError(f"{shown}: the suffix names no known format; give format='csv', 'jsonl', 'json' or 'parquet'")
    return kind


def _csv_for_table(
    tables: CsvTables,
    as_lines: Callable[[IO[bytes]], TextLines],
    options: CsvOptions,
    shape: _Shape,
    delimiter: str | None,
) -> Iterator[Any]:
    """Tables as long as the text is plain, then rows."""
    for table in tables:
        yield with_partitions(table, shape.partitions)
    if tables.rest is not None:
        lines = as_lines(tables.rest.stream)
        lines.number = tables.rest.lines
        for row in csv_rows(lines, options, delimiter=delimiter, columns=tables.rest.columns, numbered=True):
            yield shape.with_partitions(row) if shape.partitions else row


def _records(lines: TextLines, kind: str, options: CsvOptions, shape: _Shape, delimiter: str | None) -> Iterator[Any]:
    if kind == "csv":
        rows = csv_rows(lines, options, delimiter=delimiter)
        return map(shape.with_partitions, rows) if shape.partitions else rows
    if kind == "jsonl":
        return _json_lines(lines, shape)
    raise SourceError(_PACKED_PARQUET)


def _rows_of_line(item: SourceLine, encoding: str, options: CsvOptions, shape: _Shape) -> Iterator[Any]:
    lines = TextLines.of_item(item, encoding)
    if item.format == "csv":
        rows = csv_rows(lines, options, delimiter=item.delimiter, columns=item.columns)
        yield from map(shape.with_partitions, rows)
    else:
        yield from _json_lines(lines, shape)


@dataclass(frozen=True, slots=True)
class _Shape:
    """What becomes of each row."""

    records: str | None
    flatten: str | None
    partitions: Mapping[str, str | None]

    def of(self, row: Any) -> Any:
        """The row of a record of JSON."""
        row = row if self.flatten is None else flat(row, self.flatten)
        return self.with_partitions(row) if self.partitions else row

    def with_partitions(self, row: Any) -> Any:
        """The row with the columns of the path; a record that could not be read has none."""
        return with_partitions(row, self.partitions)


def _json_lines(lines: TextLines, shape: _Shape) -> Iterator[Any]:
    lines.begin_record()
    whole = shape.records is None and shape.flatten is None
    for line in lines:
        row = flat_object(line) if whole and not lines.undecoded else None
        if row is not None:
            yield shape.with_partitions(row) if shape.partitions else row
        elif line.strip():
            try:
                row = json_text.loads(line)
                rows = [shape.of(each) for each in ([row] if shape.records is None else records_in(row, shape.records))]
            except json.JSONDecodeError as error:
                yield _failed(lines, f"{error.msg} (column {error.colno})")
            except (ValueError, RecursionError) as error:
                yield _failed(lines, str(error))
            else:
                if lines.undecoded:
                    yield _failed(lines, lines.undecoded_text())
                else:
                    yield from rows
        lines.begin_record()


def _failed(lines: TextLines, reason: str) -> FailedPart:
    line = SourceLine(lines.shown, lines.first_line, "".join(lines.record), "jsonl", lines.encoding)
    reason = lines.undecoded_text() if lines.undecoded else reason
    return FailedPart(line, "ValueError", f"{lines.shown}, line {line.line}: {reason}")


def _parquet_tables(
    file: SourceFile, compression: str | None, columns: Sequence[str] | None, filters: Any
) -> Iterator[Any]:
    """The row groups of a file, but those in which the statistics say that no row passes the filters."""
    import pyarrow.parquet as pq

    if compression_of(file.name, compression) is not None:
        raise SourceError(_PACKED_PARQUET)
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


def _present(columns: Sequence[str], names: Sequence[str]) -> list[str]:
    """Pyarrow leaves out what a file does not have, without a word."""
    missing = next((name for name in columns if name not in names), None)
    if missing is not None:
        raise SourceError(f"there is no column {missing!r} of columns=; there are {', '.join(map(repr, names[:20]))}")
    return list(columns)
