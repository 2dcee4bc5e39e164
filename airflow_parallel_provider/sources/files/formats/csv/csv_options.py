# SPDX-License-Identifier: Apache-2.0
"""What an author may say of CSV files: options of ``csv.DictReader``, and those that it lacks."""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from airflow_parallel_provider.sources.files.formats.csv.csv_formats import checked_format, converter

LARGEST_FIELD = 16 << 20
"""Characters. A quote that is not closed takes in what follows, so there must be a bound."""

_OF_ROWS = ("fieldnames", "restkey", "restval")
"""Arguments of ``csv.DictReader`` that ``csv.reader`` does not take."""


@dataclass(frozen=True, slots=True)
class CsvOptions:
    """The options of CSV, checked."""

    reader: Mapping[str, Any] = field(default_factory=dict)
    """For ``csv.reader``."""
    fieldnames: tuple[Any, ...] = ()
    restkey: Any = None
    restval: Any = None
    header: bool = True
    """Whether the file has a header."""
    skiprows: int = 0
    """Lines before the header."""
    comment: str | None = None
    """What a line begins with that is no record."""
    nulls: frozenset[str] = frozenset()
    """Texts that stand for NULL in every column that :attr:`nulls_by_column` does not name."""
    nulls_by_column: Mapping[str, frozenset[str]] = field(default_factory=dict)
    formats: Mapping[str, Any] = field(default_factory=dict)
    filename: str | None = None
    """Column for the name of the file."""
    line_number: str | None = None
    """Column for the number of the record's first line."""
    field_size_limit: int = LARGEST_FIELD

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> CsvOptions:
        """The options of what an author gave.

        :raises TypeError: for an option that is none; also ValueError and AttributeError.
        """
        own = {name: given[name] for name in _CHECKS if name in given}
        rest = {name: value for name, value in given.items() if name not in _CHECKS}
        csv.DictReader((), **{"strict": True, **rest})
        fieldnames = tuple(rest.get("fieldnames") or ())
        repeated = next((name for at, name in enumerate(fieldnames) if name in fieldnames[:at]), None)
        if repeated is not None:
            raise ValueError(f"fieldnames has {repeated!r} twice")
        checked = {name: _CHECKS[name](value) for name, value in own.items()}
        nulls, by_column = checked.pop("na_values", (frozenset(), {}))
        found = cls(
            reader={name: value for name, value in rest.items() if name not in _OF_ROWS},
            fieldnames=fieldnames,
            restkey=rest.get("restkey"),
            restval=rest.get("restval"),
            nulls=nulls,
            nulls_by_column=by_column,
            **{"header": not fieldnames, **checked},
        )
        found._check_together()
        return found

    def _check_together(self) -> None:
        if self.comment is not None and self.comment in (self.reader.get("delimiter", ","), self._quote()):
            raise ValueError(f"comment={self.comment!r} is the delimiter or the quote as well")
        added = [name for name in (self.filename, self.line_number) if name is not None]
        if len(set(added)) < len(added):
            raise ValueError(f"filename and line_number name the same column {added[0]!r}")
        taken = next((name for name in added if name in self.fieldnames), None)
        if taken is not None:
            raise ValueError(f"fieldnames has the column {taken!r} of filename or line_number, too")
        named = [*self.formats, *self.nulls_by_column]
        unknown = next((name for name in named if self.fieldnames and name not in self.fieldnames), None)
        if unknown is not None:
            raise ValueError(f"formats or na_values has a column {unknown!r}, which fieldnames does not have")

    def _quote(self) -> Any:
        return self.reader.get("quotechar", '"')

    def finishers(self, names: Sequence[Any]) -> list[tuple[Any, Callable[[Any], Any]]]:
        """For each column whose texts are not the values, the function that makes them.

        :raises ValueError: for an option that names a column which the file does not have.
        """
        unknown = next((name for name in (*self.formats, *self.nulls_by_column) if name not in names), None)
        if unknown is not None:
            raise ValueError(f"formats or na_values has a column {unknown!r}, which the file does not have")
        found = []
        for name in names:
            nulls = self.nulls_by_column.get(name, self.nulls)
            has_name = not isinstance(name, str) or bool(name.strip())
            if has_name and (nulls or name in self.formats):
                found.append((name, converter(nulls, self.formats.get(name))))
        return found


def _header(value: Any) -> bool:
    if value not in (True, False, None):
        raise TypeError("header is True or False")
    return bool(value)


def _whole(least: int) -> Callable[[Any], int]:
    def check(value: Any) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise ValueError(f"skiprows and field_size_limit are whole numbers, at least {least}")
        return value

    return check


def _text(what: str, *, longest: int | None = None) -> Callable[[Any], str | None]:
    def check(value: Any) -> str | None:
        if value is None:
            return None
        if not isinstance(value, str) or not value or (longest is not None and len(value) > longest):
            raise TypeError(f"{what} is a text{' of one character' if longest == 1 else ''}")
        return value

    return check


def _na_values(given: Any) -> tuple[frozenset[str], Mapping[str, frozenset[str]]]:
    if isinstance(given, Mapping):
        return frozenset(), {name: _texts(values) for name, values in given.items()}
    return _texts(given), {}


def _texts(given: Any) -> frozenset[str]:
    values = [given] if isinstance(given, str) else list(given)
    if not all(isinstance(value, str) for value in values):
        raise TypeError("na_values is a list of texts, or such a list by column: {'price': ['NA', '']}")
    return frozenset(values)


def _formats(given: Any) -> Mapping[str, Any]:
    if not isinstance(given, Mapping):
        raise TypeError("formats is a dict by column: {'day': '%d.%m.%Y', 'price': {'decimal': ','}}")
    return {name: checked_format(name, value) for name, value in given.items()}


_CHECKS: Mapping[str, Callable[[Any], Any]] = {
    "header": _header,
    "skiprows": _whole(0),
    "comment": _text("comment", longest=1),
    "na_values": _na_values,
    "formats": _formats,
    "filename": _text("filename"),
    "line_number": _text("line_number"),
    "field_size_limit": _whole(1),
}
"""The options that ``csv.DictReader`` lacks, with the names that pandas has for most of them."""
