"""DuckDB's connections and transactions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_parallel_provider.sql.backends.duckdb.dialect import DuckConnection
from airflow_parallel_provider.sql.backends.session import Session, driver_connection

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.engine import Connection


class DuckSession(Session):
    """Connections of DuckDB, as :class:`~airflow_parallel_provider.sql.backends.duckdb.dialect.DuckConnection`."""

    def wrap(self, raw: Any) -> Any:
        """A connection whose cursors share one transaction."""
        return DuckConnection(raw)

    def configure(self, raw: Any) -> None:
        """Instants are in UTC."""
        raw.cursor().execute("SET TimeZone = 'UTC'")
        raw.detect_variable_scan()

    def interrupt(self, raw: Any, connect: Callable[[], Any]) -> None:  # noqa: ARG002  # not needed
        """Stop the running statement."""
        self.stopped.set()
        raw.interrupt()

    def begin(self, connection: Connection) -> None:
        """Start a transaction that reads what was committed before it began."""
        connection.begin()
        driver_connection(connection).begin()
