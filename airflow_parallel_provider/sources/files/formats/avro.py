# SPDX-License-Identifier: Apache-2.0
"""The records of an Avro file, with the types of its schema."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import IO, Any

from airflow_parallel_provider.errors import SourceError
from airflow_parallel_provider.sources.files.formats.libraries import library

_SYNC = 16
"""Bytes of the mark that ends the head and each block of a file."""

_CUT = "the file is damaged, or cut off within a block: have it written again"


def avro_records(stream: IO[bytes]) -> Iterator[Any]:
    """Yield the records.

    :raises SourceError: if the file is damaged or cut off, or what packs its blocks is not installed; names the record.
    """
    fastavro = library("fastavro", "Avro", "avro")
    _teach_nanoseconds(fastavro)
    watched = _Watched(stream)
    count = 0
    try:
        records = fastavro.reader(watched)
        for record in records:
            yield record
            count += 1
    except (GeneratorExit, SourceError):
        raise
    except EOFError:
        raise SourceError(f"record {count + 1}: {_CUT}") from None
    except Exception as error:
        raise SourceError(f"record {count + 1}: {type(error).__name__}: {error}") from error
    # The library takes a file that ends within the length of a block for one that ends before it.
    if watched.last != records._header["sync"]:
        raise SourceError(f"record {count + 1}: {_CUT}")


class _Watched:
    """A stream that remembers the last bytes that were read from it."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self.last = b""

    def read(self, size: int = -1) -> bytes:
        found = self._stream.read(size)
        if found:
            self.last = (self.last + found[-_SYNC:])[-_SYNC:]
        return found


def _teach_nanoseconds(fastavro: Any) -> None:
    """Types of Avro 1.12 that the library gives as whole numbers."""
    readers = fastavro.read.LOGICAL_READERS
    readers.setdefault("long-timestamp-nanos", _moment)
    readers.setdefault("long-local-timestamp-nanos", _local_moment)


def _moment(nanoseconds: int, *_: Any) -> datetime:
    microseconds, rest = divmod(nanoseconds, 1000)
    if rest:
        raise ValueError("a time with nanoseconds, which Python's datetime cannot hold")
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=microseconds)


def _local_moment(nanoseconds: int, *_: Any) -> datetime:
    return _moment(nanoseconds).replace(tzinfo=None)
