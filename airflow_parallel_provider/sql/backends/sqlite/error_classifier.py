"""SQLite's errors, by their codes."""

from __future__ import annotations

import sqlite3

from airflow_parallel_provider.sql.backends.error_classifier import ErrorClassifier, driver_error

LOCKED = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
"""Another connection holds the lock."""
_TRANSIENT = (*LOCKED, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PROTOCOL)


class SqliteErrorClassifier(ErrorClassifier):
    """Errors of the ``sqlite3`` module."""

    def is_transient(self, error: BaseException) -> bool:
        """A lock, or a disk that did not do what it should; a journal that could not be opened is one too."""
        return has_code(error, _TRANSIENT)

    def explain(self, error: BaseException) -> str:
        """SQLite's own text: it names tables and columns, never values."""
        cause = driver_error(error)
        if isinstance(cause, sqlite3.Error):
            return f"{type(cause).__name__}: {cause}"
        return type(cause).__name__


def has_code(error: BaseException, codes: tuple[int, ...]) -> bool:
    """Whether SQLite's code of an error is one of some; of an extended code its primary part counts."""
    code = getattr(driver_error(error), "sqlite_errorcode", None)
    return code is not None and code & 0xFF in codes
