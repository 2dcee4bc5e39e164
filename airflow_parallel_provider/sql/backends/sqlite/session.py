# SPDX-License-Identifier: Apache-2.0
"""SQLite's transactions and its lock.

Two facts decide how. A transaction that begins with a read and writes later fails at once with "database is locked"
when another one wrote in between, whatever the busy timeout: so the write lock is taken first. And Python's sqlite3
begins transactions implicitly: so that is switched off.

The journal mode stays as it is: it belongs to the database and outlives the connection, and WAL does not work on
network file systems. With a rollback journal a reader can make a commit wait (``lock_timeout``). A database with long
readers needs WAL, set once: ``PRAGMA journal_mode=WAL``.
"""

from __future__ import annotations

import sqlite3
import time
from typing import TYPE_CHECKING, Any

from airflow_parallel_provider.sql.backends.database_files import DatabaseFiles
from airflow_parallel_provider.sql.backends.session import Session, driver_connection
from airflow_parallel_provider.sql.backends.sqlite.collations import create_collations
from airflow_parallel_provider.sql.backends.sqlite.error_classifier import LOCKED, has_code

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.engine import Connection

_LOCK_SLICE = 1_000
"""Milliseconds of one wait for a lock."""


class SqliteSession(Session):
    """Connections of the ``sqlite3`` module."""

    def __init__(self, dialect: str, lock_timeout: float, statement_timeout: float) -> None:
        super().__init__(dialect, lock_timeout, statement_timeout)
        self._files = DatabaseFiles()

    def configure(self, raw: sqlite3.Connection) -> None:
        """No implicit transactions; short waits for a lock; the collations that a merge by ``newest`` needs."""
        raw.isolation_level = None
        raw.execute(f"PRAGMA busy_timeout = {_LOCK_SLICE}")
        create_collations(raw)
        self._files.watch(path for _, _, path in raw.execute("PRAGMA database_list") if path)

    def interrupt(self, raw: sqlite3.Connection, connect: Callable[[], Any]) -> None:  # noqa: ARG002  # not needed
        """Stop a running statement at once, a wait for a lock within a second."""
        self.stopped.set()
        raw.interrupt()

    def begin(self, connection: Connection) -> None:
        """Take the write lock at once."""
        self._files.check()
        connection.begin()
        self._retry_while_locked(driver_connection(connection), "BEGIN IMMEDIATE")

    def commit(self, connection: Connection) -> None:
        """Commit; wait for readers where the journal mode makes a commit wait for them."""
        self._retry_while_locked(driver_connection(connection), "COMMIT")
        connection.commit()
        self._files.check()

    def is_locked(self, error: BaseException) -> bool:
        """Whether another connection holds the lock."""
        return has_code(error, LOCKED)

    def _retry_while_locked(self, raw: sqlite3.Connection, statement: str) -> None:
        """Run a statement that may have to wait for a lock, in slices: SQLite's own wait cannot be interrupted.

        A COMMIT that found the database busy leaves the transaction as it was and may be repeated.
        """
        deadline = time.monotonic() + self.lock_timeout
        while True:
            try:
                raw.execute(statement)
            except sqlite3.OperationalError as error:
                if not self.is_locked(error) or self.stopped.is_set() or time.monotonic() > deadline:
                    raise
            else:
                return
