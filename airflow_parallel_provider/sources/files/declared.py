# SPDX-License-Identifier: Apache-2.0
"""What an author may declare of files, and what is known once Airflow has rendered it."""

from __future__ import annotations

import ast
import codecs
import hashlib
import json
import os
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from airflow_parallel_provider.checks import check_choice, check_text, check_whole
from airflow_parallel_provider.engine.plan.templates import is_template
from airflow_parallel_provider.errors import PlanError

ITEMS = ("file", "line", "record", "row_group")


def check_items(items: Any, records: Any, chunk_bytes: Any) -> None:
    """Check the kind of items, and the arguments that belong to one kind.

    :raises PlanError: for a wrong one.
    """
    check_choice("FilesSource.items", items, ITEMS)
    check_text("FilesSource.records", records, optional=True)
    if records is not None and items != "record":
        cure = 'it is for items="record"; FilesToTableOperator and read_rows have an argument of that name'
        raise PlanError("FilesSource.records", records, cure)
    check_whole("FilesSource.chunk_bytes", chunk_bytes, unit="bytes", optional=True)
    if chunk_bytes is not None and items != "file":
        cure = f"it groups files, but the items are {items}s: leave it out, and give chunk_size= to the pipeline"
        raise PlanError("FilesSource.chunk_bytes", chunk_bytes, cure)


def check_encoding(encoding: Any) -> None:
    """Check the name of an encoding.

    :raises PlanError: for one that Python does not have.
    """
    check_text("FilesSource.encoding", encoding)
    try:
        codecs.lookup(encoding)
    except LookupError:
        raise PlanError("FilesSource.encoding", encoding, "Python has no such encoding") from None


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
