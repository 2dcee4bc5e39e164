# SPDX-License-Identifier: Apache-2.0
"""The rows of a CSV text. A record that cannot be read fails alone; a header that loses values fails the file."""

from __future__ import annotations

import csv
import re
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from airflow_parallel_provider.engine.interfaces.failed_part import FailedPart
from airflow_parallel_provider.errors import SourceError
from airflow_parallel_provider.sources.files.formats.csv.csv_options import CsvOptions
from airflow_parallel_provider.sources.files.formats.text_lines import TextLines
from airflow_parallel_provider.values.items import FileRow, SourceLine

_CHANGING_LIMIT = threading.Lock()

_SEPARATOR_LINE = re.compile(r'"?sep=(.)"?\s*', re.IGNORECASE)
"""The first line of a file, in which Excel looks for the separator."""


def csv_rows(
    lines: TextLines,
    options: CsvOptions,
    *,
    delimiter: str | None,
    columns: Sequence[str] | None = None,
    numbered: bool = False,
) -> Iterator[dict[Any, Any] | FailedPart]:
    """Yield the rows as dicts, and a failed part for each record that cannot be read.

    :param options: strict unless they say otherwise.
    :param delimiter: what the file's name says, unless the options say otherwise.
    :param columns: of a record that a dead letter holds, or behind the header; None: the header is read.
    :param numbered: whether rows know their lines, as a :class:`FileRow` does.
    :raises SourceError: for a header whose columns would hide each other, and for a value in a column without a name.
    """
    _allow_fields_of(options.field_size_limit)
    feed = iter(lines)
    if columns is None:
        feed, said = _without_separator_line(feed, lines)
        delimiter = said or delimiter
        _skip(feed, lines, options.skiprows)
        if options.comment is not None:
            feed = _without_comments(feed, lines, options.comment)
    defaults: dict[str, Any] = {"strict": True} if delimiter is None else {"strict": True, "delimiter": delimiter}
    reader = csv.reader(feed, **{**defaults, **options.reader})
    first: list[str] | None = None
    if columns is not None:
        names = list(columns)
    else:
        head = _header(reader, lines) if options.header or not options.fieldnames else []
        names = list(options.fieldnames) or (head if options.header else [f"column{at}" for at in range(len(head))])
        first = None if options.header or options.fieldnames else head
    _require_names(names, lines)
    records = _Records(reader, lines, names, options=options, delimiter=delimiter, first=first)
    yield from records.numbered() if numbered else records


def _allow_fields_of(characters: int) -> None:
    """Raise the limit of the module ``csv``, which holds for the whole process; never lower it."""
    with _CHANGING_LIMIT:
        if csv.field_size_limit() < characters:
            csv.field_size_limit(characters)


def _skip(feed: Iterator[str], lines: TextLines, count: int) -> None:
    for _ in range(count):
        if next(feed, None) is None:
            return
        lines.begin_record()


def _without_comments(feed: Iterator[str], lines: TextLines, mark: str) -> Iterator[str]:
    """The lines but those that begin with a mark, if a record begins there: within quotes they are text."""
    for line in feed:
        if len(lines.record) == 1 and line.startswith(mark):
            lines.begin_record()
        else:
            yield line


def _without_separator_line(feed: Iterator[str], lines: TextLines) -> tuple[Iterator[str], str | None]:
    """The lines behind ``sep=;``, if the first line is that, and the separator."""
    first = next(feed, None)
    if first is None:
        return feed, None
    found = _SEPARATOR_LINE.fullmatch(first)
    if found is not None:
        lines.begin_record()
        return feed, found[1]
    return _chained(first, feed), None


def _chained(first: str, rest: Iterable[str]) -> Iterator[str]:
    yield first
    yield from rest


def _header(reader: Iterator[list[str]], lines: TextLines) -> list[str]:
    """The first record that is not empty."""
    names: list[str] = []
    try:
        while not (names := next(reader)):
            lines.begin_record()
    except StopIteration:
        return []
    except (csv.Error, ValueError) as error:
        raise SourceError(f"{lines.shown}, line {lines.number}: {_with_cure(str(error))}") from None
    if lines.undecoded:
        raise SourceError(f"{lines.shown}, line {lines.first_line}: {lines.undecoded_text()}")
    return names


def _with_cure(reason: str) -> str:
    if not reason.startswith("field larger"):
        return reason
    most = f"{csv.field_size_limit():,}"
    return f"a field of more than {most} characters: a quote is not closed, or csv_options={{'field_size_limit': ...}}"


def _repeated(names: list[Any]) -> Any:
    return next((name for at, name in enumerate(names) if name in names[:at]), None)


def _require_names(names: list[str], lines: TextLines) -> None:
    """A row is a dict, which would keep the last of two fields of one name."""
    repeated = _repeated([name for name in names if not _is_empty(name)])
    if repeated is not None:
        cure = "rename one, or give csv_options={'header': True, 'fieldnames': [...]}"
        raise SourceError(f"{lines.shown}, line {max(lines.number, 1)}: two columns have the name {repeated!r}: {cure}")


