# SPDX-License-Identifier: Apache-2.0
"""Snowflake's errors, by their numbers and SQL states."""

from __future__ import annotations

from typing import Any

from airflow_parallel_provider.sql.backends.error_classifier import (
    ErrorClassifier,
    Refusal,
    driver_error,
    is_unsendable,
)

_TRANSIENT = frozenset(
    {
        604, 625, 630,  # canceled, too many wait for the lock or none came in time, a time limit
        390111, 390112, 390114, 390195,  # the session or its token has come to an end
    }
)  # fmt: skip
_TRANSIENT_STATES = ("08", "40", "57014")
"""Beginnings of SQL states: the connection, a rolled back transaction (deadlock), canceled."""
_TRANSIENT_CLASSES = frozenset({"OperationalError", "InterfaceError"})
_VALUE = frozenset(
    {
        100035, 100037, 100038, 100039, 100040, 100046,  # no such time, boolean, number or date; out of range
        100069, 100071, 100072, 100078,  # no JSON, no such VARIANT, NULL, too long
    }
)  # fmt: skip
_VALUE_STATES = ("22003", "22007", "22018", "22P02", "23")
_REFUSALS = {
    2003: Refusal.NO_SCHEMA,  # "does not exist or not authorized": it does not tell which
    2043: Refusal.NO_SCHEMA,
    3001: Refusal.RIGHT,
    2002: Refusal.NAME_TAKEN,
}


class SnowflakeErrorClassifier(ErrorClassifier):
    """Errors of the connector. Their text is a number: the message quotes values."""

    def is_transient(self, error: BaseException) -> bool:
        """A lock that was not given, a lost session or connection, a file that could not be sent."""
        cause = driver_error(error)
        if _number(cause) in _TRANSIENT or _state(cause).startswith(_TRANSIENT_STATES):
            return True
        names = {base.__name__ for base in type(cause).__mro__}
        return bool(names & _TRANSIENT_CLASSES) or super().is_transient(error)

    def is_about_value(self, error: BaseException) -> bool:
        """By number, and by SQL state."""
        cause = driver_error(error)
        return is_unsendable(error) or _number(cause) in _VALUE or _state(cause).startswith(_VALUE_STATES)

    def refusal(self, error: BaseException) -> Refusal | None:
        """By number."""
        return _REFUSALS.get(_number(driver_error(error)))

    def explain(self, error: BaseException) -> str:
        """The number and the SQL state, by which the vendor's documentation finds it."""
        cause = driver_error(error)
        if not isinstance(getattr(cause, "errno", None), int):
            return type(cause).__name__
        return f"{type(cause).__name__} {_number(cause):06d} ({_state(cause) or 'no SQL state'})"


def _number(error: Any) -> int:
    number = getattr(error, "errno", None)
    return number if isinstance(number, int) else -1


def _state(error: Any) -> str:
    return str(getattr(error, "sqlstate", None) or "")
