"""Time limits in the server, for databases without a writer of their own: by the name of their SQLAlchemy dialect.

Only limits that a session sets for itself. A database that is not here has none (BigQuery, Trino, ClickHouse), or none
that is known here; ``lock_timeout`` bounds how long a chunk is tried again there too.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

log = logging.getLogger(__name__)

_POSTGRES = ("SET lock_timeout = '{lock_ms}ms'", "SET statement_timeout = '{statement_ms}ms'")
_STATEMENTS: Mapping[str, tuple[str, ...]] = {
    "postgresql": _POSTGRES,  # with a driver that has no writer
    "cockroachdb": _POSTGRES,
    "redshift": ("SET statement_timeout TO {statement_ms}",),
    "mssql": ("SET LOCK_TIMEOUT {lock_ms}",),
    "oracle": ("ALTER SESSION SET DDL_LOCK_TIMEOUT = {lock_s}",),  # rows are waited for until the call ends
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
_MYSQL = frozenset({1205, 1213, 1684})  # with a driver that has no writer; the last: its definition is being changed
_LOCK_CODES: Mapping[str, frozenset[int]] = {
    "mssql": frozenset({1205, 1222}),
    "oracle": frozenset({54, 60, 4021}),
    "mysql": _MYSQL,
    "mariadb": _MYSQL,
}
"""Errors that mean a deadlock or a lock that was not given; not every driver calls them operational."""


def set_limits(raw: Any, dialect: str, lock_timeout: float, statement_timeout: float) -> None:
    """Set what the database and its driver know.

    A limit that is refused (an old version, a proxy in between) is logged and does without.

    :param raw: the driver's connection, outside autocommit.
    :param lock_timeout: seconds.
    :param statement_timeout: seconds.
    """
    known = _ATTRIBUTES.get(type(raw).__module__.partition(".")[0])
    if known is not None:
        setattr(raw, known[0], _whole(statement_timeout * known[1]))
    values = {
        "lock_s": _whole(lock_timeout), "lock_ms": _whole(lock_timeout * 1_000),
        "statement_s": _whole(statement_timeout), "statement_ms": _whole(statement_timeout * 1_000),
    }  # fmt: skip
    for statement in _STATEMENTS.get(dialect, ()):
        _run(raw, statement.format_map(values))


def _whole(value: float) -> int:
    return max(1, round(value))  # 0 means "for ever" or "not at all", depending on the database


def _run(raw: Any, statement: str) -> None:
    cursor = raw.cursor()
    try:
        cursor.execute(statement)
        raw.commit()  # a rollback would take the setting back
    except Exception as error:  # noqa: BLE001  # drivers have no common class
        raw.rollback()
        log.warning("The database refused %r (%s): no such limit in this session", statement, type(error).__name__)
    finally:
        cursor.close()


def is_lock_error(error: Any, dialect: str) -> bool:
    """Whether a driver's error means that a lock was not given in time, or a deadlock."""
    codes = _LOCK_CODES.get(dialect)
    if codes is None:
        return False
    first = next(iter(getattr(error, "args", ())), None)
    number = getattr(first, "code", first)
    if isinstance(number, int):
        return number in codes
    return any(f"({code})" in str(error) for code in codes)  # ODBC: ('HYT00', '[...] Lock request ... (1222) ...')
