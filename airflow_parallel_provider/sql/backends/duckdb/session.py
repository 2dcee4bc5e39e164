# SPDX-License-Identifier: Apache-2.0
"""DuckDB's connections and transactions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_parallel_provider.sql.backends.database_files import DatabaseFiles
from airflow_parallel_provider.sql.backends.duckdb.dialect import DuckConnection
from airflow_parallel_provider.sql.backends.session import Session, driver_connection

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.engine import Connection


class DuckSession(Session):
    """Connections of DuckDB, as :class:`~airflow_parallel_provider.sql.backends.duckdb.dialect.DuckConnection`."""

    def __init__(self, dialect: str, lock_timeout: float, statement_timeout: float) -> None:
        super().__init__(dialect, lock_timeout, statement_timeout)
        self._files = DatabaseFiles()

    def wrap(self, raw: Any) -> Any:
        """A connection whose cursors share one transaction."""
        return DuckConnection(raw)

    def configure(self, raw: Any) -> None:
        """Instants are in UTC."""
        raw.cursor().execute("SET TimeZone = 'UTC'")
        raw.detect_variable_scan()
        paths = "SELECT path FROM duckdb_databases() WHERE path IS NOT NULL AND NOT readonly"
        self._files.watch(path for (path,) in raw.raw.execute(paths).fetchall())

    def interrupt(self, raw: Any, connect: Callable[[], Any]) -> None:  # noqa: ARG002  # not needed
        """Stop the running statement."""
        self.stopped.set()
        raw.interrupt()

    def begin(self, connection: Connection) -> None:
        """Start a transaction that reads what was committed before it began."""
        self._files.check()
        connection.begin()
        driver_connection(connection).begin()

    def commit(self, connection: Connection) -> None:
        """Commit, into the file that was opened."""
        super().commit(connection)
        self._files.check()
