# SPDX-License-Identifier: Apache-2.0
"""Time limits of databases without a backend of their own, by the name of their dialect.

Only limits that a session can set for itself. A database that is not here has none (BigQuery, Trino, ClickHouse), or
none that is known here. There, too, ``lock_timeout`` bounds how long a chunk is tried again.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

log = logging.getLogger(__name__)

_POSTGRES = ("SET lock_timeout = '{lock_ms}ms'", "SET statement_timeout = '{statement_ms}ms'")
_STATEMENTS: Mapping[str, tuple[str, ...]] = {
    "postgresql": _POSTGRES,  # with a driver that has no backend
    "cockroachdb": _POSTGRES,
    "redshift": ("SET statement_timeout TO {statement_ms}",),
    "mssql": ("SET LOCK_TIMEOUT {lock_ms}",),
    "oracle": ("ALTER SESSION SET DDL_LOCK_TIMEOUT = {lock_s}",),  # a wait for a row lasts until the call ends
    "snowflake": (
        "ALTER SESSION SET LOCK_TIMEOUT = {lock_s}",
        "ALTER SESSION SET STATEMENT_TIMEOUT_IN_SECONDS = {statement_s}",
    ),
    "ibm_db_sa": ("SET CURRENT LOCK TIMEOUT {lock_s}",),
}
_ATTRIBUTES: Mapping[str, tuple[str, int]] = {
    "oracledb": ("call_timeout", 1_000),
    "cx_Oracle": ("call_timeout", 1_000),
    "pyodbc": ("timeout", 1),
}
"""Driver -> attribute of its connection that bounds a statement, and how many of its units are a second."""


def set_limits(raw: Any, dialect: str, lock_timeout: float, statement_timeout: float) -> None:
    """Set those limits that the database and its driver have.

    A limit that the database refuses (an old version, a proxy in between) is logged and left out.

    :param raw: the driver's connection, outside autocommit.
    :param lock_timeout: seconds.
    :param statement_timeout: seconds.
    """
    attribute = _ATTRIBUTES.get(type(raw).__module__.partition(".")[0])
    if attribute is not None:
        name, units_per_second = attribute
        setattr(raw, name, _at_least_one(statement_timeout * units_per_second))
    values = {
        "lock_s": _at_least_one(lock_timeout),
        "lock_ms": _at_least_one(lock_timeout * 1_000),
        "statement_s": _at_least_one(statement_timeout),
        "statement_ms": _at_least_one(statement_timeout * 1_000),
    }
    for statement in _STATEMENTS.get(dialect, ()):
        _set(raw, statement.format_map(values))


def _at_least_one(value: float) -> int:
    return max(1, round(value))  # 0 means "forever" or "not at all", depending on the database


def _set(raw: Any, statement: str) -> None:
    cursor = raw.cursor()
    try:
        cursor.execute(statement)
        raw.commit()  # a rollback would undo the setting
    except Exception as error:  # noqa: BLE001  # drivers have no common class
        raw.rollback()
        log.warning("The database refused %r (%s): this session has no such limit", statement, type(error).__name__)
    finally:
        cursor.close()
