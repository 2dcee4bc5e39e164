"""Time limits, and errors that may pass, of databases without a writer of their own: by the name of their dialect.

Only limits that a session sets for itself. A database that is not here has none (BigQuery, Trino, ClickHouse), or none
that is known here; ``lock_timeout`` bounds how long a chunk is tried again there too.
"""

from __future__ import annotations

import logging
import re
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
_PASSING: Mapping[str, frozenset[int]] = {
    "mssql": frozenset(
        {
            1205, 1222, 3960, 3961, 41301, 41302, 41305, 41325, 41839,  # deadlock, locks, conflict of two transactions
            701, 8645, 10928, 10929, 40501, 49918, 49919, 49920,  # no memory, no quota left, too busy
            921, 922, 976, 978, 983, 3906, 4221, 40197, 40613,  # failing over, recovering, not the primary
            596, 6005, 10053, 10054, 10060,  # killed, shutting down, the connection broke
        }
    ),
    "oracle": frozenset(
        {
            51, 54, 60, 4020, 4021, 8177, 30006,  # locks, deadlock, conflict of two transactions
            1033, 1034, 1089, 1090, 1092, 16000, 16456,  # starting, shutting down, read-only, switching over
            28, 1012, 2396, 3113, 3114, 3135, 12153, 12170, 12537, 12547, 12570, 12571, 12583,  # the connection broke
            12514, 12518, 12528, 12541, 12757,  # the listener, or the service behind it, is not there yet
            *range(25401, 25410),  # a fail-over that the driver could not hide
        }
    ),
    "mysql": _MYSQL,
    "mariadb": _MYSQL,
}  # fmt: skip
"""Error numbers that may pass, by the makers' lists; not every driver calls them operational."""
_ODBC = re.compile(r"\((\d+)\) \(SQL\w+\)")
"""Where pyodbc puts the number, behind a text that may hold other numbers, those of a row's key among them."""


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


def is_transient(error: Any, dialect: str) -> bool:
    """Whether a driver's error means a lock that was not given, a deadlock, a fail-over or a connection that broke."""
    codes = _PASSING.get(dialect)
    if codes is None:
        return False
    first = next(iter(getattr(error, "args", ())), None)
    if getattr(first, "isrecoverable", False):
        return True  # the drivers of Oracle know it of errors of their own, which have no number
    number = getattr(first, "code", first)
    if isinstance(number, int):
        return number in codes
    found = _ODBC.search(str(error))
    return found is not None and int(found[1]) in codes
