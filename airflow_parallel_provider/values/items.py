"""Items of our own sources: a file, a message; and the digest of a message."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import IO, Any

from airflow_parallel_provider.errors import SourceError


def digest(text: str) -> str:
    """A short stand-in for a queue's name or a message's id, whatever their length."""
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


@dataclass(frozen=True, slots=True)
class Message:
    """One message, as an item."""

    id: str
    """The same whenever it is delivered."""
    body: bytes
    attributes: Mapping[str, str] = field(default_factory=dict)

    def text(self, encoding: str = "utf-8") -> str:
        """The body as text."""
        return self.body.decode(encoding)

    def json(self) -> Any:
        """The body, which is JSON."""
        return json.loads(self.body)


_VERSIONS = ("ETag", "etag", "md5Hash", "content_md5", "generation", "version_id", "mtime", "LastModified", "updated")
"""Where the file systems keep what changes with a file's content; the first one that is there is taken."""

_TOLD_WHEN_OPENED = ("s3://", "s3a://", "gs://", "gcs://")
"""Storages whose open files have the same version as their listing; of others that is not known."""


@dataclass(frozen=True, slots=True)
class SourceFile:
    """One file, as an item. Small, whatever the file's size: a stage opens it."""

    path: str
    """With its protocol, e.g. ``s3://bucket/day.json`` or ``file:///data/day.json``."""
    size: int
    """Bytes, when the files were listed."""
    etag: str
    """What changes with its content: the storage's ETag or checksum, else its time of modification."""
    conn_id: str | None = None
    """Airflow connection of the storage. A *process* stage that opens the file must have it in ``connections``."""

    @property
    def name(self) -> str:
        """The part behind the last slash."""
        return self.path.rstrip("/").rpartition("/")[2]

    def open(self, mode: str = "rb", **options: Any) -> IO[Any]:
        """Open it for reading.

        :param options: as those of ``ObjectStoragePath.open``, e.g. ``encoding`` or ``compression="infer"``.
        :raises SourceError: when it has changed since it was listed and the storage says so: S3 and GCS do, of a file
            that is opened without compression.
        """
        opened: IO[Any] = storage_path(self.path, self.conn_id).open(mode, **options)
        details = getattr(opened, "details", None) if self.path.startswith(_TOLD_WHEN_OPENED) else None
        now = version_of(details or {})
        if now not in ("", self.etag):
            opened.close()
            raise SourceError(f"{self.path} has changed since it was listed (etag {self.etag}; now {now})")
        return opened

    def read_bytes(self) -> bytes:
        """All of it."""
        with self.open("rb") as file:
            content: bytes = file.read()
            return content

    def read_text(self, encoding: str = "utf-8") -> str:
        """All of it as text."""
        return self.read_bytes().decode(encoding)


def storage_path(path: str, conn_id: str | None) -> Any:
    """An ``ObjectStoragePath``."""
    from airflow.sdk import ObjectStoragePath

    return ObjectStoragePath(path) if conn_id is None else ObjectStoragePath(path, conn_id=conn_id)


def version_of(info: Mapping[str, Any]) -> str:
    """What changes when the file does, as text."""
    for name in _VERSIONS:
        if info.get(name) is not None:
            return str(info[name]).strip('"')
    return ""
