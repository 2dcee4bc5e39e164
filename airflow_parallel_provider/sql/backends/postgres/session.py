"""PostgreSQL's sessions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_parallel_provider.sql.backends.session import Session

if TYPE_CHECKING:
    from collections.abc import Callable


class PostgresSession(Session):
    """Connections of psycopg 3."""

    def configure(self, raw: Any) -> None:
        """Time limits for this session only; a session whose client is gone releases its locks."""
        raw.autocommit = False
        self._set_result_type(raw)
        limits = {
            "lock_timeout": self.lock_timeout,
            "statement_timeout": self.statement_timeout,
            "idle_in_transaction_session_timeout": self.statement_timeout,
        }
        with raw.cursor() as cursor:
            for name, seconds in limits.items():
                cursor.execute("SELECT set_config(%s, %s, false)", (name, f"{max(1, int(seconds * 1000))}ms"))
        raw.commit()

    def interrupt(self, raw: Any, connect: Callable[[], Any]) -> None:  # noqa: ARG002  # the protocol can cancel
        """Ask the server to cancel the running statement."""
        self.stopped.set()
        raw.cancel()

    def _set_result_type(self, raw: Any) -> None:
        """Tuples as results: the Airflow connection's ``cursor`` extra may have made them dicts."""
        from psycopg.rows import tuple_row

        raw.row_factory = tuple_row
