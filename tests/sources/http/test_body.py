"""Bodies: unpacked, whole, and never larger than allowed."""

from __future__ import annotations

import gzip
import random
import tracemalloc
import zlib
from collections.abc import Callable
from typing import Any

import pytest

from airflow_parallel_provider.sources.http.body import CutOff, TooLarge, UnknownEncoding, charset_of, read_body

PIECE = 256 << 10


class Response:
    """As requests gives it, with pieces of a size of its own."""

    def __init__(self, body: bytes, encoding: str = "", size: int = PIECE, **headers: str) -> None:
        self.headers = {"Content-Encoding": encoding, **headers}
        self.raw = self
        self._body = body
        self._at = 0
        self._size = size

    def read(self, size: int, *, decode_content: bool) -> bytes:
        assert not decode_content
        begin = self._at
        self._at += min(size, self._size)
        return self._body[begin : self._at]


def bare(content: bytes) -> bytes:
    """Deflate without the header of zlib."""
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(content) + packer.flush()


def members(content: bytes) -> bytes:
    return gzip.compress(content[:7]) + gzip.compress(content[7:])


PACKED: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    "identity": bytes,
    "gzip": gzip.compress,
    "x-gzip": members,
    "deflate": zlib.compress,
    "Deflate": bare,
    "gzip, deflate": lambda content: zlib.compress(gzip.compress(content)),
    "identity, GZIP": lambda content: gzip.compress(content) + bytes(5),
}

CONTENTS = [b"", b"[1]", b" " * (2 * PIECE), b" " * (2 * PIECE + 1), random.Random(7).randbytes(30_000)]


@pytest.mark.parametrize("encoding", PACKED)
@pytest.mark.parametrize("size", [1, 3, 1000, PIECE])
def test_unpacked_as_it_was(encoding: str, size: int) -> None:
    for content in CONTENTS:
        packed = PACKED[encoding](content)
        if len(packed) / size < 5_000:
            assert read_body(Response(packed, encoding, size), len(content) + 100) == content


@pytest.mark.parametrize("encoding", [each for each in PACKED if PACKED[each] not in (bytes, members)])
def test_cut_off_is_noticed_wherever_it_is(encoding: str) -> None:
    content = random.Random(7).randbytes(40)
    packed = PACKED[encoding](content).removesuffix(bytes(5))
    for end in range(1, len(packed)):
        with pytest.raises(CutOff):
            read_body(Response(packed[:end], encoding), 1000)


def test_shorter_than_announced_is_cut_off() -> None:
    with pytest.raises(CutOff, match="shorter than it says"):
        read_body(Response(b"[1]", **{"Content-Length": "5"}), 100)


def test_damage_is_noticed() -> None:
    packed = bytearray(gzip.compress(b"[1, 2, 3]"))
    packed[-8] ^= 1  # the checksum

    with pytest.raises(CutOff, match="damaged"):
        read_body(Response(bytes(packed), "gzip"), 100)


@pytest.mark.parametrize("encoding", ["br", "zstd", "compress", "gzip, br", "exi"])
def test_other_encodings_are_named(encoding: str) -> None:
    with pytest.raises(UnknownEncoding, match=encoding.rpartition(" ")[2]):
        read_body(Response(b"...", encoding), 100)


def test_file_of_gzip_is_unpacked() -> None:
    assert read_body(Response(gzip.compress(b"[1]")), 100) == b"[1]"


@pytest.mark.parametrize("encoding", ["", "gzip", "deflate", "gzip, gzip", "gzip, gzip, gzip, gzip, gzip"])
def test_content_that_is_too_large_takes_no_memory(encoding: str) -> None:
    """However often it is packed: 64 MB here, and gigabytes could not take more."""
    content: Any = bytes(64 << 20)
    for each in filter(None, encoding.split(", ")):
        content = gzip.compress(content, 1) if each == "gzip" else zlib.compress(content, 1)
    tracemalloc.start()
    try:
        with pytest.raises(TooLarge):
            read_body(Response(content, encoding), 1 << 20)
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()


def test_layers_within_are_bounded_too() -> None:
    """The outer layers of this one are large, and what they hold is small: three bytes."""
    filler = bytes(8 << 20)
    content = gzip.compress(gzip.compress(b"[1]") + filler)

    with pytest.raises(TooLarge):
        read_body(Response(content, "gzip, gzip"), 1 << 20)


def test_packed_content_without_end_that_unpacks_to_nothing_is_refused() -> None:
    nothing = gzip.compress(b"", mtime=0)

    with pytest.raises(TooLarge):
        read_body(Response(nothing * 5_000, "gzip"), 1_000)


def test_many_members_are_not_copied_again_and_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is left behind a member is copied: 800 kB of small members took eight seconds, and more of them for ever."""
    given = []
    make = zlib.decompressobj

    class Decoder:
        def __init__(self, bits: int) -> None:
            self._inner = make(bits)

        def decompress(self, piece: bytes, most: int) -> bytes:
            given.append(len(piece))
            return self._inner.decompress(piece, most)

        def __getattr__(self, name: str) -> Any:
            return getattr(self._inner, name)

    monkeypatch.setattr(zlib, "decompressobj", Decoder)
    one = gzip.compress(b"[1]", mtime=0)

    assert read_body(Response(one * 1_000), 100_000) == b"[1]" * 1_000
    assert max(given) <= 4 << 10


@pytest.mark.parametrize(
    ("kind", "charset"),
    [
        ("application/json", None),
        ("application/json; charset=latin-1", "latin-1"),
        ('text/plain; a=b; Charset = "UTF-16"', "UTF-16"),
        ("text/html;charset=utf-8;x=y", "utf-8"),
        ("application/json; notcharset=latin-1", None),
    ],
)
def test_charset(kind: str, charset: str | None) -> None:
    assert charset_of({"Content-Type": kind}) == charset
