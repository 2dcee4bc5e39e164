# SPDX-License-Identifier: Apache-2.0
"""The listing of files on any storage that Airflow's ``ObjectStoragePath`` supports."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

from airflow_parallel_provider.errors import PlanError, SourceError
from airflow_parallel_provider.sources.files.declared import moment_of
from airflow_parallel_provider.sources.files.lookup import Found, list_files
from airflow_parallel_provider.sources.files.manifest import files_of_manifest
from airflow_parallel_provider.values.items import SourceFile


class FileList:
    """Lists the files of one or several patterns, and knows which of them were written in a period.

    :param paths: patterns; the files of each come in the order of their paths.
    :param since: the period's begin; a text in ISO format. None: no begin.
    :param before: its end, which is not part of it.
    :param manifest: whether the files that match list the files of the load.
    """

    def __init__(
        self, paths: str | Sequence[str], conn_id: str | None, since: Any, before: Any, *, manifest: bool = False
    ) -> None:
        self._single = isinstance(paths, str)
        self._patterns = [paths] if isinstance(paths, str) else list(paths)
        self._conn_id = conn_id
        self._since = moment_of("modified_since", since)
        self._before = moment_of("modified_before", before)
        self._manifest = manifest
        self.all: dict[str, SourceFile] = {}
        """By path, whenever they were written."""
        self.missing: list[str] = []
        """What a manifest lists, but does not exist and need not."""

    def chosen(self, at_least: int, *, strict: bool = True) -> tuple[SourceFile, ...]:
        """The files of the period. Main thread only: it may request the connection from Airflow.

        :param strict: False: whatever is there, of a load whose files may be gone.
        :raises PlanError: when there are fewer than ``at_least``, or a pattern of several has none.
        :raises SourceError: when the storage cannot be listed, or does not say when a file was written.
        """
        chosen: dict[str, SourceFile] = {}
        at_least = at_least if strict else 0
        for pattern in self._patterns:
            found = list_files(pattern, self._conn_id)
            if not found and (self._manifest or not self._single) and at_least:
                what = "there is no such manifest" if self._manifest else "no file matches it; leave it out"
                raise PlanError("FilesSource.path", pattern, f"{what}, or give at_least=0 if it may be absent")
            for file, written in self._listed_in(found, strict=strict) if self._manifest else found:
                self.all[file.path] = file
                if self._is_in_period(file, written):
                    chosen.setdefault(file.path, file)
        if len(chosen) < at_least:
            period = " of that period" if len(chosen) < len(self.all) else ""
            verb, hint = ("lists", "") if self._manifest else ("matches", "; a pattern for files ends in e.g. /*")
            cure = f"it {verb} {len(chosen)} files{period}, at_least={at_least}{hint}"
            raise PlanError("FilesSource.path", self._patterns[0] if self._single else self._patterns, cure)
        return tuple(chosen.values())

    def _listed_in(self, manifests: Sequence[Found], *, strict: bool) -> Iterator[Found]:
        for manifest, _ in manifests:
            yield from files_of_manifest(manifest, self._conn_id, self.missing, strict=strict)

    def _is_in_period(self, file: SourceFile, written: datetime | None) -> bool:
        if self._since is None and self._before is None:
            return True
        if written is None:
            cure = "its storage does not say when it was written: leave out modified_since= and modified_before="
            raise SourceError(f"{file.path}: {cure}")
        return (self._since is None or written >= self._since) and (self._before is None or written < self._before)


def group_lengths(sizes: Sequence[int], most_bytes: int, most_files: int) -> list[int]:
    """How many neighboring files go into each chunk.

    :param most_bytes: of a chunk; a larger file has a chunk of its own.
    """
    lengths: list[int] = []
    room, count = most_bytes, 0
    for size in sizes:
        if count and (size > room or count == most_files):
            lengths.append(count)
            room, count = most_bytes, 0
        room -= size
        count += 1
    return [*lengths, count] if count else lengths
