# SPDX-License-Identifier: Apache-2.0
"""The ``FilesSource`` of what an author gives as files."""

from __future__ import annotations

import os

from airflow_parallel_provider.errors import PlanError
from airflow_parallel_provider.sources.files.declared import is_upstream
from airflow_parallel_provider.sources.files.files_source import FilesSource


def as_files(source: object) -> FilesSource:
    """The given ``FilesSource``, or one for the given pattern.

    :raises PlanError: for any other value.
    """
    if isinstance(source, FilesSource):
        return source
    if isinstance(source, (str, os.PathLike, list, tuple)) or is_upstream(source):
        return FilesSource(source)  # type: ignore[arg-type]  # checked there
    raise PlanError(
        "source", source, "give a path with a pattern, a list of paths, an upstream task's output, or FilesSource(...)"
    )
