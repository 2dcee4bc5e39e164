"""PostgreSQL's errors, by their SQLSTATE."""

from __future__ import annotations

from typing import Any

from airflow_parallel_provider.sql.backends.error_classifier import ErrorClassifier, driver_error

_TRANSIENT_CLASSES = ("08", "40", "53", "57")
"""Classes of SQLSTATE that may pass: connection, serialization and deadlock, resources, shutdown and cancel."""
_TRANSIENT_STATES = ("55P03", "25P03", "25P04", "25006", "58000", "58030")
"""And of other classes: lock not available, a transaction that was idle or open for too long, a server that is
read-only (the primary of before a fail-over, or not yet the new one), errors of its system and its disk."""


class PostgresErrorClassifier(ErrorClassifier):
    """Errors of psycopg 3 or 2."""

    def is_transient(self, error: BaseException) -> bool:
        """By SQLSTATE; an operational error without one is a lost connection."""
        cause = driver_error(error)
        state = _sqlstate(cause)
        if state is None:
            return type(cause).__name__ in ("OperationalError", "InterfaceError")
        return state[:2] in _TRANSIENT_CLASSES or state in _TRANSIENT_STATES

    def explain(self, error: BaseException) -> str:
        """SQLSTATE and the names that the server gives; its message and detail would quote values."""
        cause = driver_error(error)
        text = type(cause).__name__
        if _sqlstate(cause):
            text += f", SQLSTATE {_sqlstate(cause)}"
        diagnosis = getattr(cause, "diag", None)
        for part in ("table", "column", "constraint"):
            name = getattr(diagnosis, f"{part}_name", None)
            if name:
                text += f", {part} {name!r}"
        return text


def _sqlstate(cause: Any) -> str | None:
    return getattr(cause, "sqlstate", None) or getattr(cause, "pgcode", None)  # of psycopg 3, of psycopg 2
