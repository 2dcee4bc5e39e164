# SPDX-License-Identifier: Apache-2.0
"""What packed files hold: gzip, bz2, xz and zstd streams, and the members of a zip archive.

A packed file that is cut off is an error. The file objects of fsspec give a part of its content instead (zstd), or the
first member only (zip).
"""

from __future__ import annotations

import bz2
import fnmatch
import gzip
import io
import lzma
import stat
import zipfile
from collections.abc import Iterator
from contextlib import closing
from typing import IO, Any

from airflow_parallel_provider.errors import SourceError

_BY_SUFFIX = {
    ".gz": "gzip",
    ".bz2": "bz2",
    ".xz": "xz",
    ".lzma": "lzma",
    ".zip": "zip",
    ".zst": "zstd",
}

PACKED_SUFFIXES = tuple(_BY_SUFFIX)

_OTHER_NAMES = {"gz": "gzip", "zst": "zstd"}

_NEEDS = {
    ".lz4": "pip install lz4",
    ".snappy": "unpack it first",
    ".br": "unpack it first",
    ".z": "unpack it first",
    ".7z": "unpack it first",
    ".rar": "unpack it first",
}
"""Suffixes of packed files that nothing here reads, and what helps."""

_MAGIC = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bz2",
    b"\xfd7zXZ\x00": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"PK\x03\x04": "zip",
    b"PK\x05\x06": "zip",
}
"""How packed files begin."""

_TAR_AT, _TAR = 257, b"ustar"

_BUFFER = 1 << 18

_PIECE = 2 << 10
"""Bytes of zstd that are unpacked at a time: at most 64 MiB of content, since a block is at least four bytes."""


def compression_of(name: str, given: str | None) -> str | None:
    """The compression of a file; None: it is not packed.

    :param given: ``"infer"`` from its name, a name of a compression (as fsspec knows it), or None.
    :raises SourceError: if the name says that the file is packed in a way that cannot be read here.
    """
    if given != "infer":
        return None if given is None else _OTHER_NAMES.get(given, given)
    plain = name.lower()
    for suffix, compression in _BY_SUFFIX.items():
        if plain.endswith(suffix):
            return compression
    from fsspec.utils import compressions

    registered: str | None = compressions.get(plain.rpartition(".")[2])
    if registered is None:
        for suffix, cure in _NEEDS.items():
            if plain.endswith(suffix):
                raise SourceError(f"a packed file ({suffix}) that cannot be read here: {cure}")
    return registered


def open_parts(
    raw: IO[bytes], compression: str | None, *, inferred: bool, members: str | None, longest_line: int | None
) -> Iterator[tuple[str, IO[bytes]]]:
    """Yield the content of a file: one stream, or one for each member of a zip archive.

    :param compression: as :func:`compression_of` gives it.
    :param inferred: whether ``compression`` comes from the file's name: then the content is checked against it.
    :param members: a pattern for the names of members; None: all, which must then be of one kind.
    :param longest_line: most bytes without a line end; None: no limit.
    :raises SourceError: if the file is cut off or not what its name says.

    Each stream has the name of its member, empty for a file that is not an archive. It is closed when the next one is
    asked for.
    """
    if compression != "zip":
        with closing(open_stream(raw, compression, longest_line=longest_line)) as stream:
            _check_content(stream, packed=compression is not None or not inferred)
            yield "", stream
        return
    with zipfile.ZipFile(raw) as archive:
        for member in _chosen(archive.infolist(), members):
            inside = compression_of(member.filename, "infer")
            with archive.open(member) as opened:
                if inside == "zip":
                    raise SourceError(f"member {member.filename!r} is an archive itself: unpack it first")
                with closing(open_stream(opened, inside, longest_line=longest_line)) as stream:
                    _check_content(stream, packed=inside is not None)
                    yield member.filename, stream


def open_single(raw: IO[bytes], compression: str | None) -> IO[bytes]:
    """The content of a packed file as one stream that owns ``raw``.

    :raises SourceError: if it is an archive of several members.
    """
    if compression != "zip":
        return open_stream(raw, compression, owned=(raw,))
    archive = zipfile.ZipFile(raw)
    found = _chosen(archive.infolist(), None)
    if len(found) > 1:
        names = ", ".join(repr(member.filename) for member in found[:3])
        raise SourceError(f"the archive has {len(found)} members ({names} ...): read each with SourceFile.parts()")
    return open_stream(archive.open(found[0]), None, owned=(archive, raw))


def _chosen(found: list[zipfile.ZipInfo], pattern: str | None) -> list[zipfile.ZipInfo]:
    """The members that hold data, by name."""
    regular = sorted(
        (each for each in found if _is_regular(each)), key=lambda each: (each.filename, each.header_offset)
    )
    if pattern is not None:
        regular = [each for each in regular if fnmatch.fnmatchcase(each.filename, pattern)]
    if not regular:
        among = "" if pattern is None else f" that fits members={pattern!r}"
        raise SourceError(f"the archive has no file{among} (folders, __MACOSX and hidden files do not count)")
    kinds: dict[str, str] = {}
    for each in regular:
        kinds.setdefault(_suffix(each.filename), each.filename)
    if pattern is None and len(kinds) > 1:
        first, second = list(kinds.values())[:2]
        raise SourceError(
            f"the archive has files of several kinds, such as {first!r} and {second!r}: say which are to be read, e.g. "
            f"FilesSource(members='*{_suffix(second) or second}')"
        )
    return regular


