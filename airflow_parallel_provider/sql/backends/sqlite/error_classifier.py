# SPDX-License-Identifier: Apache-2.0
"""SQLite's errors, by their codes."""

from __future__ import annotations

import re
import sqlite3

from airflow_parallel_provider.sql.backends.error_classifier import (
    ErrorClassifier,
    Refusal,
    driver_error,
    is_unsendable,
)

LOCKED = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
"""Another connection holds the lock."""
_TRANSIENT = (*LOCKED, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PROTOCOL)

_TRIGGER = 1811
_VALUE = frozenset(
    {
        19, 275, 787, 1043, 1299, 1555, 2067, 2579,  # constraints: CHECK, foreign key, functions, NOT NULL, keys
        _TRIGGER,  # RAISE(ABORT) and RAISE(FAIL)
        2323, 3091,  # a virtual table's own check, a STRICT table's types
        sqlite3.SQLITE_MISMATCH, sqlite3.SQLITE_TOOBIG,
    }
)  # fmt: skip
"""Extended codes of errors about a value: by number, because older versions of Python do not name all of them."""
_VALUE_TEXTS = re.compile(r"malformed JSON$|JSON path error|integer overflow$|Error binding parameter \S+ type ")
"""Errors about a value that have no code of their own; the last one is the driver's."""
_REFUSAL_TEXTS = (
    (re.compile(r"cannot modify .* because it is a view$", re.DOTALL), Refusal.VIEW),
    (re.compile(r"cannot INSERT into generated column ", re.DOTALL), Refusal.GENERATED),
    (re.compile(r"too many columns on ", re.DOTALL), Refusal.TOO_MANY_COLUMNS),
    (re.compile(r"there is already another table or index with this name"), Refusal.NAME_TAKEN),
    (re.compile(r"table .* already exists", re.DOTALL), Refusal.NAME_TAKEN),
    (re.compile(r"unknown database ", re.DOTALL), Refusal.NO_SCHEMA),
    (re.compile(r"duplicate column name: ", re.DOTALL), Refusal.BAD_COLUMN),
    (re.compile(r"no such savepoint: ", re.DOTALL), Refusal.ROLLED_BACK),
)


class SqliteErrorClassifier(ErrorClassifier):
    """Errors of the ``sqlite3`` module."""

    def is_transient(self, error: BaseException) -> bool:
        """A lock, or a disk that did not do what it should; a journal that could not be opened is one too."""
        return has_code(error, _TRANSIENT)

    def is_about_value(self, error: BaseException) -> bool:
        """By code, and by text where the code says nothing."""
        cause = driver_error(error)
        code = getattr(cause, "sqlite_errorcode", None)
        if code in _VALUE or is_unsendable(error):
            return True
        return code in (None, sqlite3.SQLITE_ERROR) and bool(_VALUE_TEXTS.match(str(cause)))

    def refusal(self, error: BaseException) -> Refusal | None:
        """By code, or by text."""
        if has_code(error, (sqlite3.SQLITE_READONLY,)):
            return Refusal.READ_ONLY
        if has_code(error, (sqlite3.SQLITE_PERM, sqlite3.SQLITE_AUTH)):
            return Refusal.RIGHT
        text = str(driver_error(error))
        return next((refusal for pattern, refusal in _REFUSAL_TEXTS if pattern.match(text)), None)

    def explain(self, error: BaseException) -> str:
        """SQLite's own text: it names tables and columns, never values. What a trigger says may hold some."""
        cause = driver_error(error)
        if getattr(cause, "sqlite_errorcode", None) == _TRIGGER:
            return f"{type(cause).__name__}: a trigger has raised it"
        if isinstance(cause, sqlite3.Error):
            return f"{type(cause).__name__}: {cause}"
        return type(cause).__name__


def has_code(error: BaseException, codes: tuple[int, ...]) -> bool:
    """Whether SQLite's code of an error is one of some; of an extended code its primary part counts."""
    code = getattr(driver_error(error), "sqlite_errorcode", None)
    return code is not None and code & 0xFF in codes
