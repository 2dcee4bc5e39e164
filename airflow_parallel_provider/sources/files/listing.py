# SPDX-License-Identifier: Apache-2.0
"""The listing of files on any storage that Airflow's ``ObjectStoragePath`` supports."""

from __future__ import annotations

import ast
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from airflow_parallel_provider.checks import check_text
from airflow_parallel_provider.engine.plan.templates import is_template
from airflow_parallel_provider.errors import PlanError, SourceError
from airflow_parallel_provider.values.items import SourceFile, exact_path, file_version, storage_path

_TIMES = ("mtime", "LastModified", "last_modified", "updated", "modified")
"""Fields of a file's details that say when it was written, by file system."""


class FileList:
    """Lists the files of one or several patterns, and knows which of them were written in a period.

    :param paths: patterns; the files of each come in the order of their paths.
    :param since: the period's begin; a text in ISO format. None: no begin.
    :param before: its end, which is not part of it.
    """

    def __init__(self, paths: str | Sequence[str], conn_id: str | None, since: Any, before: Any) -> None:
        self._single = isinstance(paths, str)
        self._patterns = [paths] if isinstance(paths, str) else list(paths)
        self._conn_id = conn_id
        self._since = moment_of("modified_since", since)
        self._before = moment_of("modified_before", before)
        self.all: dict[str, SourceFile] = {}
        """By path, whenever they were written."""

    def chosen(self, at_least: int) -> tuple[SourceFile, ...]:
        """The files of the period. Main thread only: it may request the connection from Airflow.

        :raises PlanError: when there are fewer than ``at_least``, or a pattern of several has none.
        :raises SourceError: when the storage cannot be listed, or does not say when a file was written.
        """
        chosen: dict[str, SourceFile] = {}
        for pattern in self._patterns:
            found = list_files(pattern, self._conn_id)
            if not found and not self._single and at_least:
                cure = "no file matches it; leave it out, or give at_least=0 if it may be absent"
                raise PlanError("FilesSource.path", pattern, cure)
            for file, written in found:
                self.all[file.path] = file
                if self._is_in_period(file, written):
                    chosen.setdefault(file.path, file)
        if len(chosen) < at_least:
            period = " of that period" if len(chosen) < len(self.all) else ""
            cure = f"it matches {len(chosen)} files{period}, at_least={at_least}; a pattern for files ends in e.g. /*"
            raise PlanError("FilesSource.path", self._patterns[0] if self._single else self._patterns, cure)
        return tuple(chosen.values())

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


def is_upstream(value: Any) -> bool:
    """Whether this is the output of an upstream task, which Airflow puts in its place when the task starts."""
    return hasattr(value, "resolve") and hasattr(value, "iter_references")


def declared_paths(given: Any) -> Any:
    """A pattern, a list of patterns, or what is one of them once it is rendered, as an author gave it.

    :raises PlanError: for anything else.
    """
    if is_upstream(given):
        return given
    if not isinstance(given, (list, tuple)):
        path = str(given)
        check_text("FilesSource.path", path)
        return path
    if not given:
        raise PlanError("FilesSource.path", given, "the list is empty; give at least one path")
    return _texts(given)


def rendered_paths(given: Any) -> str | list[str]:
    """The pattern or the list of patterns, once Airflow has rendered it. The list may be empty then.

    :raises PlanError: for anything else.
    """
    if isinstance(given, str):
        return _list_in(given) or given
    if given is None or is_upstream(given) or not isinstance(given, Sequence):
        cure = "the upstream task must return a path or a list of paths, and the task must be in an operator"
        raise PlanError("FilesSource.path", given, cure)
    return _texts(list(given))


def _list_in(text: str) -> list[str] | None:
    """The list in a text that a template was rendered to; a pattern may begin with a bracket, too."""
    if not text.lstrip().startswith("["):
        return None
    for parse in (json.loads, ast.literal_eval):
        try:
            found = parse(text)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            continue
        if isinstance(found, list) and all(isinstance(each, str) for each in found):
            return found
    return None


def _texts(given: Sequence[Any]) -> list[str]:
    paths = [str(each) if isinstance(each, os.PathLike) else each for each in given]
    for path in paths:
        check_text("FilesSource.path", path)
    return paths


def shown_paths(paths: Any) -> str:
    """A pattern, or what stands for a list of them in an identity."""
    if is_upstream(paths):
        return str(paths)
    if isinstance(paths, str):
        return paths
    digest = hashlib.blake2b("\n".join(paths).encode("utf-8", "surrogatepass"), digest_size=6).hexdigest()
    return f"{paths[0]} and {len(paths) - 1} more {digest}" if paths else "of an empty list"


def check_period(since: Any, before: Any) -> None:
    """Check begin and end of a period, which may be templates.

    :raises PlanError: for what is no time, and for a period that ends before it begins.
    """
    begin, end = (
        None if is_template(given) else moment_of(field, given)
        for field, given in (("modified_since", since), ("modified_before", before))
    )
    if begin is not None and end is not None and end <= begin:
        raise PlanError("FilesSource.modified_before", before, "it is not after modified_since=, so no file is chosen")


def moment_of(field: str, given: Any) -> datetime | None:
    """A time, in UTC where it names no zone.

    :raises PlanError: for what is none.
    """
    if given is None:
        return None
    try:
        found = datetime.fromisoformat(given) if isinstance(given, str) else given
    except ValueError:
        found = None
    if not isinstance(found, datetime):
        cure = "give a datetime, or a text such as '2026-11-01' or '2026-11-01T06:00:00+00:00'"
        raise PlanError(f"FilesSource.{field}", given, cure)
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def list_files(pattern: str, conn_id: str | None) -> tuple[tuple[SourceFile, datetime | None], ...]:
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
        (
            SourceFile(system.unstrip_protocol(name), int(info.get("size") or 0), file_version(info), conn_id),
            _written(info),
        )
        for name, info in sorted(found.items())
        if info.get("type") == "file"
    )


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
