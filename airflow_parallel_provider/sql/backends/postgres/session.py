# SPDX-License-Identifier: Apache-2.0
"""PostgreSQL's sessions."""

from __future__ import annotations

import logging
from functools import cache
from typing import TYPE_CHECKING, Any

from airflow_parallel_provider.sql.backends.error_classifier import driver_error
from airflow_parallel_provider.sql.backends.postgres import intervals
from airflow_parallel_provider.sql.backends.postgres.error_classifier import POOLER_STATES, sqlstate
from airflow_parallel_provider.sql.backends.session import Session
from airflow_parallel_provider.values.unreadable import DatabaseText

if TYPE_CHECKING:
    from collections.abc import Callable

log = logging.getLogger(__name__)


class PostgresSession(Session):
    """Connections of psycopg 3."""

    def __init__(self, dialect: str, lock_timeout: float, statement_timeout: float) -> None:
        super().__init__(dialect, lock_timeout, statement_timeout)
        self._pooled = False
        """Whether a pooler is in between that gives each transaction another session."""

    def learn(self, error: BaseException) -> None:
        """Switch prepared statements off where a pooler does not keep them."""
        if self._pooled or sqlstate(driver_error(error)) not in POOLER_STATES:
            return
        self._pooled = True
        log.warning(
            "The server has lost a prepared statement: a pooler in transaction mode (pgbouncer) is in between. "
            "Prepared statements are switched off, and what failed is tried again"
        )

    def configure(self, raw: Any) -> None:
        """Time limits for this session only; a session whose client is gone releases its locks."""
        raw.autocommit = False
        if self._pooled:
            raw.prepare_threshold = None
        self._prepare_values(raw)
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

    def _prepare_values(self, raw: Any) -> None:
        """Tuples as results: the Airflow connection's ``cursor`` extra may have made them dicts."""
        from psycopg.rows import tuple_row

        raw.row_factory = tuple_row
        intervals.register(raw)
        raw.adapters.register_dumper(DatabaseText, _text_dumper())


@cache
def _text_dumper() -> type:
    from psycopg.adapt import Dumper

    class DatabaseTexts(Dumper):  # type: ignore[misc]  # untyped where psycopg is not installed
        def dump(self, obj: Any) -> bytes:
            return bytes(obj.encode())

    return DatabaseTexts
