"""Errors of MySQL and MariaDB, by their numbers."""

from __future__ import annotations

import re

from airflow_parallel_provider.sql.backends.error_classifier import ErrorClassifier, driver_error

_TRANSIENT = frozenset(
    {
        1020, 1205, 1206, 1213, 1412, 1637, 1684, 1689, 3101,  # record or table changed, locks, deadlock, conflict
        1037, 1040, 1041, 1203, 1226,  # no memory, no connection, no quota left
        1053, 1317, 1927, 1969, 3024, 3169, 4031,  # shutting down, killed, out of time
        1047, 1180, 3032, 3100, 3168,  # a node not ready, a commit that failed, offline
        1290, 1792, 1836, 1874,  # read-only: the primary of before a fail-over, or not yet the new one
        1158, 1159, 1160, 1161, 2002, 2003, 2006, 2012, 2013, 2026, 2027, 2055,  # the connection broke
        9001,  # ProxySQL found no server
    }
)  # fmt: skip
"""Error numbers that may pass. None of them is the fault of a row."""
_QUOTED = re.compile(r"'[^']*'?")


class MysqlErrorClassifier(ErrorClassifier):
    """Errors of mysqlclient, mysql-connector-python or PyMySQL."""

    def is_transient(self, error: BaseException) -> bool:
        """By error number; mysql-connector-python has none (-1) for a connection that it found closed."""
        operational = type(driver_error(error)).__name__ == "OperationalError"
        number = error_number(error)
        return number in _TRANSIENT or (operational and number in (None, -1, 0))

    def explain(self, error: BaseException) -> str:
        """Number and message, without what the message quotes: that may be a value."""
        cause = driver_error(error)
        texts = [getattr(cause, "msg", None), *getattr(cause, "args", ())]
        message = next((text for text in texts if isinstance(text, str)), "")
        return f"{type(cause).__name__} {error_number(error) or ''}: {_QUOTED.sub('...', message)[:200]}"


def error_number(error: BaseException) -> int | None:
    """The server's or the driver's number of an error, where it has one."""
    cause = driver_error(error)
    number = getattr(cause, "errno", None)
    if number is None and getattr(cause, "args", None):
        number = cause.args[0]
    return number if isinstance(number, int) else None
