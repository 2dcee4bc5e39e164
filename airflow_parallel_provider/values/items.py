# SPDX-License-Identifier: Apache-2.0
"""Items of the provider's own sources: a file and a message."""

from __future__ import annotations

import hashlib
import io
import re
import sys
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from typing import IO, Any

from airflow_parallel_provider.errors import SourceError
from airflow_parallel_provider.values import json_text
from airflow_parallel_provider.values.unpack import compression_of, open_parts, open_single

_VERSION_FIELDS = (
    "ETag",
    "etag",
    "md5Hash",
    "content_md5",
    "generation",
    "version_id",
    "mtime",
    "LastModified",
    "updated",
)
"""Fields of a file's details that change with its content, by file system; the first one that exists counts."""
_VERSIONED_WHEN_OPENED = ("s3://", "s3a://", "gs://", "gcs://")
"""Storages whose open files have the same version as their listing; of other storages that is not known."""


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a queue, as an item."""

    id: str
    """The same at every delivery."""
    body: bytes
    attributes: Mapping[str, str] = field(default_factory=dict)

    def text(self, encoding: str = "utf-8") -> str:
        """The body as text."""
        return self.body.decode(encoding)

    def json(self) -> Any:
        """The body, parsed as JSON."""
        return json_text.loads(json_text.text_of(self.body))


@dataclass(frozen=True, slots=True)
class SourceFile:
    """One file, as an item. It is small whatever the size of the file: a stage opens the file."""

    path: str
    """With its protocol, e.g. ``s3://bucket/day.json`` or ``file:///data/day.json``."""
    size: int
    """Bytes, when the files were listed."""
    etag: str
    """A text that changes with the content: the storage's ETag or checksum, else the time of modification."""
    conn_id: str | None = None
    """Airflow connection of the storage. A *process* stage that opens the file must have it in ``connections``."""

    @property
    def name(self) -> str:
        """The part after the last slash."""
        return self.path.rstrip("/").rpartition("/")[2]

    def open(self, mode: str = "rb", **options: Any) -> IO[Any]:
        """Open the file for reading.

        :param options: those of ``ObjectStoragePath.open``, e.g. ``encoding`` or ``compression="infer"``.
        :raises SourceError: when the file has changed since it was listed, and the storage says so: S3 and GCS do. With
            ``compression`` also for an archive of several members (see :meth:`parts`) and, while it is read, for a file
            that is cut off.
        """
        given = options.pop("compression", None)
        if given is None or (compression := compression_of(self.name, given)) is None:
            return self._open(mode, **options)
        stream = open_single(self._open("rb"), compression)
        return stream if "b" in mode else io.TextIOWrapper(stream, **options)

    def parts(
        self, *, compression: str | None = "infer", members: str | None = None, longest_line: int | None = None
    ) -> Generator[tuple[str, IO[bytes]], None, None]:
        """Yield the unpacked content: a name for people, and a binary stream that is closed before the next one opens.

        A zip archive has a part for each member, in the order of their names (``orders.zip!a.csv``). Any other file has
        one part.

        :param compression: ``"infer"`` from the name, the name of a compression, or None.
        :param members: pattern for the names of an archive's members (``"*.csv"``). None: all files, which must then
            have the same suffix. Folders, ``__MACOSX`` and hidden files are always skipped.
        :param longest_line: most bytes without a line end; None: no limit.
        :raises SourceError: when the file is packed in a way that cannot be read, or has changed; while it is read,
            when it is cut off.
        """
        found = compression_of(self.name, compression)
        inferred = compression == "infer"
        with self._open("rb") as raw:
            parts = open_parts(raw, found, inferred=inferred, members=members, longest_line=longest_line)
            for member, stream in parts:
                yield (f"{self.path}!{member}" if member else self.path), stream

    def _open(self, mode: str, **options: Any) -> IO[Any]:
        local = _local_path(self.path, self.conn_id)
        if local is not None and mode in ("r", "rt", "rb") and options.keys() <= _OF_OPEN:
            return open(local, mode, **options)  # noqa: PTH123 - the name as it is; the caller closes it
        place = storage_path(self.path, self.conn_id)
        exact = exact_path(place, self.path)
        opened: IO[Any] = place.open(mode, **options) if exact is None else place.fs.open(exact, mode, **options)
        details = getattr(opened, "details", None) if self.path.startswith(_VERSIONED_WHEN_OPENED) else None
        version = file_version(details or {})
        if version not in ("", self.etag):
            opened.close()
            raise SourceError(f"{self.path} has changed since it was listed (etag {self.etag}; now {version})")
        return opened

    def read_bytes(self) -> bytes:
        """The whole content."""
        with self.open("rb") as file:
            content: bytes = file.read()
            return content

    def read_text(self, encoding: str = "utf-8") -> str:
        """The whole content as text."""
        return self.read_bytes().decode(encoding)


