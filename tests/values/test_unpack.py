"""Packed files: all of their content, or an error; never a part of it."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import stat
import sys
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import zstandard

from airflow_parallel_provider import FilesSource, SourceFile
from airflow_parallel_provider.errors import SourceError
from airflow_parallel_provider.values import unpack
from airflow_parallel_provider.values.unpack import compression_of

pytestmark = pytest.mark.airflow

CONTENT = b"".join(b"line %d %x\n" % (number, hash((number, 7)) & 0xFFFFFF) for number in range(20_000))

PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "gz": gzip.compress,
    "bz2": bz2.compress,
    "xz": lzma.compress,
    "lzma": lambda content: lzma.compress(content, lzma.FORMAT_ALONE),
    "zst": zstandard.ZstdCompressor().compress,
}


def file_of(path: Path, content: bytes) -> SourceFile:
    path.write_bytes(content)
    (found,) = FilesSource(path.parent / path.name.replace("[", "[[]")).files
    return found


def read(file: SourceFile, **options: Any) -> bytes:
    return b"".join(stream.read() for _, stream in file.parts(**options))


@pytest.mark.parametrize("suffix", PACKERS)
def test_whole_content(tmp_path: Path, suffix: str) -> None:
    file = file_of(tmp_path / f"a.txt.{suffix}", PACKERS[suffix](CONTENT))

    assert read(file) == CONTENT
    with file.open("rb", compression="infer") as opened:
        assert opened.read() == CONTENT


@pytest.mark.parametrize("suffix", [suffix for suffix in PACKERS if suffix != "lzma"])
def test_streams_one_after_the_other(tmp_path: Path, suffix: str) -> None:
    """As ``cat a.gz b.gz``, pigz, pbzip2 and pzstd make them."""
    pack = PACKERS[suffix]
    file = file_of(tmp_path / f"a.txt.{suffix}", pack(b"one\n") + pack(CONTENT) + pack(b"two\n"))

    assert read(file) == b"one\n" + CONTENT + b"two\n"


@pytest.mark.parametrize("keep", [0.0, 0.001, 0.5, 0.999])
@pytest.mark.parametrize("suffix", [*PACKERS, "zip"])
def test_file_that_is_cut_off_is_an_error(tmp_path: Path, suffix: str, keep: float) -> None:
    packed = PACKERS[suffix](CONTENT) if suffix != "zip" else zip_of({"a.txt": CONTENT})
    file = file_of(tmp_path / f"a.txt.{suffix}", packed[: int(len(packed) * keep)])

    with pytest.raises(Exception, match=r"(?i)cut off|empty|not a zip file|not support"):
        read(file)


def test_second_stream_that_is_cut_off_is_an_error(tmp_path: Path) -> None:
    for suffix, pack in PACKERS.items():
        whole = pack(CONTENT)
        file = file_of(tmp_path / f"a.txt.{suffix}", whole + whole[: len(whole) // 2])

        if suffix != "lzma":  # which has no second stream
            with pytest.raises(SourceError, match="cut off"):
                read(file)


def test_zstd_is_refused_by_name_without_its_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for library in ("compression.zstd", "backports.zstd", "zstandard"):
        monkeypatch.setitem(sys.modules, library, None)  # type: ignore[arg-type]
    file = file_of(tmp_path / "a.txt.zst", PACKERS["zst"](CONTENT))

    with pytest.raises(SourceError, match=r"zstd \(\.zst\) needs a library: pip install zstandard"):
        read(file)


@pytest.mark.parametrize("name", ["a.csv.lz4", "A.CSV.7Z", "a.rar", "a.csv.br", "a.csv.Z", "a.snappy"])
def test_compression_that_nothing_reads_is_refused_by_name(name: str) -> None:
    with pytest.raises(SourceError, match=r"packed file .* cannot be read here"):
        compression_of(name, "infer")


def test_unknown_compression_names_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"compression='lz9' is not known here; known are bz2, gzip"):
        read(file_of(tmp_path / "a.txt", CONTENT), compression="lz9")


@pytest.mark.parametrize("suffix", ["gz", "bz2", "xz", "zst"])
def test_packed_content_without_a_suffix_is_refused(tmp_path: Path, suffix: str) -> None:
    file = file_of(tmp_path / "a.txt", PACKERS[suffix](CONTENT))

    with pytest.raises(SourceError, match="its content is packed"):
        read(file)
    assert read(file, compression=unpack._BY_SUFFIX[f".{suffix}"]) == CONTENT
    assert read(file, compression=None) == file.read_bytes()


def test_tar_is_refused(tmp_path: Path) -> None:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w:gz") as archive:
        info = tarfile.TarInfo("a.csv")
        info.size = 5
        archive.addfile(info, io.BytesIO(b"id\n1\n"))

    with pytest.raises(SourceError, match="tar archive"):
        read(file_of(tmp_path / "a.csv.gz", made.getvalue()))


def zip_of(members: dict[str, bytes | str]) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return made.getvalue()


NOISE: dict[str, bytes | str] = {
    "data/": "",
    "__MACOSX/._a.csv": "\0\5",
    "__MACOSX/a.csv": "x",
    ".DS_Store": "x",
    "data/.hidden.csv": "x",
}


def test_what_is_no_file_counts_for_nothing_whatever_made_the_archive(tmp_path: Path) -> None:
    """A folder has no Unix mode in archives of Windows; a link's content is the name of another file."""
    folder, link = zipfile.ZipInfo("data/"), zipfile.ZipInfo("link.csv")
    folder.create_system = 0
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for info, content in ((folder, ""), (link, "a.csv"), (zipfile.ZipInfo("a.csv"), "1")):
            archive.writestr(info, content)

    with zipfile.ZipFile(path) as archive:
        assert stat.S_IFMT(archive.infolist()[0].external_attr >> 16) == 0
    assert read(file_of(path, path.read_bytes())) == b"1"


