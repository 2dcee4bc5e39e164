# SPDX-License-Identifier: Apache-2.0
"""Arguments of ``SqlSource`` that need more than one line to check."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from airflow_parallel_provider.checks import check_mapping, check_text, check_whole
from airflow_parallel_provider.errors import PlanError
from airflow_parallel_provider.sources.sql.queries.query_text import check_query

NO_KEY = (
    "key=None, so one reader reads all rows, sorted by all columns. A retry reads them all again, and needs the same "
    "rows: with a unique key it reads ranges, several at the same time"
)
"""What a report warns of."""

_CURE = "None if there is no key: one reader then reads the rows in the order of all columns"


def check_place(table: Any, query: Any, schema: Any, conn_id: Any) -> None:
    """Check what is read: a table or a query.

    :raises PlanError: for both, for neither, or for a query that is not one SELECT.
    """
    check_text("SqlSource.conn_id", conn_id)
    check_text("SqlSource.schema", schema, optional=True)
    check_text("SqlSource.table", table, optional=True)
    check_text("SqlSource.query", query, optional=True)
    if table is None and query is None:
        raise PlanError("SqlSource.table", table, "name a table or view, or give query='SELECT ...'")
    if query is None:
        return
    for field, value in (("table", table), ("schema", schema)):
        if value is not None:
            raise PlanError(f"SqlSource.{field}", value, "query= names its tables itself: leave this out")
    check_query(query)


def check_sizes(parameters: Any, range_size: Any, readers: Any) -> None:
    """Check the rest of what needs no second look.

    :raises PlanError: for a wrong argument.
    """
    check_mapping("SqlSource.parameters", parameters)
    check_whole("SqlSource.range_size", range_size, 100, 1_000_000)
    check_whole("SqlSource.readers", readers, 1, 64)


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