def _is_regular(member: zipfile.ZipInfo) -> bool:
    parts = member.filename.split("/")
    mode = member.external_attr >> 16
    special = mode and stat.S_IFMT(mode) not in (0, stat.S_IFREG)
    return not (member.is_dir() or special or "__MACOSX" in parts or any(part.startswith(".") for part in parts))


def _suffix(name: str) -> str:
    last = name.lower().rpartition("/")[2]
    return f".{last.rpartition('.')[2]}" if "." in last else ""


def open_stream(
    raw: IO[bytes], compression: str | None, *, longest_line: int | None = None, owned: tuple[Any, ...] = ()
) -> io.BufferedReader:
    """A file's unpacked content.

    :param owned: closed with the stream.
    :raises SourceError: without the library that reads this compression.
    """
    packed = _Counted(raw)
    content: Any = raw if compression is None else _decoder(packed, compression)
    inner = _Content(content, None if compression is None else packed, longest_line, owned)
    return io.BufferedReader(inner, _BUFFER)


def _decoder(packed: _Counted, compression: str) -> Any:
    if compression == "gzip":
        return gzip.GzipFile(fileobj=packed, mode="rb")  # type: ignore[call-overload]  # it needs no more than read()
    if compression == "bz2":
        return bz2.BZ2File(packed)  # type: ignore[call-overload]
    if compression in ("xz", "lzma"):
        return lzma.LZMAFile(packed)  # type: ignore[arg-type]
    if compression == "zstd":
        return _zstd(packed)
    from fsspec.compression import compr

    if compression not in compr:
        known = ", ".join(sorted({*_BY_SUFFIX.values(), *(name for name in compr if name)}))
        raise SourceError(f"compression={compression!r} is not known here; known are {known}")
    return compr[compression](packed, mode="r")


def _zstd(packed: _Counted) -> Any:
    for library in ("compression.zstd", "backports.zstd"):
        try:
            module = __import__(library, fromlist=["ZstdFile"])
        except ImportError:
            continue
        return module.ZstdFile(packed)
    try:
        import zstandard
    except ImportError:
        raise SourceError("a file that is packed with zstd (.zst) needs a library: pip install zstandard") from None
    return _ZstdStream(packed, zstandard.ZstdDecompressor())


class _Counted:
    """Counts the bytes of a packed file: one without any is not a packed file."""

    def __init__(self, raw: IO[bytes]) -> None:
        self._raw = raw
        self.count = 0

    def read(self, size: int = -1) -> bytes:
        content: bytes = self._raw.read(size)
        self.count += len(content)
        return content

    def seekable(self) -> bool:
        return False


class _ZstdStream:
    """The frames of a zstd file, one after the other.

    ``stream_reader`` of the library ends without an error where a file is cut off.
    """

    def __init__(self, packed: _Counted, decompressor: Any) -> None:
        self._packed = packed
        self._decompressor = decompressor
        self._frame: Any = None
        self._rest = b""
        self._content = io.BytesIO()

    def read(self, size: int) -> bytes:
        while not (found := self._content.read(size)):
            piece = self._rest or self._packed.read(_PIECE)
            if not piece:
                if self._frame is not None:
                    raise EOFError
                return b""
            if self._frame is None:
                self._frame = self._decompressor.decompressobj()
            self._content = io.BytesIO(self._frame.decompress(piece))
            self._rest = b""
            if self._frame.eof:
                self._rest, self._frame = self._frame.unused_data, None
        return found


class _Content(io.RawIOBase):
    """What a buffer and a text layer need of a file; those of the storages lack one thing or another."""

    def __init__(self, stream: Any, packed: _Counted | None, longest_line: int | None, owned: tuple[Any, ...]) -> None:
        self._stream = stream
        self._packed = packed
        self._longest_line = longest_line
        self._owned = owned
        self._line = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            content = self._stream.read(len(buffer))
        except EOFError:
            raise SourceError("the file is cut off: its packed content has no end. Have it written again") from None
        if not content and self._packed is not None and not self._packed.count:
            raise SourceError("the file is empty, which no packed file is. Have it written again")
        if self._longest_line is not None:
            self._check_line(content)
        buffer[: len(content)] = content
        return len(content)

    def _check_line(self, content: bytes) -> None:
        end = max(content.rfind(b"\n"), content.rfind(b"\r"))
        self._line = len(content) - end - 1 if end >= 0 else self._line + len(content)
        if self._longest_line is not None and self._line > self._longest_line:
            raise _too_long(self._longest_line)

    def close(self) -> None:
        if not self.closed:
            for each in self._owned:
                each.close()
        super().close()


def check_line(line: bytes, most: int) -> None:
    """Refuse a line that is longer without its end.

    :raises SourceError: if it is.
    """
    if len(line.rstrip(b"\r\n")) > most:
        raise _too_long(most)


def _too_long(most: int) -> SourceError:
    return SourceError(
        f"a line of more than largest_text={most:,} bytes: this is not a text, or FilesSource(largest_text=) must be "
        "more"
    )


def _check_content(stream: io.BufferedReader, *, packed: bool) -> None:
    """Refuse a file that is packed although its name does not say so, and an archive of tar.

    :param packed: whether it has been unpacked, or is to be read as it is.
    """
    head = stream.peek(_TAR_AT + len(_TAR))
    if head[_TAR_AT : _TAR_AT + len(_TAR)] == _TAR:
        raise SourceError("this is a tar archive, whose members cannot be read here: unpack it first")
    found = next((name for magic, name in _MAGIC.items() if head.startswith(magic)), None)
    if found is not None and not packed:
        raise SourceError(f"its content is packed ({found}), but its name does not say so: give compression={found!r}")
