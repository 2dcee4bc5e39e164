"""The rows of one file: CSV, JSON lines, JSON or Parquet."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from airflow_parallel_provider.errors import SourceError
from airflow_parallel_provider.values.items import SourceFile

FORMATS = ("auto", "csv", "jsonl", "json", "parquet")

_PACKED = (".gz", ".bz2", ".xz", ".zip", ".zst")
_BY_SUFFIX = {
    ".csv": "csv",
    ".tsv": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".parquet": "parquet",
    ".pq": "parquet",
}


def format_of(name: str) -> str:
    """The format that the suffix of a file's name stands for.

    :raises SourceError: for an unknown suffix.
    """
    plain = name.lower()
    for packed in _PACKED:
        plain = plain.removesuffix(packed)
    for suffix, found in _BY_SUFFIX.items():
        if plain.endswith(suffix):
            return found
    raise SourceError(f"{name}: the suffix names no known format; give format='csv', 'jsonl', 'json' or 'parquet'")


def read_rows(
    file: SourceFile,
    *,
    format: str = "auto",  # noqa: A002  # the usual name
    encoding: str = "utf-8",
    csv_options: Mapping[str, Any] | None = None,
) -> Iterator[Any]:
    """Yield the rows of a file: dicts, or Arrow tables (one for each row group of a Parquet file).

    :param format: one of ``FORMATS``.
    :param encoding: of texts; a byte-order mark at the beginning is skipped.
    :param csv_options: options of ``csv.DictReader`` (``delimiter``, ``quotechar``, ``fieldnames``, ...).
    :raises ValueError: naming the line that cannot be read.
    """
    kind = format_of(file.name) if format == "auto" else format
    if kind == "parquet":
        yield from _parquet_tables(file)
        return
    with text_of(file, encoding) as lines:
        if kind == "csv":
            options = {"delimiter": "\t"} if ".tsv" in file.name.lower() else {}
            yield from _csv_rows(lines, {**options, **(csv_options or {})})
        elif kind == "jsonl":
            yield from _json_lines(lines)
        else:
            content = json.load(lines)
            yield from content if isinstance(content, list) else [content]


@contextmanager
def text_of(
    file: SourceFile, encoding: str, *, compression: str | None = "infer", newline: str = ""
) -> Iterator[io.TextIOBase]:
    r"""A file as text, without a byte-order mark.

    :param newline: ``""``: a line ends at any kind of line end, and keeps it unchanged (a line break within quotes is
        part of a CSV field); ``"\n"``: a line ends only there.
    """
    encoding = "utf-8-sig" if encoding.lower().replace("_", "-") in ("utf-8", "utf8") else encoding
    with file.open("rb", compression=compression) as raw:
        buffered = io.BufferedReader(_Plain(raw), 1 << 18)
        with io.TextIOWrapper(buffered, encoding, newline=newline) as text:
            yield text


class _Plain(io.RawIOBase):
    """The methods that a text layer needs; the file objects of some storages lack them."""

    def __init__(self, raw: Any) -> None:
        self._raw = raw

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        content = self._raw.read(len(buffer))
        buffer[: len(content)] = content
        return len(content)


def csv_reader(lines: Iterable[str], options: Mapping[str, Any]) -> csv.DictReader[Any]:
    """A reader with the author's options; strict unless the options turn that off.

    :raises TypeError: for unknown options.
    """
    return csv.DictReader(lines, **{"strict": True, **options})


def _csv_rows(lines: Any, options: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    reader = csv_reader(lines, options)
    try:
        _require_unique_names(reader.fieldnames or ())
        for row in reader:
            if None in row or None in row.values():
                fields = len(reader.fieldnames or ())
                raise ValueError(f"line {reader.line_num}: not {fields} fields, as in the header")
            yield row
    except csv.Error as error:
        raise ValueError(f"line {reader.reader.line_num}: {error}") from None


def _require_unique_names(names: Sequence[str]) -> None:
    """Reject two columns with the same name: a row is a dict, which would keep only the last field."""
    # Spreadsheets often add empty columns without a name at the end.
    twice = next((name for at, name in enumerate(names) if name and name in names[:at]), None)
    if twice is not None:
        cure = "rename one, or give csv_options={'fieldnames': [...]} and drop the first row in transform="
        raise ValueError(f"line 1: two columns have the name {twice!r}: {cure}")


def _json_lines(lines: Any) -> Iterator[Any]:
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            yield json.loads(line)
        except ValueError as error:
            raise ValueError(f"line {number}: {error}") from None


def _parquet_tables(file: SourceFile) -> Iterator[Any]:
    import pyarrow.parquet as pq

    with file.open("rb") as raw:
        groups = pq.ParquetFile(raw)
        for number in range(groups.metadata.num_row_groups):
            yield groups.read_row_group(number, use_threads=False)
