"""DuckDB's errors, by their classes."""

from __future__ import annotations

from airflow_parallel_provider.sql.backends.error_classifier import ErrorClassifier, driver_error

_TRANSIENT = frozenset(
    {
        "TransactionException", "IOException", "HTTPException", "ConnectionException", "OutOfMemoryException",
        "ResourceInUseException", "FatalException",
    }
)  # fmt: skip
"""Classes of errors that may pass. After a fatal one the file must be opened again, as every try does."""


class DuckErrorClassifier(ErrorClassifier):
    """Errors of the ``duckdb`` module. Their text is the class: the message quotes values."""

    def is_transient(self, error: BaseException) -> bool:
        """A conflict of two transactions, a file or server that is not available, no memory, a broken database."""
        return type(driver_error(error)).__name__ in _TRANSIENT
