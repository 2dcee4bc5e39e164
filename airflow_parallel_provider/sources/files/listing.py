"""The listing of files on any storage that Airflow's ``ObjectStoragePath`` supports."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airflow_parallel_provider.errors import SourceError
from airflow_parallel_provider.values.items import SourceFile, exact_path, file_version, storage_path


def list_files(pattern: str, conn_id: str | None) -> tuple[SourceFile, ...]:
    """The files that match a pattern, sorted by path. Main thread only: it may request the connection from Airflow.

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
        SourceFile(system.unstrip_protocol(name), int(info.get("size") or 0), file_version(info), conn_id)
        for name, info in sorted(found.items())
        if info.get("type") == "file"
    )
