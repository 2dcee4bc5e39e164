# SPDX-License-Identifier: Apache-2.0
"""Items within files: lines, records of JSON, and row groups of Parquet."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import IO, Any

from airflow_parallel_provider.errors import SourceError
from airflow_parallel_provider.sources.files.formats.json_records import json_records
from airflow_parallel_provider.sources.files.formats.libraries import library
from airflow_parallel_provider.sources.files.formats.text_lines import MARK, is_wide
from airflow_parallel_provider.sources.places import Places
from airflow_parallel_provider.sources.read_ahead import StopReading, read_ahead
from airflow_parallel_provider.values.items import SourceFile
from airflow_parallel_provider.values.unpack import check_line


@dataclass(frozen=True, slots=True)
class Reading:
    """How the insides of files are read, as ``FilesSource`` takes it."""

    encoding: str
    compression: str | None
    members: str | None
    largest_text: int
    records: str | None


class FileLines:
    """The lines of the files of a source, each without its end."""

    def __init__(self, files: Sequence[SourceFile], reading: Reading) -> None:
        self._files = files
        self._reading = reading
        self.places = Places()
        """Where the lines come from that have been read so far."""

    def __iter__(self) -> Iterator[str]:
        """The lines.

        :raises SourceError: for a file that cannot be read, naming it.
        """
        how, count = self._reading, 0
        for file in self._files:
            place = _Place(file.path)
            parts = file.parts(compression=how.compression, members=how.members)
            with _errors_name(place.shown), closing(parts):
                for path, stream in parts:
                    place.enter(path)
                    self.places.begin(path, count)
                    for line in self._texts(stream):
                        yield (line if place.lines else line.removeprefix(MARK)).rstrip("\r\n")
                        place.lines += 1
                    count += place.lines

    def _texts(self, stream: IO[bytes]) -> Iterator[str]:
        most = self._reading.largest_text
        if is_wide(self._reading.encoding):
            text = io.TextIOWrapper(stream, self._reading.encoding, newline="\n")
            for line in iter(partial(text.readline, most + 2), ""):
                if len(line) > most:
                    check_line(line.encode(self._reading.encoding, "surrogatepass"), most)
                yield line
            return
        for encoded in iter(partial(stream.readline, most + 2), b""):  # a carriage return ends no line here
            if len(encoded) > most:
                check_line(encoded, most)
            yield encoded.decode(self._reading.encoding)  # one by one, so that an error can name the line


class FileRecords:
    """The records of the JSON documents of a source."""

    def __init__(self, files: Sequence[SourceFile], reading: Reading) -> None:
        self._files = files
        self._reading = reading
        self.places = Places()
        """Where the records come from that have been read so far."""

    def __iter__(self) -> Iterator[Any]:
        """The records.

        :raises SourceError: for a file that cannot be read, naming it and the place in it.
        """
        how, count = self._reading, 0
        for file in self._files:
            place = _Place(file.path)
            parts = file.parts(compression=how.compression, members=how.members)
            with _errors_name(place.shown), closing(parts):
                for path, stream in parts:
                    place.path = path
                    self.places.begin(path, count)
                    most = max(how.largest_text, file.size)
                    for record in json_records(stream, how.encoding, how.records, most):
                        yield record
                        count += 1


def row_groups(files: Sequence[SourceFile], *, readers: int, halt: StopReading) -> Iterator[Any]:
    """The row groups of Parquet files, as Arrow tables, read by several threads.

    :param halt: ends the wait for one.
    """

    def groups() -> Iterator[tuple[SourceFile, int]]:
        parquet = library("pyarrow.parquet", "Parquet", "arrow")
        for file in files:
            with _errors_name(_Place(file.path).shown), file.open("rb") as raw:
                count = parquet.ParquetFile(raw).metadata.num_row_groups
            yield from ((file, number) for number in range(count))

    return read_ahead(_group_reader, groups(), readers=readers, name="files-source", halt=halt)


class _Place:
    """How far a file has been read."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.lines = 0
        self._reading = False

    def enter(self, path: str) -> None:
        """A file, or a member of an archive, begins."""
        self.path, self.lines, self._reading = path, 0, True

    def shown(self) -> str:
        return f"{self.path} after line {self.lines}" if self._reading else self.path


@contextmanager
def _group_reader() -> Iterator[Callable[[tuple[SourceFile, int]], Any]]:
    parquet = library("pyarrow.parquet", "Parquet", "arrow")

    def read(group: tuple[SourceFile, int]) -> Any:
        file, number = group
        with _errors_name(lambda: f"{file.path}, row group {number}"), file.open("rb") as raw:
            return parquet.ParquetFile(raw).read_row_group(number, use_threads=False)

    yield read


@contextmanager
def _errors_name(place: Callable[[], str]) -> Iterator[None]:
    """Turn every error inside the block into a ``SourceError`` that names the file and the place in it."""
    try:
        yield
    except SourceError as error:
        raise SourceError(f"{place()}: {error}") from error
    except Exception as error:
        raise SourceError(f"{place()}: {type(error).__name__}: {error}") from error
