# SPDX-License-Identifier: Apache-2.0
"""The body of a response: whole, unpacked, and never larger than allowed."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

_PIECE = 256 << 10
"""Bytes that are read or unpacked at a time."""

_GZIP = b"\x1f\x8b"

_WINDOW = 4 << 10
"""Bytes that are given to a decoder at a time: what is left behind the end of a member is copied for each member."""

_MOST_TIMES, _MOST_MORE = 2, 64 << 10
"""By how much packed content may be larger than what it unpacks to: of many small members."""

_HEAD = 2
"""Bytes that tell what begins."""

_PACKED = {"gzip": "gzip", "x-gzip": "gzip", "deflate": "deflate"}

ACCEPTED = "gzip, deflate"
"""The encodings that a server may choose from."""

_CHARSET = re.compile(r""";\s*charset\s*=\s*["']?([^\s;"']+)""", re.IGNORECASE)


class CutOff(Exception):
    """The body ends before its end, or was damaged on its way: another request may get the whole."""


class TooLarge(Exception):
    """The body is larger than allowed."""


class UnknownEncoding(Exception):
    """The body is packed in a way that was not asked for."""


def charset_of(headers: Mapping[str, str]) -> str | None:
    """The charset that a response names."""
    found = _CHARSET.search(headers.get("Content-Type", ""))
    return None if found is None else found[1]


def is_framed(headers: Mapping[str, str]) -> bool:
    """Whether a response says where its body ends. Else the end of the connection is the end of the body."""
    return "Content-Length" in headers or "Transfer-Encoding" in headers


def read_body(response: Any, most: int) -> bytes:
    """The unpacked body of a response that is not yet read.

    :param most: bytes, unpacked.
    :raises CutOff: if it has no end; :class:`TooLarge`; :class:`UnknownEncoding`.

    A file that was packed with gzip and is sent as it is, is unpacked, too: JSON does not begin like that.
    """
    encodings = [each.strip().lower() for each in response.headers.get("Content-Encoding", "").split(",")]
    packed = [each for each in encodings if each not in ("", "identity")]
    for each in packed:
        if each not in _PACKED:
            raise UnknownEncoding(each)
    pieces = _received(response)
    for each in reversed(packed):
        pieces = _unpacked(pieces, _PACKED[each], most)
    body = _joined(pieces, most)
    return _joined(_unpacked([body], "gzip", most), most) if body.startswith(_GZIP) else body


def _received(response: Any) -> Iterator[bytes]:
    from urllib3.exceptions import HTTPError

    announced = response.headers.get("Content-Length", "").strip()
    chunked = "Transfer-Encoding" in response.headers
    received = 0
    while True:
        try:
            piece: bytes = response.raw.read(_PIECE, decode_content=False)
        except (HTTPError, OSError, ValueError) as error:  # ValueError: of a chunk with a length below zero
            raise CutOff(f"the response broke off ({type(error).__name__})") from None
        if not piece:
            break
        received += len(piece)
        yield piece
    if announced.isdecimal() and not chunked and received < int(announced):
        raise CutOff("the response is shorter than it says")


def _joined(pieces: Iterable[bytes], most: int) -> bytes:
    body = bytearray()
    for piece in pieces:
        body += piece
        if len(body) > most:
            raise TooLarge
    return bytes(body)


def _unpacked(pieces: Iterable[bytes], encoding: str, most: int) -> Iterator[bytes]:
    """Unpack piece by piece.

    :param most: also of what is unpacked again afterwards.
    """
    unpack = _Unpacker(encoding)
    total = packed = 0
    try:
        for piece in _windows(pieces):
            packed += len(piece)
            if packed > _MOST_TIMES * most + _MOST_MORE:
                raise TooLarge
            for found in unpack.feed(piece):
                total += len(found)
                if total > most:
                    raise TooLarge
                yield found
        unpack.check_end()
    except zlib.error:
        raise CutOff("its packed content is damaged") from None


def _windows(pieces: Iterable[bytes]) -> Iterator[bytes]:
    for piece in pieces:
        yield from (piece[start : start + _WINDOW] for start in range(0, len(piece), _WINDOW))


class _Unpacker:
    """Unpacks gzip, of one member or several, and deflate with or without the header of zlib."""

    def __init__(self, encoding: str) -> None:
        self._gzip = encoding == "gzip"
        self._decoder: Any = None
        self._head = b""

    def feed(self, piece: bytes) -> Iterator[bytes]:
        """What a piece unpacks to, in pieces of limited size."""
        while piece:
            if self._decoder is None or self._decoder.eof:
                piece, self._head = self._head + piece, b""
                if len(piece) < _HEAD:
                    self._head = piece
                    return
                if not self._begin(piece):
                    return
            yield from self._content(piece)
            piece = self._decoder.unused_data

    def _begin(self, piece: bytes) -> bool:
        """Whether something packed begins here. What stands behind the end is no part of it: browsers skip it, too."""
        if self._decoder is not None and not (self._gzip and piece.startswith(_GZIP)):
            return False
        bare = not self._gzip and (piece[0] & 0x0F != zlib.DEFLATED or int.from_bytes(piece[:_HEAD], "big") % 31)
        self._decoder = zlib.decompressobj(31 if self._gzip else -zlib.MAX_WBITS if bare else zlib.MAX_WBITS)
        return True

    def _content(self, piece: bytes) -> Iterator[bytes]:
        while True:
            found = self._decoder.decompress(piece, _PIECE)
            if found:
                yield found
            piece = self._decoder.unconsumed_tail  # behind the end, too: then it never gets shorter
            if self._decoder.eof or (not piece and len(found) < _PIECE):
                return

    def check_end(self) -> None:
        """Check that nothing is missing. Servers pack an empty body into nothing.

        :raises CutOff: if the packed content has no end.
        """
        ended = not self._head if self._decoder is None else self._decoder.eof
        if not ended:
            raise CutOff("its packed content has no end")
