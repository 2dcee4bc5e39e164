"""Files on any storage that Airflow's ``ObjectStoragePath`` knows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import IO, Any

from airflow_parallel_provider.errors import SourceError

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


def list_files(pattern: str, conn_id: str | None) -> tuple[SourceFile, ...]:
    """The files that a pattern names, sorted by path. Main thread only: it may ask Airflow for the connection.

    :raises SourceError: when the storage cannot be listed.
    """
    try:
        place = storage_path(pattern, conn_id)
        system = place.fs
        system.invalidate_cache()  # what an earlier try in this process saw says nothing about today
        found: Mapping[str, Mapping[str, Any]] = system.glob(place.path, detail=True)
        system.invalidate_cache()  # who opens a file asks what it is then, not what it was in this listing
    except Exception as error:
        raise SourceError(f"files {pattern}: cannot be listed ({type(error).__name__}: {error})") from error
    conn_id = conn_id or getattr(place, "conn_id", None)
    return tuple(
        SourceFile(system.unstrip_protocol(name), int(info.get("size") or 0), version_of(info), conn_id)
        for name, info in sorted(found.items())
        if info.get("type") == "file"
    )


def version_of(info: Mapping[str, Any]) -> str:
    """What changes when the file does, as text."""
    for name in _VERSIONS:
        if info.get(name) is not None:
            return str(info[name]).strip('"')
    return ""