def _is_empty(name: object) -> bool:
    return isinstance(name, str) and not name.strip()


class _Records:
    """Iterates over the records after the header."""

    def __init__(
        self,
        reader: Any,
        lines: TextLines,
        names: list[str],
        *,
        options: CsvOptions,
        delimiter: str | None,
        first: list[str] | None,
    ) -> None:
        self._reader = reader
        self._lines = lines
        self._names = names
        self._width = len(names)
        self._nameless = [at for at, name in enumerate(names) if _is_empty(name)]
        self._restkey = options.restkey
        self._restval = options.restval
        self._delimiter = delimiter
        self._first = first
        self._options = options
        self._finishers = self._checked_finishers()

    def _checked_finishers(self) -> list[tuple[Any, Callable[[Any], Any]]]:
        options, line = self._options, max(self._lines.number, 1)
        try:
            found = options.finishers(self._names)
        except ValueError as error:
            raise SourceError(f"{self._lines.shown}, line {line}: {error}") from None
        taken = next((name for name in (options.filename, options.line_number) if name in self._names), None)
        if taken is not None:
            cure = "give filename= or line_number= another name"
            raise SourceError(f"{self._lines.shown}, line {line}: the file has a column {taken!r} itself: {cure}")
        return found

    def __iter__(self) -> Iterator[dict[Any, Any] | FailedPart]:
        options = self._options
        if not (self._finishers or options.filename or options.line_number):
            yield from self._rows()
            return
        for row in self._rows():
            yield row if isinstance(row, FailedPart) else self._finished(row)

    def numbered(self) -> Iterator[FileRow | FailedPart]:
        """The rows, each with its line."""
        for row in self:
            if isinstance(row, FailedPart):
                yield row
            else:
                known = FileRow(row)
                known.line = self._lines.first_line
                yield known

    def _finished(self, row: dict[Any, Any]) -> dict[Any, Any] | FailedPart:
        """The row with values in place of texts, and the columns that say where it is from."""
        for name, convert in self._finishers:
            try:
                row[name] = convert(row[name])
            except (ValueError, ArithmeticError) as error:  # a Decimal raises the latter
                return self._failed(f"column {name!r}: {error}")
        if self._options.filename is not None:
            row[self._options.filename] = self._lines.shown
        if self._options.line_number is not None:
            row[self._options.line_number] = self._lines.first_line
        return row

    def _rows(self) -> Iterator[dict[Any, Any] | FailedPart]:
        reader, lines, names, width = self._reader, self._lines, self._names, self._width
        plain = not self._nameless
        if self._first:
            yield dict(zip(names, self._first, strict=True))
        while True:
            lines.begin_record()
            try:
                values = next(reader)
            except StopIteration:
                return
            except (csv.Error, ValueError) as error:
                yield self._failed(_with_cure(str(error)))
                continue
            if lines.undecoded:
                yield self._failed(lines.undecoded_text())
            elif plain and len(values) == width:
                yield dict(zip(names, values, strict=True))
            elif values or width == 1:  # a blank line is a record without a value, if there is only one column
                yield self._uneven(values or [""])

    def _uneven(self, values: list[Any]) -> dict[Any, Any] | FailedPart:
        row: dict[Any, Any]
        if len(values) < self._width and self._restval is None:
            return self._failed(self._count(values))
        if len(values) > self._width and self._restkey is None:
            return self._failed(self._count(values))
        row = dict(zip(self._names, values, strict=False))
        for name in self._names[len(values) :]:
            row[name] = self._restval
        if len(values) > self._width:
            row[self._restkey] = values[self._width :]
        self._drop_nameless(row, values)
        return row

    def _drop_nameless(self, row: dict[Any, Any], values: list[Any]) -> None:
        """Spreadsheets leave empty columns behind the others. What has a value must have a name."""
        for at in self._nameless:
            if at < len(values) and values[at] not in ("", None):
                raise SourceError(
                    f"{self._lines.shown}, line {self._lines.first_line}: there is a value in column {at + 1}, which "
                    "has no name in the header: name it there, or give csv_options={'header': True, 'fieldnames': "
                    "[...]}"
                )
            row.pop(self._names[at], None)

    def _count(self, values: list[Any]) -> str:
        fields = "1 field" if len(values) == 1 else f"{len(values)} fields"
        return f"{fields}, but there are {self._width} columns"

    def _failed(self, reason: str) -> FailedPart:
        lines = self._lines
        line = SourceLine(
            path=lines.shown,
            line=lines.first_line,
            text="".join(lines.record),
            format="csv",
            encoding=lines.encoding,
            columns=tuple(self._names),
            delimiter=self._delimiter,
        )
        return FailedPart(line, "ValueError", f"{lines.shown}, line {lines.first_line}: {reason}")
