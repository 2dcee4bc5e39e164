# SPDX-License-Identifier: Apache-2.0
"""Which files no earlier load has committed."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from typing import Any

from airflow_parallel_provider.checks import check_choice
from airflow_parallel_provider.engine.interfaces.records import EarlierLoad
from airflow_parallel_provider.errors import PlanError, SourceError
from airflow_parallel_provider.values.items import SourceFile

log = logging.getLogger(__name__)

CHANGED = ("error", "load", "skip")
_NAMED = 5
"""Most changed files that an error names."""


def check_only_new(only_new: Any, changed_files: Any, items: str) -> None:
    """Check the arguments of that name.

    :raises PlanError: for a wrong one.
    """
    check_choice("FilesSource.changed_files", changed_files, CHANGED)
    if not isinstance(only_new, bool):
        raise PlanError("FilesSource.only_new", only_new, "give True or False")
    if only_new and items != "file":
        cure = f"the ledger knows files only where files are the items, but these are {items}s: leave out items="
        raise PlanError("FilesSource.only_new", only_new, cure)
    if not only_new and changed_files != "error":
        raise PlanError("FilesSource.changed_files", changed_files, "it goes with only_new=True; leave it out")


def new_files(files: Sequence[SourceFile], earlier: Iterable[EarlierLoad], changed_files: str) -> list[SourceFile]:
    """The files that no earlier load has committed.

    A file that became a dead letter is committed, too: it is replayed from there.

    :param earlier: the oldest first.
    :raises SourceError: for files that have changed since, if that is an error; names them.
    """
    loaded = _loaded(earlier)
    new = [file for file in files if file.path not in loaded]
    changed = [file for file in files if loaded.get(file.path, (file.size, file.etag)) != (file.size, file.etag)]
    if changed and changed_files == "error":
        named = "; ".join(
            f"{file.path} ({file.size} bytes, etag {file.etag}; loaded with {loaded[file.path][0]} bytes, etag "
            f"{loaded[file.path][1]})"
            for file in changed[:_NAMED]
        )
        more = f" and {len(changed) - _NAMED} more" if len(changed) > _NAMED else ""
        raise SourceError(
            f"files have changed since they were loaded: {named}{more}. Say what that means: changed_files='load' "
            "loads them again, beside the rows that are there or by a merge; 'skip' leaves them out"
        )
    if changed and changed_files == "load":
        again = {file.path for file in changed}
        new = [file for file in files if file.path not in loaded or file.path in again]
    log.info(
        "%d of %d files are new; %d have been loaded before, %d of which have changed since",
        len(new), len(files), sum(file.path in loaded for file in files), len(changed),
    )  # fmt: skip
    return new


def left_over(files: Sequence[SourceFile], earlier: Iterable[EarlierLoad]) -> list[SourceFile]:
    """The files that earlier loads have committed without any failure, and that are there unchanged."""
    clean = _loaded(earlier, clean=True)
    return [file for file in files if clean.get(file.path) == (file.size, file.etag)]


def _loaded(earlier: Iterable[EarlierLoad], *, clean: bool = False) -> dict[str, tuple[int, str]]:
    """Size and ETag of each file as it was committed last.

    :param clean: leave out those whose last chunk has dead letters or rejected rows.
    """
    found: dict[str, tuple[int, str]] = {}
    for load in earlier:
        files = load.state.get("files")
        if not isinstance(files, list):
            continue  # of another source
        failed: Sequence[tuple[int, int]] = load.failed
        if load.state.get("items") != "file":  # lines of it: which files are in is known at the end only
            spans: Sequence[tuple[int, int]] = [(0, len(files))] if load.complete else []
            failed = spans if failed else ()
        else:
            spans = load.committed
        for first, count in spans:
            found.update({path: (size, etag) for path, size, etag in files[first : first + count]})
        for first, count in failed if clean else ():
            for path, _, _ in files[first : first + count]:
                found.pop(path, None)
    return found
