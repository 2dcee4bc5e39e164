# SPDX-License-Identifier: Apache-2.0
"""Rows as the lines of PostgreSQL's COPY, which go from one table into another without becoming Python objects.

Both tables must have columns of the very same types. Then each value is written and read by the same functions of
PostgreSQL, and nothing can change: ``infinity``, ``24:00``, every digit, lower bounds of arrays.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

SETTINGS: Final = (
    "SET LOCAL DateStyle TO 'ISO, YMD'; SET LOCAL IntervalStyle TO 'postgres'; SET LOCAL extra_float_digits TO 1"
)
"""For the transaction: dates and intervals are written and read alike, and floats with all their digits."""

_ESCAPES = {b"b": b"\b", b"f": b"\f", b"n": b"\n", b"r": b"\r", b"t": b"\t", b"v": b"\v"}
_ESCAPED = re.compile(rb"\\(.)", re.DOTALL)


@dataclass(slots=True)
class CopyLines:
    """What a table offers to take: lines of COPY in place of rows."""

    types: Mapping[str, str]
    """Column -> its type, of those whose values can be copied."""
    names: tuple[str, ...] = ()
    """Set by a source that sends lines: the columns in each of them."""


class LineRows(Sequence[tuple[Any, ...]]):
    """Lines of COPY as rows: tuples of texts, where a row has to be looked at.

    :param lines: each with its line end.
    """

    def __init__(self, lines: Sequence[bytes]) -> None:
        self.lines = lines

    def __len__(self) -> int:
        """Number of rows."""
        return len(self.lines)

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        """The rows."""
        return map(texts_of, self.lines)

    def __getitem__(self, at: Any) -> Any:
        """One row, or a list of rows for a slice."""
        return list(map(texts_of, self.lines[at])) if isinstance(at, slice) else texts_of(self.lines[at])

    def numbered(self) -> LineRows:
        """The same rows with their number at the end."""
        return LineRows([b"%b\t%d\n" % (line[:-1], at) for at, line in enumerate(self.lines)])


def texts_of(line: bytes) -> tuple[str | None, ...]:
    """The values of a line, as PostgreSQL writes them; None is NULL."""
    fields = line.removesuffix(b"\n").split(b"\t")
    return tuple(None if text == b"\\N" else _ESCAPED.sub(_unescaped, text).decode() for text in fields)


def _unescaped(found: re.Match[bytes]) -> bytes:
    return _ESCAPES.get(found[1], found[1])