@dataclass(frozen=True, slots=True)
class SourceLine:
    """One record of a file that could not be read, as the item of a dead letter. A replay reads it again."""

    path: str
    """Of the file, for people; of a member of an archive with its name behind ``!``."""
    line: int
    """Number of its first line in the file, from 1."""
    text: str
    """As it stands in the file, with the line ends; of a sheet, its values as JSON."""
    format: str
    """``csv``, ``jsonl``, ``fixed_width`` or ``excel``."""
    encoding: str
    """It was decoded with this one; bytes that could not be decoded are lone surrogates (``surrogateescape``)."""
    columns: tuple[str, ...] | None = None
    """Of CSV and Excel: the header."""
    delimiter: str | None = None
    """Of CSV: what the file itself says; None: nothing."""


class FileRow(dict[Any, Any]):
    """A row of a file that knows where it is from, for the error of a sink that cannot take it."""

    __slots__ = ("line",)

    line: int
    """Number of its first line in the file, from 1."""


def storage_path(path: str, conn_id: str | None) -> Any:
    """The ``ObjectStoragePath`` of a path.

    :param conn_id: Airflow connection of the storage; None: the storage's default.
    """
    from airflow.sdk import ObjectStoragePath

    return ObjectStoragePath(path) if conn_id is None else ObjectStoragePath(path, conn_id=conn_id)


_OF_OPEN = frozenset({"encoding", "errors", "newline"})
"""Options of ``ObjectStoragePath.open`` that ``open`` takes, with the same meaning."""


def _local_path(path: str, conn_id: str | None) -> str | None:
    """The name of a local file that is opened without Airflow, if Airflow is not loaded; else None.

    To load it takes a worker process seconds. Where it is loaded anyway, it opens the file and notes that for lineage.
    """
    if conn_id is not None or not path.startswith("file:///") or sys.modules.get("airflow.sdk") is not None:
        return None
    return path.removeprefix("file://")


_CHANGED_BY_URLS = re.compile(r"[\t\n\r]|::")
"""What a path may contain, but parsers of URLs drop (line ends) or take for a chain of URLs."""


def exact_path(place: Any, path: str) -> str | None:
    """The path as the file system knows it, if an ``ObjectStoragePath`` changes it; else None.

    :param place: the ``ObjectStoragePath`` of this path.
    """
    if not _CHANGED_BY_URLS.search(path):
        return None
    scheme, separator, rest = path.partition("://")
    if separator:
        host, slash, key = rest.partition("/")
        path = f"{scheme}://{host.rpartition('@')[2]}{slash}{key}"  # without the id of a connection
    exact: str = place.fs._strip_protocol(path)  # file systems are written against it
    return exact


def file_version(info: Mapping[str, Any]) -> str:
    """The version of a file's content; empty where its file system has none.

    :param info: details of the file, from its file system.
    """
    for name in _VERSION_FIELDS:
        if info.get(name) is not None:
            return str(info[name]).strip('"')
    return ""


def digest(text: str) -> str:
    """A short text of fixed length that stands for a queue's name or a message's id."""
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
