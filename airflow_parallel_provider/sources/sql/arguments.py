# SPDX-License-Identifier: Apache-2.0
"""Arguments of ``SqlSource`` that need more than one line to check."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from airflow_parallel_provider.checks import check_text
from airflow_parallel_provider.errors import PlanError

NO_KEY = (
    "key=None, so one reader reads all rows, sorted by all columns. A retry reads them all again, and needs the same "
    "rows: with a unique key it reads ranges, several at the same time"
)
"""What a report warns of."""

_CURE = "None if there is no key: one reader then reads the rows in the order of all columns"


def checked_key(key: Any) -> tuple[str, ...]:
    """The columns of a key, as an author has given them; none if there is no key.

    :raises PlanError: for a wrong argument.
    """
    if key is None:
        return ()
    names = [key] if isinstance(key, str) else key
    if not isinstance(names, Sequence) or not names:
        raise PlanError("SqlSource.key", key, f"give a unique column, a list of columns, or {_CURE}")
    for name in names:
        check_text("SqlSource.key", name)
    if len(set(names)) < len(names):
        raise PlanError("SqlSource.key", key, "name each column once")
    return tuple(names)


def checked_columns(columns: Any, key: tuple[str, ...]) -> tuple[str, ...] | None:
    """The columns to read; None: all.

    :raises PlanError: for a wrong argument, or without a column of the key.
    """
    if columns is None:
        return None
    if isinstance(columns, str) or not isinstance(columns, Sequence) or not columns:
        raise PlanError("SqlSource.columns", columns, "give a list of column names, or leave it out for all columns")
    for name in columns:
        check_text("SqlSource.columns", name)
    for name in key:
        if name not in columns:
            raise PlanError("SqlSource.columns", columns, f"add the key {name!r} to the list")
    return tuple(columns)


def check_has_key(field: str, value: Any, key: tuple[str, ...]) -> None:
    """Refuse what needs ranges of a key.

    :param field: what needs them.
    :raises PlanError: without a key.
    """
    if not key:
        raise PlanError(f"SqlSource.{field}", value, "shards and since= read ranges of a unique key: give key=")
