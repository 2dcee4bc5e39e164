# SPDX-License-Identifier: Apache-2.0
"""DuckDB's errors, by their classes."""

from __future__ import annotations

import re

from airflow_parallel_provider.sql.backends.error_classifier import (
    ErrorClassifier,
    Refusal,
    driver_error,
    is_unsendable,
)

_TRANSIENT = frozenset(
    {
        "TransactionException", "IOException", "HTTPException", "ConnectionException", "OutOfMemoryException",
        "ResourceInUseException", "FatalException",
    }
)  # fmt: skip
"""Classes of errors that may pass. After a fatal one the file must be opened again, as every try does."""

_VALUE = frozenset({"ConstraintException", "ConversionException", "OutOfRangeException", "TypeMismatchException"})
"""Classes of errors about a value."""
_VALUE_TEXTS = re.compile(r"Invalid Input Error: (Malformed JSON|Invalid unicode)")
"""The class of other errors about a value is also that of a database that is read-only."""
_REFUSAL_TEXTS = (
    (re.compile(r"attached in read-only mode"), Refusal.READ_ONLY),
    (re.compile(r"^Catalog Error: .* is not an? table", re.DOTALL), Refusal.VIEW),
    (re.compile(r"^Permission Error: "), Refusal.RIGHT),
    (re.compile(r"generated column"), Refusal.GENERATED),
    (re.compile(r"^Catalog Error: Schema with name "), Refusal.NO_SCHEMA),
    (re.compile(r"^Catalog Error: .* already exists"), Refusal.NAME_TAKEN),
)


class DuckErrorClassifier(ErrorClassifier):
    """Errors of the ``duckdb`` module. Their text is the class: the message quotes values."""

    def is_transient(self, error: BaseException) -> bool:
        """A conflict of two transactions, a file or server that is not available, no memory, a broken database."""
        return type(driver_error(error)).__name__ in _TRANSIENT

    def is_about_value(self, error: BaseException) -> bool:
        """By class, and by text where the class says too little."""
        cause = driver_error(error)
        return type(cause).__name__ in _VALUE or is_unsendable(error) or bool(_VALUE_TEXTS.match(str(cause)))

    def refusal(self, error: BaseException) -> Refusal | None:
        """By the beginning of the text, which names no value."""
        text = str(driver_error(error))
        return next((refusal for pattern, refusal in _REFUSAL_TEXTS if pattern.search(text)), None)
