"""One folder of a storage: files that appear as a whole."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

from airflow_parallel_provider.errors import PlanError

_OBJECT_STORES = frozenset(("s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "adl", "wasb", "wasbs", "oss", "oci"))
"""Protocols of storages that have no folders, only names with slashes."""


@dataclass(frozen=True, slots=True)
class FileStore:
    """A folder, and the fsspec file system it is in."""

    system: Any
    folder: str
    shown: str
    """For people."""

    @classmethod
    def of(cls, path: str, conn_id: str | None) -> FileStore:
        """The folder behind an Airflow path. Main thread only: it may ask Airflow for the connection.

        :raises PlanError: when the storage cannot be opened.
        """
        from airflow.sdk import ObjectStoragePath

        try:
            place = ObjectStoragePath(path) if conn_id is None else ObjectStoragePath(path, conn_id=conn_id)
            return cls(place.fs, place.path.rstrip("/"), path)
        except Exception as error:
            cure = f"the storage cannot be opened ({type(error).__name__}: {error})"
            raise PlanError("SinkFiles.path", path, cure) from error

    @property
    def is_local(self) -> bool:
        """Whether files can be renamed at once."""
        return "file" in self._protocols

    @property
    def _protocols(self) -> frozenset[str]:
        protocol = self.system.protocol
        return frozenset((protocol,) if isinstance(protocol, str) else protocol)

    def make_folder(self) -> None:
        """Make the folder, where the storage has such a thing.

        An object store has none. Its file systems make the *bucket* instead when it is not there, and nobody who
        mistypes a bucket's name wants a new one; asking for that also takes permissions that a writer need not have.
        """
        if not self._protocols & _OBJECT_STORES:
            self.system.makedirs(self.folder, exist_ok=True)

    def names(self) -> set[str]:
        """Names of the files in the folder."""
        self.system.invalidate_cache()
        try:
            found = self.system.ls(self.folder, detail=False)
        except FileNotFoundError:  # an object store knows a folder from its first object on
            return set()
        return {name.rstrip("/").rpartition("/")[2] for name in found}

    def read(self, name: str) -> bytes | None:
        """The content of a file; None when there is none."""
        try:
            content: bytes = self.system.cat_file(f"{self.folder}/{name}")
        except FileNotFoundError:
            return None
        return content

    def write(self, name: str, content: bytes) -> None:
        """Write a file, or replace it: whoever reads it sees all of it or what was there before."""
        target = f"{self.folder}/{name}"
        if not self.is_local:
            self.system.pipe_file(target, content)  # one PUT; of a large file, parts that are joined at the end
            return
        waiting = Path(self.folder, f".{name}.{uuid4().hex[:8]}.tmp")
        try:
            with waiting.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            waiting.replace(target)
        finally:
            waiting.unlink(missing_ok=True)

    def remove(self, names: Iterable[str]) -> None:
        """Delete files, in this order; what is not there is fine."""
        for name in names:
            try:
                self.system.rm_file(f"{self.folder}/{name}")
            except FileNotFoundError:
                continue


def is_half(name: str) -> bool:
    """Whether a file was being written when its writer was killed."""
    return name.startswith(".") and name.endswith(".tmp")
