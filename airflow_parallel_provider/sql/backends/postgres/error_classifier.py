# SPDX-License-Identifier: Apache-2.0
"""PostgreSQL's errors, by their SQLSTATE."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from airflow_parallel_provider.sql.backends.error_classifier import (
    ErrorClassifier,
    Refusal,
    driver_error,
    is_unsendable,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

_TRANSIENT_CLASSES = ("08", "40", "53", "57")
"""Classes of SQLSTATE that may pass: connection, serialization and deadlock, resources, shutdown and cancel."""
_TRANSIENT_STATES = ("55P03", "25P03", "25P04", "25006", "58000", "58030")
"""And of other classes: lock not available, a transaction that was idle or open for too long, a server that is
read-only (the primary of before a fail-over, or not yet the new one), errors of its system and its disk."""

POOLER_STATES = ("26000", "42P05")
"""A prepared statement that is not there, or is there already: a pooler has given the transaction another session."""
_VALUE_CLASSES = ("22", "23")
"""Classes of SQLSTATE about a value: data exception and integrity constraint."""
_VALUE_STATES = frozenset(
    {
        "44000",  # WITH CHECK OPTION of a view
        "54000", "54001",  # too large for an index or a page, JSON that is too deep
        "P0001", "P0004",  # RAISE EXCEPTION and ASSERT of a trigger
    }
)  # fmt: skip
_NO_VALUE_STATES = frozenset({"22P04"})
"""Of those classes, but about the format of a COPY."""
_ROW_POLICY = "ExecWithCheckOptions"
"""The server's function that checks policies of row-level security. SQLSTATE is that of a missing right."""
_UNADAPTED = re.compile(r"can(no|')t adapt type ")
"""How psycopg 3 and 2 begin an error about a value of a class that they do not know."""
_REFUSALS: Mapping[str, Refusal] = {
    "42501": Refusal.RIGHT, "28000": Refusal.RIGHT, "28P01": Refusal.RIGHT,
    "42809": Refusal.VIEW, "55000": Refusal.VIEW, "0A000": Refusal.VIEW,
    "25006": Refusal.READ_ONLY,
    "428C9": Refusal.GENERATED, "42P10": Refusal.GENERATED,
    "54011": Refusal.TOO_MANY_COLUMNS,
    "3F000": Refusal.NO_SCHEMA,
    "42P07": Refusal.NAME_TAKEN, "42710": Refusal.NAME_TAKEN,
    "42701": Refusal.BAD_COLUMN, "42704": Refusal.BAD_COLUMN, "42P16": Refusal.BAD_COLUMN,
}  # fmt: skip
_KEY = re.compile(r"\((.+?)\)=\(")
"""Names of columns in the detail of a duplicate key, in any language."""


class PostgresErrorClassifier(ErrorClassifier):
    """Errors of psycopg 3 or 2."""

    def is_transient(self, error: BaseException) -> bool:
        """By SQLSTATE; an operational error without one is a lost connection."""
        cause = driver_error(error)
        state = sqlstate(cause)
        if state is None:
            return type(cause).__name__ in ("OperationalError", "InterfaceError")
        return (
            state[:2] in _TRANSIENT_CLASSES or state in (*_TRANSIENT_STATES, *POOLER_STATES) or _is_catalog_race(cause)
        )

    def is_about_value(self, error: BaseException) -> bool:
        """By SQLSTATE; without one the driver cannot send a value."""
        cause = driver_error(error)
        state = sqlstate(cause)
        if state is None:
            unknown = type(cause).__name__ == "ProgrammingError" and _UNADAPTED.match(str(cause))
            return bool(unknown) or is_unsendable(error) or type(cause).__name__ == "DataError"
        if state == "42501":
            return getattr(getattr(cause, "diag", None), "source_function", None) == _ROW_POLICY
        in_class = state[:2] in _VALUE_CLASSES and state not in _NO_VALUE_STATES
        return in_class or state in _VALUE_STATES

    def refusal(self, error: BaseException) -> Refusal | None:
        """By SQLSTATE."""
        return _REFUSALS.get(sqlstate(driver_error(error)) or "")

    def violated_key(self, error: BaseException) -> tuple[str, ...]:
        """From the detail of the error; an expression stands there as it was written."""
        cause = driver_error(error)
        if sqlstate(cause) != "23505":
            return ()
        found = _KEY.search(getattr(getattr(cause, "diag", None), "message_detail", None) or "")
        return tuple(name.strip('"') for name in found[1].split(", ")) if found else ()

    def explain(self, error: BaseException) -> str:
        """SQLSTATE and the names that the server gives; its message and detail would quote values."""
        cause = driver_error(error)
        text = type(cause).__name__
        if sqlstate(cause):
            text += f", SQLSTATE {sqlstate(cause)}"
        diagnosis = getattr(cause, "diag", None)
        for part in ("table", "column", "constraint"):
            name = getattr(diagnosis, f"{part}_name", None)
            if name:
                text += f", {part} {name!r}"
        return text


def _is_catalog_race(cause: Any) -> bool:
    """Whether two transactions have changed the same table or name at a time: PostgreSQL calls that a duplicate."""
    diagnosis = getattr(cause, "diag", None)
    if sqlstate(cause) == "23505":
        return getattr(diagnosis, "schema_name", None) == "pg_catalog"
    changed = ("simple_heap_update", "simple_heap_delete")
    return sqlstate(cause) == "XX000" and getattr(diagnosis, "source_function", None) in changed


def sqlstate(cause: Any) -> str | None:
    """The SQLSTATE of a driver's error, where it has one."""
    return getattr(cause, "sqlstate", None) or getattr(cause, "pgcode", None)  # of psycopg 3, of psycopg 2