def test_all_members_of_an_archive_in_the_order_of_their_names(tmp_path: Path) -> None:
    archive = zip_of({**NOISE, "data/b.csv": "2", "a.csv": "1", "data/c.csv": "3"})
    file = file_of(tmp_path / "x.zip", archive)

    found = [(shown.rpartition("/x.zip")[2], stream.read()) for shown, stream in file.parts()]

    assert found == [("!a.csv", b"1"), ("!data/b.csv", b"2"), ("!data/c.csv", b"3")]


def test_packed_members(tmp_path: Path) -> None:
    file = file_of(tmp_path / "x.zip", zip_of({"a.csv.gz": gzip.compress(b"1"), "b.csv.gz": gzip.compress(b"2")}))

    assert read(file) == b"12"


@pytest.mark.parametrize(
    ("members", "complaint"),
    [
        ({}, "the archive has no file"),
        (NOISE, "the archive has no file"),
        (
            {"README.txt": "x", "a.csv": "1"},
            r"files of several kinds, such as 'README.txt' and 'a.csv'.*members='\*\.csv'",
        ),
        ({"inner.zip": zip_of({"a.csv": "1"})}, "member 'inner.zip' is an archive itself"),
        ({"a.csv.gz": gzip.compress(CONTENT)[:-20]}, "cut off"),
    ],
)
def test_archive_that_is_not_clear_is_refused(tmp_path: Path, members: dict[str, Any], complaint: str) -> None:
    with pytest.raises(SourceError, match=complaint):
        read(file_of(tmp_path / "x.zip", zip_of(members)))


def test_members_are_chosen_by_a_pattern(tmp_path: Path) -> None:
    file = file_of(tmp_path / "x.zip", zip_of({"README.txt": "x", "data/a.csv": "1", "data/b.csv": "2"}))

    assert read(file, members="*.csv") == b"12"
    assert read(file, members="README*") == b"x"
    with pytest.raises(SourceError, match=r"no file that fits members='\*\.json'"):
        read(file, members="*.json")


def test_opening_an_archive_gives_its_only_member(tmp_path: Path) -> None:
    with file_of(tmp_path / "1.zip", zip_of({**NOISE, "a.csv": "id\r\n"})).open("rt", compression="infer") as text:
        assert text.read() == "id\n"
    with pytest.raises(SourceError, match=r"the archive has 2 members .*parts"):
        file_of(tmp_path / "2.zip", zip_of({"a.csv": "1", "b.csv": "2"})).open(compression="infer")


def test_member_with_wrong_content_is_an_error(tmp_path: Path) -> None:
    archive = bytearray(zip_of({"a.csv": CONTENT}))
    archive[len(archive) // 2] ^= 0xFF

    with pytest.raises(Exception, match=r"(?i)crc|invalid|decompress"):
        read(file_of(tmp_path / "x.zip", bytes(archive)))


@pytest.mark.parametrize("suffix", ["gz", "zst", "txt"])
def test_line_without_an_end_does_not_fill_the_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    """A few bytes that unpack to very many."""
    endless = b"fine\n" + bytes(8 << 20)
    file = file_of(tmp_path / f"a.{suffix}", PACKERS.get(suffix, bytes)(endless))

    with pytest.raises(SourceError, match=r"a line of more than largest_text=1,048,576 bytes"):
        read(file, longest_line=1 << 20)
    assert len(read(file, longest_line=16 << 20)) == len(endless)


def test_bomb_of_zstd_is_unpacked_in_pieces(tmp_path: Path) -> None:
    file = file_of(tmp_path / "a.zst", PACKERS["zst"](bytes(256 << 20)))
    largest = 0

    for _, stream in file.parts():
        inside: Any = stream
        while inside.read(1 << 20):
            largest = max(largest, len(inside.raw._stream._content.getbuffer()))

    assert 0 < largest <= 64 << 20
