# SPDX-License-Identifier: Apache-2.0
"""A folder of a storage, whose files appear as a whole."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

from airflow_parallel_provider.errors import PlanError

_OBJECT_STORES = frozenset(("s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "adl", "wasb", "wasbs", "oss", "oci"))
"""Protocols of storages that have no folders, only names with slashes."""


@dataclass(frozen=True, slots=True)
class FileStore:
    """A folder, and its fsspec file system."""

    system: Any
    folder: str
    display_name: str
    """For people."""

    @classmethod
    def of(cls, path: str, conn_id: str | None, *, field: str = "SinkFiles.path") -> FileStore:
        """The folder behind an Airflow path. Main thread only: it may ask Airflow for the connection.

        :param field: the argument that names it, for error texts.
        :raises PlanError: if the storage cannot be opened.
        """
        from airflow.sdk import ObjectStoragePath

        try:
            place = ObjectStoragePath(path) if conn_id is None else ObjectStoragePath(path, conn_id=conn_id)
            return cls(place.fs, place.path.rstrip("/"), path)
        except Exception as error:
            cure = f"the storage cannot be opened ({type(error).__name__}: {error})"
            raise PlanError(field, path, cure) from error

    @property
    def is_local(self) -> bool:
        """Whether files can be renamed atomically."""
        return "file" in self._protocols

    @property
    def _protocols(self) -> frozenset[str]:
        protocol = self.system.protocol
        return frozenset((protocol,) if isinstance(protocol, str) else protocol)

    def make_folder(self) -> None:
        """Create the folder, if the storage has folders.

        An object store has none. Its file systems would create the *bucket* instead, which is wrong after a typing
        error in the name, and needs permissions that a writer need not have.
        """
        if not self._protocols & _OBJECT_STORES:
            self.system.makedirs(self.folder, exist_ok=True)

    def names(self) -> set[str]:
        """Names of the files in the folder."""
        self.system.invalidate_cache()
        try:
            found = self.system.ls(self.folder, detail=False)
        except FileNotFoundError:  # an object store has a folder only if there is an object in it
            return set()
        return {name.rstrip("/").rpartition("/")[2] for name in found}

    def read(self, name: str) -> bytes | None:
        """The bytes of a file; None if it does not exist."""
        try:
            data: bytes = self.system.cat_file(f"{self.folder}/{name}")
        except FileNotFoundError:
            return None
        return data

    def write(self, name: str, data: bytes) -> None:
        """Write a file, or replace it; a reader sees either the whole new file or the old one."""
        target = f"{self.folder}/{name}"
        if not self.is_local:
            self.system.pipe_file(target, data)  # one PUT; a large file goes in parts that are joined at the end
            return
        temporary = Path(self.folder, f".{name}.{uuid4().hex[:8]}.tmp")
        try:
            with temporary.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)

    def create(self, name: str, data: bytes) -> bytes:
        """Write a file if there is none; return what is in it now.

        Where the storage can (locally, on S3), of several writers at once one wins, and all of them learn what it has
        written. Elsewhere the last one may win.
        """
        target = f"{self.folder}/{name}"
        try:
            if self.is_local:
                self._link(name, data)
            else:
                self.system.pipe_file(target, data, mode="create")
        except (TypeError, ValueError, NotImplementedError):  # it knows no such mode
            if self.read(name) is None:
                self.system.pipe_file(target, data)
        except Exception:  # each storage has an error of its own for a file that exists
            if self.read(name) is None:
                raise
        found = self.read(name)
        return data if found is None else found

    def _link(self, name: str, data: bytes) -> None:
        temporary = Path(self.folder, f".{name}.{uuid4().hex[:8]}.tmp")
        try:
            temporary.write_bytes(data)
            os.link(temporary, Path(self.folder, name))
        finally:
            temporary.unlink(missing_ok=True)

    def modified(self, name: str) -> datetime:
        """When a file was written, with its time zone."""
        found: datetime = self.system.modified(f"{self.folder}/{name}")
        return found if found.tzinfo else found.replace(tzinfo=UTC)

    def remove(self, names: Iterable[str]) -> None:
        """Delete files, in this order; those that do not exist are skipped."""
        for name in names:
            try:
                self.system.rm_file(f"{self.folder}/{name}")
            except FileNotFoundError:
                continue


def is_temporary(name: str) -> bool:
    """Whether this is the name of a file that is being written, or was when its process was killed."""
    return name.startswith(".") and name.endswith(".tmp")
