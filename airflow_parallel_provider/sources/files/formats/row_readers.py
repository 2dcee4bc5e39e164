# SPDX-License-Identifier: Apache-2.0
"""The rows of one file of any format."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import IO, Any

from airflow_parallel_provider.engine.interfaces.failed_part import FailedPart
from airflow_parallel_provider.errors import SourceError
from airflow_parallel_provider.sources.files.formats.arrow_files import orc_tables, parquet_tables
from airflow_parallel_provider.sources.files.formats.avro import avro_records
from airflow_parallel_provider.sources.files.formats.csv.csv_options import CsvOptions
from airflow_parallel_provider.sources.files.formats.csv.csv_rows import csv_rows
from airflow_parallel_provider.sources.files.formats.csv.csv_tables import CsvTables
from airflow_parallel_provider.sources.files.formats.excel import ExcelOptions, excel_rows, rows_of_line
from airflow_parallel_provider.sources.files.formats.fixed_width import FixedWidthOptions, fixed_width_rows
from airflow_parallel_provider.sources.files.formats.json_records import flat_object, json_records
from airflow_parallel_provider.sources.files.formats.row_shapes import flat, partitions_of, records_in, with_partitions
from airflow_parallel_provider.sources.files.formats.text_lines import LARGEST_TEXT, TextLines
from airflow_parallel_provider.values import json_text
from airflow_parallel_provider.values.items import SourceFile, SourceLine
from airflow_parallel_provider.values.unpack import PACKED_SUFFIXES, compression_of

FORMATS = ("auto", "csv", "jsonl", "json", "parquet", "excel", "fixed_width", "avro", "orc")

_BY_SUFFIX = {
    ".csv": "csv",
    ".tsv": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".xlsx": "excel",
    ".xlsm": "excel",
    ".avro": "avro",
    ".orc": "orc",
}

_JUMPING = ("parquet", "orc", "excel")
"""Formats whose readers jump in the file."""


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
    excel_options: Mapping[str, Any] | None = None,
    fixed_width: Mapping[str, Any] | None = None,
    for_table: bool = False,
) -> Iterator[Any]:
    """Yield the rows of a file: dicts, or Arrow tables (one for each row group of Parquet, or stripe of ORC).

    A line that cannot be read is a failed part of its own, which holds a :class:`SourceLine`.

    :param item: a file, or a line of one, which a dead letter has held.
    :param format: one of ``FORMATS``.
    :param encoding: of texts; a byte-order mark at the beginning is skipped.
    :param csv_options: as :class:`FilesToTableOperator` takes them.
    :param compression: as :class:`FilesSource` takes it.
    :param members: of a zip archive, as :class:`FilesSource` takes it.
    :param largest_text: as :class:`FilesSource` takes it.
    :param records: as :class:`FilesToTableOperator` takes it, and ``flatten``, ``hive_partitioning``, ``columns``,
        ``filters``, ``excel_options`` and ``fixed_width``.
    :param for_table: whether the rows go into a table as they are: then plain CSV becomes Arrow tables of texts, and
        all rows of CSV know their lines.
    :raises SourceError: if the file cannot be read; names it, and the line where it is known.
    """
    how = _How(
        csv=CsvOptions.of(csv_options or {}),
        excel=ExcelOptions.of(excel_options or {}),
        fixed_width=None if fixed_width is None else FixedWidthOptions.of(fixed_width),
        encoding=encoding,
        shape=_Shape(records, flatten, partitions_of(item.path) if hive_partitioning else {}),
        columns=columns,
        filters=filters,
        largest_text=largest_text,
        for_table=for_table,
    )
    if isinstance(item, SourceLine):
        yield from how.rows_of_line(item)
        return
    shown = item.path
    try:
        of_file = format_of(item.name) if format == "auto" else format
        if columns is not None and of_file not in ("parquet", "orc", None):
            raise SourceError("columns= is for Parquet and ORC; drop columns in transform=")
        if filters is not None and of_file not in ("parquet", None):
            raise SourceError("filters= is for Parquet; drop rows in transform=")
        if of_file in _JUMPING:
            if compression_of(item.name, compression) is not None:
                raise SourceError(_packed(of_file))
            yield from how.rows_of_file(item, of_file)
            return
        longest_line = None if of_file in ("json", "avro") else largest_text
        with closing(item.parts(compression=compression, members=members, longest_line=longest_line)) as parts:
            for shown, stream in parts:  # read where an error is named
                yield from how.rows_of_stream(stream, _kind_of(shown, item, format), shown, item)
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
        known = ", ".join(repr(each) for each in FORMATS[1:])
        raise SourceError(f"{shown}: the suffix names no known format; give format=, one of {known}")
    return kind


def _packed(kind: str) -> str:
    return f"a file of {kind} cannot be read from within a packed one: unpack it first"


@dataclass(frozen=True, slots=True)
class _How:
    """How files are read."""

    csv: CsvOptions
    excel: ExcelOptions
    fixed_width: FixedWidthOptions | None
    encoding: str
    shape: _Shape
    columns: Sequence[str] | None
    filters: Any
    largest_text: int
    for_table: bool

    def rows_of_file(self, file: SourceFile, kind: str | None) -> Iterator[Any]:
        """The rows of a file that its reader jumps in."""
        if kind == "parquet":
            rows = parquet_tables(file, self.columns, self.filters)
        elif kind == "orc":
            rows = orc_tables(file, self.columns)
        else:
            rows = excel_rows(file, self.excel)
        return map(self.shape.with_partitions, rows)

    def rows_of_stream(self, stream: IO[bytes], kind: str, shown: str, file: SourceFile) -> Iterator[Any]:
        """The rows of a file, or of a member of an archive, that is read from its beginning to its end."""
        if kind == "json":
            most = max(self.largest_text, file.size)
            return map(self.shape.of, json_records(stream, self.encoding, self.shape.records, most))
        if kind == "avro":
            return map(self.shape.of, avro_records(stream))
        if kind in _JUMPING:
            raise SourceError(_packed(kind))
        delimiter = "\t" if (_suffix_of(shown) or _suffix_of(file.name)) == ".tsv" else None
        if kind == "csv" and self.for_table:
            tables = CsvTables(stream, self.encoding, self.csv, delimiter)
            return map(self.shape.with_partitions, self._tables_then_rows(tables, shown, delimiter))
        lines = TextLines.of_stream(stream, self.encoding, shown)
        if kind == "jsonl":
            return _json_lines(lines, self.shape)
        if kind == "fixed_width":
            return map(self.shape.with_partitions, fixed_width_rows(lines, self._fixed_width()))
        return map(self.shape.with_partitions, csv_rows(lines, self.csv, delimiter=delimiter))

    def _tables_then_rows(self, tables: CsvTables, shown: str, delimiter: str | None) -> Iterator[Any]:
        """Tables as long as the text is plain, then rows."""
        yield from tables
        if tables.rest is not None:
            lines = TextLines.of_stream(tables.rest.stream, self.encoding, shown)
            lines.number = tables.rest.lines
            yield from csv_rows(lines, self.csv, delimiter=delimiter, columns=tables.rest.columns, numbered=True)

    def rows_of_line(self, item: SourceLine) -> Iterator[Any]:
        """The rows of a line, or of a row of a sheet, that a dead letter holds."""
        if item.format == "excel":
            return map(self.shape.with_partitions, rows_of_line(item, self.excel))
        lines = TextLines.of_item(item, self.encoding)
        if item.format == "jsonl":
            return _json_lines(lines, self.shape)
        if item.format == "fixed_width":
            rows = fixed_width_rows(lines, self._fixed_width(), skip=False)
        else:
            rows = csv_rows(lines, self.csv, delimiter=item.delimiter, columns=item.columns)
        return map(self.shape.with_partitions, rows)

    def _fixed_width(self) -> FixedWidthOptions:
        if self.fixed_width is None:
            raise SourceError("format='fixed_width' needs fixed_width={'columns': {'id': 8, 'name': 20}}")
        return self.fixed_width


@dataclass(frozen=True, slots=True)
class _Shape:
    """What becomes of each row."""

    records: str | None
    flatten: str | None
    partitions: Mapping[str, str | None]

    def of(self, row: Any) -> Any:
        """The row of a record of JSON."""
        return self.with_partitions(row if self.flatten is None else flat(row, self.flatten))

    def with_partitions(self, row: Any) -> Any:
        """The row with the columns of the path; a record that could not be read has none."""
        return with_partitions(row, self.partitions) if self.partitions else row


def _json_lines(lines: TextLines, shape: _Shape) -> Iterator[Any]:
    lines.begin_record()
    whole = shape.records is None and shape.flatten is None
    for line in lines:
        row = flat_object(line) if whole and not lines.undecoded else None
        if row is not None:
            yield shape.with_partitions(row)
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
