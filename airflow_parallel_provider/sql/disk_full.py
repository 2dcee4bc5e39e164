# SPDX-License-Identifier: Apache-2.0
"""Which errors say that the database's disk is full. They are not the fault of a row, and may pass."""

from __future__ import annotations

import errno
import os
import re
from typing import TYPE_CHECKING

from airflow_parallel_provider.sql.backends.error_classifier import driver_error

if TYPE_CHECKING:
    from airflow_parallel_provider.sql.backends.base import Backend

DISK_FULL = "the database's disk is full"

_SQLITE_FULL = 13
_POSTGRES_FULL = "53100"
_MYSQL_FULL = frozenset({1021, 1114})
_MYSQL_FILE_ERRORS = frozenset({1, 3, 1005, 1026, 1030})
_MYSQL_CAUSE = re.compile(rf'\berr(?:no|or):? "?{errno.ENOSPC}\b')
"""How MySQL and MariaDB name the operating system's error behind an error about a file."""
_TEXTS = tuple(map(os.strerror, (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)))
"""DuckDB has no code for a full disk: the commit fails with the same class of error as in a conflict."""


def is_disk_full(error: BaseException) -> bool:
    """Whether an error, of any known driver, means that the disk is full."""
    cause = driver_error(error)
    driver = type(cause).__module__.partition(".")[0]
    if driver == "sqlite3":
        return bool((getattr(cause, "sqlite_errorcode", None) or 0) & 0xFF == _SQLITE_FULL)
    if driver in ("psycopg", "psycopg2"):
        return _POSTGRES_FULL in (getattr(cause, "sqlstate", None), getattr(cause, "pgcode", None))
    if driver in ("duckdb", "_duckdb"):
        may_be_full = type(cause).__name__ in ("TransactionException", "IOException")
        return may_be_full and any(text in str(cause) for text in _TEXTS)
    if driver in ("mysql", "MySQLdb", "pymysql"):
        number = getattr(cause, "errno", None) or next(iter(cause.args), None)
        return number in _MYSQL_FULL or (number in _MYSQL_FILE_ERRORS and bool(_MYSQL_CAUSE.search(str(cause))))
    return False


def is_transient(error: BaseException, backend: Backend) -> bool:
    """Whether the same may succeed on another try: a full disk, or what the backend calls transient."""
    return is_disk_full(error) or backend.errors.is_transient(error)


def describe_error(error: BaseException, backend: Backend) -> str:
    """The error as text, without any value of a row."""
    return f"{DISK_FULL}: {backend.errors.explain(error)}" if is_disk_full(error) else backend.errors.explain(error)
