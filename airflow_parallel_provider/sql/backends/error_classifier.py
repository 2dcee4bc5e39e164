"""Which errors of a database may pass, and what may be said of an error."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

_MYSQL = frozenset({1205, 1213, 1684})  # with a driver that has no backend; 1684: the definition is being changed
_TRANSIENT: Mapping[str, frozenset[int]] = {
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
"""Dialect -> error numbers that may pass, by the vendors' lists; not every driver calls them operational."""
_ODBC = re.compile(r"\((\d+)\) \(SQL\w+\)")
"""Where pyodbc puts the number: after a text that may hold other numbers, for example of a row's key."""


class ErrorClassifier:
    """The errors of one database, by their classes and by error numbers.

    :param dialect: name of the SQLAlchemy dialect.
    """

    def __init__(self, dialect: str) -> None:
        self._dialect = dialect

    def is_transient(self, error: BaseException) -> bool:
        """Whether the same chunk may succeed on another try."""
        import sqlalchemy as sa

        if isinstance(error, (sa.exc.OperationalError, sa.exc.InterfaceError)):
            return True
        return has_transient_code(driver_error(error), self._dialect)

    def explain(self, error: BaseException) -> str:
        """The error as text, without any value of a row."""
        return type(driver_error(error)).__name__


def driver_error(error: BaseException) -> Any:
    """The driver's own error, also where SQLAlchemy has wrapped it."""
    return getattr(error, "orig", None) or error


def has_transient_code(error: Any, dialect: str) -> bool:
    """Whether the number of an error means a lock that was not given, a deadlock, a fail-over or a lost connection.

    :param error: the driver's own error.
    :param dialect: name of the SQLAlchemy dialect.
    """
    codes = _TRANSIENT.get(dialect)
    if codes is None:
        return False
    first = next(iter(getattr(error, "args", ())), None)
    if getattr(first, "isrecoverable", False):
        return True  # Oracle's drivers say so of their own errors, which have no number
    number = getattr(first, "code", first)
    if isinstance(number, int):
        return number in codes
    found = _ODBC.search(str(error))
    return found is not None and int(found[1]) in codes
