# SPDX-License-Identifier: Apache-2.0
"""The lines of a text file: which of them belong to a record, and whether all can be decoded."""

from __future__ import annotations

import codecs
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import IO, Any

from airflow_parallel_provider.values.items import SourceLine

MARK = "\ufeff"
"""The byte-order mark."""

_WIDE = ("utf-16", "utf-32")
"""Encodings in which the byte of a line end may be half of another character."""

_UNDECODED = re.compile("[\udc80-\udcff]")
"""What stands for a byte that cannot be decoded."""

LARGEST_TEXT = 256 << 20
"""Bytes of a line, or of a record of JSON. What is larger is not a text, or a bomb: few bytes that unpack to many."""


def is_wide(encoding: str) -> bool:
    """Whether a text must be decoded before it can be cut into lines."""
    return codecs.lookup(encoding).name.startswith(_WIDE)


@dataclass(slots=True)
class TextLines:
    """Iterates over the lines of a text, each with its end, without a byte-order mark.

    A line ends at any kind of line end: a line break within quotes is part of a CSV field.
    """

    text: Any
    """Gives the lines."""
    shown: str
    """The file, for error texts."""
    encoding: str
    number: int = 0
    """Lines read so far."""
    record: list[str] = field(default_factory=list)
    """Lines read since :meth:`begin_record`."""
    undecoded: bool = False
    """Whether one of them holds bytes that cannot be decoded."""

    @classmethod
    def of_stream(cls, stream: IO[bytes], encoding: str, shown: str) -> TextLines:
        """The lines of a file."""
        name = codecs.lookup(encoding).name.removesuffix("-sig")
        errors = "strict" if name.startswith(_WIDE) else "surrogateescape"
        return cls(io.TextIOWrapper(stream, name, errors=errors, newline=""), shown, name)

    @classmethod
    def of_item(cls, item: SourceLine, encoding: str) -> TextLines:
        """The lines of a dead letter, decoded as they now should be."""
        name = codecs.lookup(encoding).name.removesuffix("-sig")
        text = item.text
        if name != item.encoding:
            text = text.encode(item.encoding, "surrogateescape").decode(name, "surrogateescape")
        return cls(io.StringIO(text, newline=""), item.path, name, number=item.line - 1)

    def __iter__(self) -> Iterator[str]:
        """The lines."""
        lines = iter(self.text)
        for first in lines:
            first = first if self.number else first.removeprefix(MARK)  # noqa: PLW2901
            yield self._read(first)
            break
        for line in lines:
            yield self._read(line)

    def _read(self, line: str) -> str:
        self.number += 1
        self.record.append(line)
        if not line.isascii() and _UNDECODED.search(line):
            self.undecoded = True
        return line

    def begin_record(self) -> None:
        """The next line is the first one of a record."""
        self.record.clear()
        self.undecoded = False

    @property
    def first_line(self) -> int:
        """Number of the record's first line."""
        return self.number - len(self.record) + 1

    def undecoded_text(self) -> str:
        """Which byte of the record cannot be decoded, and what to do."""
        for at, line in enumerate(self.record):
            found = _UNDECODED.search(line)
            if found is not None:
                byte, more = ord(found[0]) - 0xDC00, f" of line {self.first_line + at}" if at else ""
                return (
                    f"byte 0x{byte:02x} at character {found.start() + 1}{more} is not {self.encoding}: name the "
                    "encoding of the file, e.g. encoding='cp1252'"
                )
        return ""
