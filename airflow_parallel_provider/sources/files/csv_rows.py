"""The rows of a CSV text. A record that cannot be read fails alone; a header that loses values fails the file."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from airflow_parallel_provider.engine.interfaces.failed_part import FailedPart
from airflow_parallel_provider.errors import SourceError
from airflow_parallel_provider.sources.files.text_lines import TextLines
from airflow_parallel_provider.values.items import SourceLine

_SEPARATOR_LINE = re.compile(r'"?sep=(.)"?\s*', re.IGNORECASE)
"""The first line of a file, in which Excel looks for the separator."""

_OF_ROWS = ("fieldnames", "restkey", "restval")
"""Arguments of ``csv.DictReader`` that ``csv.reader`` does not take."""


def check_csv_options(options: Mapping[str, Any]) -> None:
    """Check what an author gave as ``csv_options``.

    :raises TypeError: for options that ``csv.DictReader`` does not take; also ValueError and AttributeError.
    """
    csv.DictReader((), **{"strict": True, **options})
    repeated = _repeated(list(options.get("fieldnames") or ()))
    if repeated is not None:
        raise ValueError(f"fieldnames has {repeated!r} twice")


def csv_rows(
    lines: TextLines, options: Mapping[str, Any], *, delimiter: str | None, columns: Sequence[str] | None = None
) -> Iterator[dict[Any, Any] | FailedPart]:
    """Yield the rows as dicts, and a failed part for each record that cannot be read.

    :param options: as ``csv.DictReader`` takes them; strict unless they say otherwise.
    :param delimiter: what the file's name says, unless the options say otherwise.
    :param columns: of a record that a dead letter holds; None: the header is read.
    :raises SourceError: for a header whose columns would hide each other, and for a value in a column without a name.
    """
    feed = iter(lines)
    if columns is None:
        feed, said = _without_separator_line(feed, lines)
        delimiter = said or delimiter
    given = {name: value for name, value in options.items() if name not in _OF_ROWS}
    defaults: dict[str, Any] = {"strict": True} if delimiter is None else {"strict": True, "delimiter": delimiter}
    reader = csv.reader(feed, **{**defaults, **given})
    names = list(options.get("fieldnames") or columns or _header(reader, lines))
    _require_names(names, lines)
    yield from _Records(reader, lines, names, options, delimiter)


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


def _header(reader: Any, lines: TextLines) -> list[str]:
    try:
        names: list[str] = next((record for record in reader if record), [])
    except (csv.Error, ValueError) as error:
        raise SourceError(f"{lines.shown}, line {lines.number}: {error}") from None
    if lines.undecoded:
        raise SourceError(f"{lines.shown}, line {lines.first_line}: {lines.undecoded_text()}")
    return names


def _repeated(names: list[Any]) -> Any:
    return next((name for at, name in enumerate(names) if name in names[:at]), None)


def _require_names(names: list[str], lines: TextLines) -> None:
    """A row is a dict, which would keep the last of two fields of one name."""
    repeated = _repeated([name for name in names if not _is_empty(name)])
    if repeated is not None:
        cure = "rename one, or give csv_options={'fieldnames': [...]} and drop the first row in transform="
        raise SourceError(f"{lines.shown}, line {max(lines.number, 1)}: two columns have the name {repeated!r}: {cure}")


def _is_empty(name: object) -> bool:
    return isinstance(name, str) and not name.strip()


class _Records:
    """Iterates over the records after the header."""

    def __init__(
        self, reader: Any, lines: TextLines, names: list[str], options: Mapping[str, Any], delimiter: str | None
    ) -> None:
        self._reader = reader
        self._lines = lines
        self._names = names
        self._width = len(names)
        self._nameless = [at for at, name in enumerate(names) if _is_empty(name)]
        self._restkey = options.get("restkey")
        self._restval = options.get("restval")
        self._delimiter = delimiter

    def __iter__(self) -> Iterator[dict[Any, Any] | FailedPart]:
        reader, lines, names, width = self._reader, self._lines, self._names, self._width
        plain = not self._nameless
        while True:
            lines.begin_record()
            try:
                values = next(reader)
            except StopIteration:
                return
            except (csv.Error, ValueError) as error:
                yield self._failed(str(error))
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
                    "has no name in the header: name it there, or give csv_options={'fieldnames': [...]} and drop the "
                    "first row in transform="
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
