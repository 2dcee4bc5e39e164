"""Items of the provider's own sources: a file and a message."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import IO, Any

from airflow_parallel_provider.errors import SourceError

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
        return json.loads(self.body)


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
        :raises SourceError: when the file has changed since it was listed, and the storage says so: S3 and GCS do, for
            a file that is opened without compression.
        """
        opened: IO[Any] = storage_path(self.path, self.conn_id).open(mode, **options)
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


def storage_path(path: str, conn_id: str | None) -> Any:
    """The ``ObjectStoragePath`` of a path.

    :param conn_id: Airflow connection of the storage; None: the storage's default.
    """
    from airflow.sdk import ObjectStoragePath

    return ObjectStoragePath(path) if conn_id is None else ObjectStoragePath(path, conn_id=conn_id)


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
