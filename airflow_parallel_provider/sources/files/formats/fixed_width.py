# SPDX-License-Identifier: Apache-2.0
"""The rows of a text in which each column has its place in the line."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from airflow_parallel_provider.engine.interfaces.failed_part import FailedPart
from airflow_parallel_provider.errors import SourceError
from airflow_parallel_provider.sources.files.formats.csv.csv_options import CsvOptions
from airflow_parallel_provider.sources.files.formats.text_lines import TextLines
from airflow_parallel_provider.values.items import SourceLine

_SHARED = ("skiprows", "comment", "na_values", "formats", "filename", "line_number")
"""Options that mean what they mean for CSV."""


@dataclass(frozen=True, slots=True)
class FixedWidthOptions:
    """The options of fixed width, checked."""

    places: Mapping[str, tuple[int, int]]
    """First character of each column, from 0, and the one after its last."""
    to_end: bool
    """Whether the columns are given by widths: then nothing may stand behind them."""
    strip: bool
    pad: bool
    shared: CsvOptions

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> FixedWidthOptions:
        """The options of what an author gave.

        :raises TypeError: for what is no option; also ValueError.
        """
        unknown = next((name for name in given if name not in (*_SHARED, "columns", "strip", "pad")), None)
        if unknown is not None:
            raise TypeError(f"there is no option {unknown!r}")
        columns = given.get("columns")
        if not isinstance(columns, Mapping) or not columns:
            raise TypeError("columns is a dict of widths, or of places: {'id': 8, 'name': 20} or {'name': (8, 28)}")
        for name in ("strip", "pad"):
            if not isinstance(given.get(name, True), bool):
                raise TypeError(f"{name} is True or False")
        places, kinds, end = {}, set(), 0
        for name, value in columns.items():
            if not isinstance(name, str) or not name:
                raise TypeError(f"the name of a column is a text, not {name!r}")
            begin, end = _place(name, value, end)
            places[name] = (begin, end)
            kinds.add(type(value) is int)
        if len(kinds) > 1:
            raise TypeError("columns has widths and places: give one of them for all")
        shared = CsvOptions.of({"fieldnames": list(places), **{name: given[name] for name in _SHARED if name in given}})
        return cls(places, kinds == {True}, given.get("strip", True), given.get("pad", False), shared)


def _place(name: str, given: Any, end: int) -> tuple[int, int]:
    if type(given) is int and given > 0:
        return end, end + given
    pair = tuple(given) if isinstance(given, (tuple, list)) else ()
    if len(pair) == 2 and all(type(each) is int for each in pair) and 0 <= pair[0] < pair[1]:
        return pair
    raise ValueError(f"the width of {name!r} is a number of characters, or its place (begin, end), from 0")


def fixed_width_rows(lines: TextLines, options: FixedWidthOptions, *, skip: bool = True) -> Iterator[Any]:
    """Yield the rows as dicts of texts, and a failed part for each line that cannot be read.

    :param skip: whether lines before the rows, and comments, are left out: not of a line that a dead letter holds.
    :raises SourceError: if columns for the name of the file or line have the name of another one.
    """
    shared = options.shared
    try:
        finishers = shared.finishers(list(options.places))
    except ValueError as error:
        raise SourceError(f"{lines.shown}: {error}") from None
    feed = iter(lines)
    for _ in range(shared.skiprows if skip else 0):
        next(feed, None)
    lines.begin_record()
    for line in feed:
        text = line.rstrip("\r\n")
        is_comment = skip and shared.comment is not None and text.startswith(shared.comment)
        if text.strip() and not is_comment:
            yield _row(lines, text, options, finishers)
        lines.begin_record()


def _row(
    lines: TextLines, text: str, options: FixedWidthOptions, finishers: list[tuple[Any, Callable[[Any], Any]]]
) -> dict[str, Any] | FailedPart:
    if lines.undecoded:
        return _failed(lines, lines.undecoded_text())
    end = max(place[1] for place in options.places.values())
    if len(text) < end and not options.pad:
        return _failed(lines, f"{len(text)} characters, but the columns go to {end}: pad=True reads short lines")
    if options.to_end and text[end:].strip():
        return _failed(lines, f"{len(text)} characters, but the columns end at {end}")
    row: dict[str, Any] = {name: text[begin:end] for name, (begin, end) in options.places.items()}
    if options.strip:
        row = {name: value.strip(" ") for name, value in row.items()}
    for name, convert in finishers:
        try:
            row[name] = convert(row[name])
        except (ValueError, ArithmeticError) as error:
            return _failed(lines, f"column {name!r}: {error}")
    if options.shared.filename is not None:
        row[options.shared.filename] = lines.shown
    if options.shared.line_number is not None:
        row[options.shared.line_number] = lines.first_line
    return row


def _failed(lines: TextLines, reason: str) -> FailedPart:
    line = SourceLine(lines.shown, lines.first_line, "".join(lines.record), "fixed_width", lines.encoding)
    return FailedPart(line, "ValueError", f"{lines.shown}, line {line.line}: {reason}")
