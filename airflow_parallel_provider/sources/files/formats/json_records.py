# SPDX-License-Identifier: Apache-2.0
"""The records of a JSON document, one after the other: only one of them is in memory.

Each is decoded by :func:`.json_text.decode_at`, so the values are those of a document that is read as a whole.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator
from typing import IO, Any

from airflow_parallel_provider.errors import SourceError
from airflow_parallel_provider.sources.files.formats.text_lines import MARK
from airflow_parallel_provider.values import json_text

_PIECE = 1 << 20
"""Bytes that are read at once."""

_NEAR = 16
"""An error in the last so many characters may come from a value that goes on behind them: none has a longer name, and
an unfinished text has an error of its own."""

_BLANKS = re.compile(r"[ \t\n\r]*")
_KNOWN = 5
"""Most names that an error lists."""


def flat_object(line: str) -> dict[str, Any] | None:
    """The object on a line of JSON, read three times as fast as ``loads`` does; None: let that one read it.

    A line has at least one colon for each key. With no more colons than the object has keys, no key occurs twice, and
    no value is an object.
    """
    try:
        made, end = json_text.scan_unchecked(line, 0)
    except (ValueError, StopIteration, RecursionError):
        return None
    plain = type(made) is dict and line.count(":") == len(made) and line[end:] in _LINE_ENDS
    return made if plain else None


_LINE_ENDS = ("\n", "\r\n", "")


def json_records(stream: IO[bytes], encoding: str, place: str | None, most: int) -> Iterator[Any]:
    """Yield the records of a document.

    :param encoding: of the text; a byte-order mark at the beginning is skipped.
    :param place: names with dots (``"data.items"``); None: the document is the list, or the only record.
    :param most: characters of a record, and of every other value that is outside the list of records.
    :raises ValueError: if it is not JSON, an object names a key twice, or there is nothing at that place. Says where.
        All that comes before has been yielded by then.
    :raises SourceError: for a longer record.
    """
    text = _Text(stream, encoding, most)
    yield from _records(text, [] if place is None else place.split("."), 0)
    if text.peek():
        raise text.error("Extra data")


def _records(text: _Text, names: list[str], depth: int) -> Iterator[Any]:
    """The records of the value that begins here."""
    path = ".".join(names[:depth])
    if depth == len(names):
        if text.peek() == "[":
            yield from text.elements(path)
        elif (value := text.value(path)) is not None or not names:
            yield value
        return
    seen: dict[str, None] = {}
    if text.peek() == "{":
        for key in text.keys(seen, path):
            if key == names[depth]:
                yield from _records(text, names, depth + 1)
            else:
                text.skip(f"{path}.{key}".lstrip("."))
        if names[depth] in seen:
            return
        known = ", ".join(map(repr, list(seen)[:_KNOWN])) or "nothing"
    else:
        known = "list" if text.peek() == "[" else type(text.value(path)).__name__
    where = f" at {path!r}" if path else ""
    place = ".".join(names)
    raise ValueError(f"there is nothing at records={place!r}: no {names[depth]!r}{where}, which has {known}")


class _Text:
    """A text of JSON that is read piece by piece. The cursor is at the beginning of a value, or between two."""

    def __init__(self, stream: IO[bytes], encoding: str, most: int) -> None:
        name = codecs.lookup(encoding).name.removesuffix("-sig")
        self._encoding = name
        self._stream = stream
        self._decoder = codecs.getincrementaldecoder(name)()
        self._most = most
        self._buffer = ""
        self._at = 0
        self._ended = False
        self._bytes = 0  # read so far
        self._before = 0  # characters before the buffer
        self._lines = 0  # line ends before the buffer
        self._line_start = 0  # place in the text where the line of the buffer's first character begins
        if self._more():
            self._buffer = self._buffer.removeprefix(MARK)

    def peek(self) -> str:
        """The next character that is no blank; empty at the end of the text."""
        while True:
            found = _BLANKS.match(self._buffer, self._at)
            self._at = found.end() if found else self._at
            if self._at < len(self._buffer):
                return self._buffer[self._at]
            if not self._more():
                return ""

    def value(self, path: str) -> Any:
        """Decode the value that begins here.

        :param path: to it, for errors.
        """
        self.peek()
        while True:
            try:
                value, end = json_text.decode_at(self._buffer, self._at, path)
            except json.JSONDecodeError as error:
                if self._may_go_on(error) and self._more():
                    continue
                raise self.error(error.msg, error.pos) from None
            except RecursionError:
                raise ValueError("nested too deeply") from None
            if self._may_be_cut(end) and self._more():
                continue
            self._at = end
            return value

    def elements(self, path: str) -> Iterator[Any]:
        """The elements of the list that begins here."""
        self._at += 1
        if self._closes("]"):
            return
        count = 0
        while True:
            yield self.value(f"{path}[{count}]")
            count += 1
            if self._closes("]"):
                return
            self._pass(",")

    def keys(self, seen: dict[str, None], path: str) -> Iterator[str]:
        """The keys of the object that begins here. Whoever gets one reads its value."""
        self._at += 1
        if self._closes("}"):
            return
        while True:
            if self.peek() != '"':
                raise self.error("Expecting property name enclosed in double quotes")
            key = str(self.value(path))
            if key in seen:
                raise ValueError(json_text.named_twice(key))
            seen[key] = None
            self._pass(":")
            yield key
            if self._closes("}"):
                return
            self._pass(",")

    def skip(self, path: str) -> None:
        """Read a value that nobody needs, a list element by element."""
        if self.peek() == "[":
            for _ in self.elements(path):
                pass
        else:
            self.value(path)

    def error(self, reason: str, at: int | None = None) -> ValueError:
        """An error that names the place in the file, as :mod:`json` does."""
        at = self._at if at is None else at
        last = self._buffer.rfind("\n", 0, at)
        line = self._lines + self._buffer.count("\n", 0, at) + 1
        start = self._line_start if last < 0 else self._before + last + 1
        char = self._before + at
        return ValueError(f"{reason}: line {line} column {char - start + 1} (char {char})")

    def _closes(self, bracket: str) -> bool:
        if self.peek() != bracket:
            return False
        self._at += 1
        return True

    def _pass(self, sign: str) -> None:
        if self.peek() != sign:
            raise self.error(f"Expecting {sign!r} delimiter")
        self._at += 1

    def _may_go_on(self, error: json.JSONDecodeError) -> bool:
        return error.msg.startswith("Unterminated string") or error.pos >= len(self._buffer) - _NEAR

    def _may_be_cut(self, end: int) -> bool:
        """Whether a value may go on behind the buffer: it is a number, and there is nothing that ends it."""
        rest = self._buffer[end : end + 3]
        return end + len(rest) == len(self._buffer) and not rest.strip(".eE+-") and self._buffer[end - 1] not in '}]"'

    def _more(self) -> bool:
        """Read on; forget what the cursor has passed. False at the end of the text."""
        if self._ended:
            return False
        if len(self._buffer) - self._at > self._most:
            raise SourceError(
                f"a record of more than largest_text={self._most:,} bytes: give FilesSource(largest_text=) more, or "
                "say with records= where the list of records is"
            )
        # Twice as much each time, since the record is decoded from its beginning again.
        read = self._read(max(_PIECE, len(self._buffer) - self._at))
        if not read:
            return False
        passed = self._buffer[: self._at]
        last = passed.rfind("\n")
        if last >= 0:
            self._line_start = self._before + last + 1
        self._lines += passed.count("\n")
        self._before += len(passed)
        self._buffer, self._at = self._buffer[self._at :] + read, 0
        return True

    def _read(self, size: int) -> str:
        pieces: list[str] = []
        while not any(pieces) and not self._ended:
            content = self._stream.read(size)
            self._ended = not content
            pending = len(self._decoder.getstate()[0])
            try:
                pieces.append(self._decoder.decode(content, final=self._ended))
            except UnicodeDecodeError as error:
                byte, at = error.object[error.start], self._bytes - pending + error.start
                raise ValueError(
                    f"byte 0x{byte:02x} at {at} is not {self._encoding}: name the encoding of the file, e.g. "
                    "encoding='cp1252'"
                ) from None
            self._bytes += len(content)
        return "".join(pieces)
