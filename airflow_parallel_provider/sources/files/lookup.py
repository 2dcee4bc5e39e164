# SPDX-License-Identifier: Apache-2.0
"""Files of a storage: those that match a pattern, and those of known paths."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

from airflow_parallel_provider.errors import SourceError
from airflow_parallel_provider.values.items import SourceFile, exact_path, file_version, storage_path

_TIMES = ("mtime", "LastModified", "last_modified", "updated", "modified")
"""Fields of a file's details that say when it was written, by file system."""

_AT_ONCE = 16
"""Requests to a storage at the same time: a look at a single file there is a request."""

Found = tuple[SourceFile, datetime | None]
"""A file, and when it was written, if its storage says so."""


def list_files(pattern: str, conn_id: str | None) -> tuple[Found, ...]:
    """The files that match a pattern, sorted by path, and when they were written. Main thread only.

    :raises SourceError: when the storage cannot be listed.
    """
    try:
        place = storage_path(pattern, conn_id)
        system = place.fs
        system.invalidate_cache()  # an earlier try in this process may have cached an old listing
        found: Mapping[str, Mapping[str, Any]] = system.glob(exact_path(place, pattern) or place.path, detail=True)
        system.invalidate_cache()  # so that opening a file checks its present state, not that of this listing
    except Exception as error:
        raise SourceError(f"files {pattern}: cannot be listed ({type(error).__name__}: {error})") from error
    conn_id = conn_id or getattr(place, "conn_id", None)
    return tuple(
        _file_of(system, name, info, conn_id) for name, info in sorted(found.items()) if info.get("type") == "file"
    )


def files_at(paths: Sequence[tuple[str, str | None]]) -> list[Found | None]:
    """The files of some paths, which are no patterns, each with its connection; None where there is no file.

    :raises SourceError: when the storage does not answer.
    """
    places = []
    for path, conn_id in paths:  # here: it may ask Airflow for the connection
        place = storage_path(path, conn_id)
        places.append((path, place.fs, exact_path(place, path) or place.path, conn_id or place.conn_id))
    for system in {id(each[1]): each[1] for each in places}.values():
        system.invalidate_cache()
    if len(places) == 1:
        return [_look(places[0])]
    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="files-source") as threads:
        return list(threads.map(_look, places))


def _look(place: tuple[str, Any, str, str | None]) -> Found | None:
    path, system, name, conn_id = place
    try:
        info = system.info(name)
    except FileNotFoundError:
        return None
    except Exception as error:
        raise SourceError(f"{path}: cannot be looked at ({type(error).__name__}: {error})") from error
    return _file_of(system, info.get("name", name), info, conn_id) if info.get("type") == "file" else None


def _file_of(system: Any, name: str, info: Mapping[str, Any], conn_id: str | None) -> Found:
    file = SourceFile(system.unstrip_protocol(name), int(info.get("size") or 0), file_version(info), conn_id)
    return file, _written(info)


def _written(info: Mapping[str, Any]) -> datetime | None:
    found = next((info[name] for name in _TIMES if info.get(name) is not None), None)
    if isinstance(found, (int, float)):
        return datetime.fromtimestamp(found, UTC)
    if isinstance(found, str):
        try:
            found = datetime.fromisoformat(found)
        except ValueError:
            return None
    if not isinstance(found, datetime):
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)
