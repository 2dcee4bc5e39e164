"""The rows of one file: CSV, JSON lines, JSON or Parquet."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import closing
from typing import Any

from airflow_parallel_provider.engine.interfaces.failed_part import FailedPart
from airflow_parallel_provider.errors import SourceError
from airflow_parallel_provider.sources.files.csv_rows import csv_rows
from airflow_parallel_provider.sources.files.text_lines import TextLines, whole_text
from airflow_parallel_provider.values import json_text
from airflow_parallel_provider.values.items import SourceFile, SourceLine
from airflow_parallel_provider.values.unpack import LONGEST_LINE, PACKED_SUFFIXES, compression_of

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
    plain = name.lower()
    for packed in PACKED_SUFFIXES:
        plain = plain.removesuffix(packed)
    return next((found for suffix, found in _BY_SUFFIX.items() if plain.endswith(suffix)), None)


def read_rows(
    item: SourceFile | SourceLine,
    *,
    format: str = "auto",  # noqa: A002  # the usual name
    encoding: str = "utf-8",
    csv_options: Mapping[str, Any] | None = None,
    compression: str | None = "infer",
    members: str | None = None,
) -> Iterator[Any]:
    """Yield the rows of a file: dicts, or Arrow tables (one for each row group of a Parquet file).

    A line that cannot be read is a failed part of its own, which holds a :class:`SourceLine`.

    :param item: a file, or a line of one, which a dead letter has held.
    :param format: one of ``FORMATS``.
    :param encoding: of texts; a byte-order mark at the beginning is skipped.
    :param csv_options: options of ``csv.DictReader`` (``delimiter``, ``quotechar``, ``fieldnames``, ...).
    :param compression: as :class:`FilesSource` takes it.
    :param members: of a zip archive, as :class:`FilesSource` takes it.
    :raises SourceError: if the file cannot be read; names it, and the line where it is known.
    """
    options = csv_options or {}
    if isinstance(item, SourceLine):
        yield from _rows_of_line(item, encoding, options)
        return
    shown = item.path
    try:
        if (format_of(item.name) if format == "auto" else format) == "parquet":
            yield from _parquet_tables(item, compression)
            return
        with closing(item.parts(compression=compression, members=members, longest_line=LONGEST_LINE)) as parts:
            for shown, stream in parts:  # read where an error is named
                kind = _kind_of(shown, item, format)
                if kind == "json":
                    yield from _document(whole_text(stream, encoding, item.size))
                else:
                    yield from _records(TextLines.of_stream(stream, encoding, shown), kind, options)
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


def _records(lines: TextLines, kind: str, options: Mapping[str, Any]) -> Iterator[Any]:
    if kind == "csv":
        return csv_rows(lines, options, delimiter="\t" if ".tsv" in lines.shown.lower() else None)
    if kind == "jsonl":
        return _json_lines(lines)
    raise SourceError(_PACKED_PARQUET)


def _rows_of_line(item: SourceLine, encoding: str, options: Mapping[str, Any]) -> Iterator[Any]:
    lines = TextLines.of_item(item, encoding)
    if item.format == "csv":
        yield from csv_rows(lines, options, delimiter=item.delimiter, columns=item.columns)
    else:
        yield from _json_lines(lines)


def _document(text: str) -> list[Any]:
    try:
        content = json_text.loads(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    return content if isinstance(content, list) else [content]


def _json_lines(lines: TextLines) -> Iterator[Any]:
    lines.begin_record()
    for line in lines:
        if line.strip():
            try:
                row = json_text.loads(line)
            except json.JSONDecodeError as error:
                yield _failed(lines, f"{error.msg} (column {error.colno})")
            except (ValueError, RecursionError) as error:
                yield _failed(lines, str(error))
            else:
                yield _failed(lines, lines.undecoded_text()) if lines.undecoded else row
        lines.begin_record()


def _failed(lines: TextLines, reason: str) -> FailedPart:
    line = SourceLine(lines.shown, lines.first_line, "".join(lines.record), "jsonl", lines.encoding)
    reason = lines.undecoded_text() if lines.undecoded else reason
    return FailedPart(line, "ValueError", f"{lines.shown}, line {line.line}: {reason}")


def _parquet_tables(file: SourceFile, compression: str | None) -> Iterator[Any]:
    import pyarrow.parquet as pq

    if compression_of(file.name, compression) is not None:
        raise SourceError(_PACKED_PARQUET)
    with file.open("rb") as raw:
        groups = pq.ParquetFile(raw)
        for number in range(groups.metadata.num_row_groups):
            yield groups.read_row_group(number, use_threads=False)
