# SPDX-License-Identifier: Apache-2.0
r"""CSV in pieces of some megabytes as Arrow tables of texts: ten times as fast as row by row, and without the GIL.

The values are those of :mod:`~airflow_parallel_provider.sources.files.formats.csv.csv_rows`, which reads strictly, or
there are none: Arrow's reader forgives what that one refuses (a quote in the middle of a field, a line end inside a
line). So each piece is looked at first. What is not plain is left to the other reader, from the piece on where it
begins.

A piece is plain if

* each quote begins or ends a field, or stands twice in a field with quotes;
* lines end in ``\n`` or ``\r\n``, and there is no NUL;
* every record has as many fields as the header, of which there are at least two, with names that differ;
* its blank lines are at its end.
"""

from __future__ import annotations

import codecs
import csv
import io
import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from typing import IO, Any

from airflow_parallel_provider.rows.texts.arrow_texts import with_lines
from airflow_parallel_provider.sources.files.formats.csv.csv_options import CsvOptions

PIECE = 8 << 20
"""Bytes that are read and made into a table at a time."""

_LONGEST_SEARCH = 1_000
"""Lines that are looked at for one that is not within quotes."""

_SEPARATOR_LINE = re.compile(rb'"?sep=', re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Rest:
    """What is left to the other reader."""

    stream: IO[bytes]
    lines: int
    """Lines before it."""
    columns: tuple[str, ...] | None
    """The header; None: it is part of the rest."""


def _can_read(options: CsvOptions, encoding: str) -> bool:
    """Whether files with these options can be plain."""
    delimiter = options.reader.get("delimiter", ",")
    usual = {"strict": True, "delimiter": delimiter}
    return (
        {**usual, **options.reader} == usual
        and delimiter.isascii()
        and options.header
        and not (options.fieldnames or options.skiprows or options.comment or options.formats)
        and options.filename is options.line_number is options.restkey is options.restval is None
        and codecs.lookup(encoding).name.removesuffix("-sig") == "utf-8"
        and find_spec("pyarrow") is not None
    )


class CsvTables:
    """Iterates over Arrow tables of texts that know their lines, as long as the text is plain.

    :param encoding: of the file.
    :param delimiter: what the file's name says, unless the options say otherwise.
    :param piece: bytes that are read at a time.
    """

    def __init__(
        self, stream: IO[bytes], encoding: str, options: CsvOptions, delimiter: str | None, *, piece: int = PIECE
    ) -> None:
        self.rest: Rest | None = None
        """After the iteration: what is not plain."""
        self._stream = stream
        self._readable = _can_read(options, encoding)
        self._options = options
        self._delimiter: str = options.reader.get("delimiter") or delimiter or ","
        self._piece = piece
        self._lines = 0
        self._columns: tuple[str, ...] | None = None

    def __iter__(self) -> Iterator[Any]:
        """Read on."""
        left, more = b"", self._readable
        while more:
            data, more = self._read(left)
            end = _end_of_record(data) if more else len(data)
            if end is None or not _is_plain(data[:end], self._delimiter):
                self._leave(data)
                return
            body = data[:end]
            if self._columns is None:
                body = body[self._take_header(body) :]
            table = None if self._columns is None else self._table(body)
            if body and table is None:
                self._leave(data[end - len(body) :])
                return
            if table is not None and table.num_rows:
                yield table
            self._lines += body.count(b"\n")
            left = data[end:]
        if self._columns is None:
            self._leave(left)  # it cannot be read here, or is empty: the other reader knows what that means

    def _read(self, left: bytes) -> tuple[bytes, bool]:
        """What is left, and the next piece; and whether there may be more."""
        parts, size = [left], 0
        while size < self._piece and (read := self._stream.read(self._piece - size)):
            parts.append(read)
            size += len(read)
        return b"".join(parts), size > 0

    def _leave(self, data: bytes) -> None:
        self.rest = Rest(io.BufferedReader(_Joined(data, self._stream)), self._lines, self._columns)

    def _take_header(self, data: bytes) -> int:
        """Take the names of the columns, if they are plain; return the length of the header."""
        length = data.find(b"\n") + 1 or len(data)
        line = data[:length].removeprefix(codecs.BOM_UTF8)
        if _SEPARATOR_LINE.match(line):
            return 0
        try:
            (names,) = csv.reader([line.decode()], strict=True, delimiter=self._delimiter)
        except (ValueError, csv.Error):  # a quote that is open at the end of the line, or bytes that are no text
            return 0
        known = all(name in names for name in self._options.nulls_by_column)
        if not (known and len(names) > 1 and len(set(names)) == len(names) and all(map(str.strip, names))):
            return 0
        self._columns, self._lines = tuple(names), 1
        return length

    def _table(self, body: bytes) -> Any:
        """The records as a table; None: they are not plain."""
        assert self._columns is not None, "the header is plain"
        table = _texts(body.rstrip(b"\r\n"), self._columns, self._delimiter)
        if table is None or not table.num_rows:
            return table
        limit = self._options.field_size_limit
        if len(body) > limit and _longest(table) > limit:
            return None
        lines = _lines(table, body.rstrip(b"\r\n").count(b"\n") + 1, self._lines + 1)
        if lines is None:
            return None
        return with_lines(_with_nulls(table, self._options), self._lines + 1, lines or None)


def _end_of_record(data: bytes) -> int | None:
    """Where the last whole record ends; None: that cannot be told."""
    end = data.rfind(b"\n") + 1
    odd = data.count(b'"', 0, end) % 2
    for _ in range(_LONGEST_SEARCH):
        if not odd:
            return end
        before = data.rfind(b"\n", 0, end - 1) + 1
        odd ^= data.count(b'"', before, end) % 2
        end = before
    return None


def _is_plain(data: bytes, delimiter: str) -> bool:
    if b"\0" in data or data.count(b"\r") != data.count(b"\r\n"):
        return False
    return b'"' not in data or b'"' not in _quoted_field(delimiter).sub(b"", data)


@cache
def _quoted_field(delimiter: str) -> re.Pattern[bytes]:
    mark = re.escape(delimiter.encode())
    return re.compile(rb'(?<![^%b\n])"(?:[^"]++|"")*+"(?=%b|\r?\n|\Z)' % (mark, mark))


def _texts(body: bytes, columns: Sequence[str], delimiter: str) -> Any:
    """Records as a table of texts; None: some have more or fewer fields, or bytes that are no text."""
    import pyarrow as pa
    from pyarrow import csv as arrow_csv

    if not body:
        return pa.table({name: pa.array([], pa.string()) for name in columns})
    try:
        return arrow_csv.read_csv(
            pa.BufferReader(body),
            read_options=arrow_csv.ReadOptions(column_names=list(columns), block_size=len(body) + 1, use_threads=False),
            parse_options=arrow_csv.ParseOptions(delimiter=delimiter, newlines_in_values=b'"' in body),
            convert_options=arrow_csv.ConvertOptions(
                column_types=dict.fromkeys(columns, pa.string()), strings_can_be_null=False
            ),
        )
    except pa.ArrowInvalid:
        return None


def _longest(table: Any) -> int:
    import pyarrow.compute as pc

    return int(max(pc.max(pc.utf8_length(column)).as_py() for column in table.columns))


def _with_nulls(table: Any, options: CsvOptions) -> Any:
    """The table with NULL for the texts that stand for it."""
    import pyarrow as pa
    import pyarrow.compute as pc

    for at, name in enumerate(table.column_names):
        nulls = options.nulls_by_column.get(name, options.nulls)
        if nulls:
            texts = table.column(at)
            marked = pc.is_in(texts, pa.array(sorted(nulls)))
            table = table.set_column(at, name, pc.if_else(marked, pa.scalar(None, pa.string()), texts))
    return table


def _lines(table: Any, count: int, first: int) -> list[int] | None:
    """The line that each record begins on, empty if each has one line; None: there are blank lines between them.

    :param count: of the lines.
    :param first: number of the first one.
    """
    if count == table.num_rows:
        return []
    import pyarrow.compute as pc

    longer = [pc.count_substring(column, "\n").to_pylist() for column in table.columns]
    more = [sum(row) for row in zip(*longer, strict=True)]
    if count != table.num_rows + sum(more):
        return None
    begins = itertools.accumulate(more, lambda line, within: line + 1 + within, initial=first)
    return list(itertools.islice(begins, table.num_rows))


class _Joined(io.RawIOBase):
    """Bytes that were read, and the rest of the stream that they are from."""

    def __init__(self, data: bytes, stream: IO[bytes]) -> None:
        self._data = memoryview(data)
        self._stream = stream

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer."""
        if not self._data:
            more = self._stream.read(len(buffer))
            buffer[: len(more)] = more
            return len(more)
        size = min(len(buffer), len(self._data))
        buffer[:size] = self._data[:size]
        self._data = self._data[size:]
        return size
