# SPDX-License-Identifier: Apache-2.0
"""Errors of MySQL and MariaDB, by their numbers."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from airflow_parallel_provider.sql.backends.error_classifier import (
    ErrorClassifier,
    Refusal,
    driver_error,
    is_unsendable,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

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
_VALUE = frozenset(
    {
        1048, 1062, 1169, 1216, 1217, 1451, 1452, 1557, 1586, 1761, 1762, 3819, 4025,  # NOT NULL, keys, CHECK
        1264, 1690, 3752,  # out of range
        1265, 1292, 1366, 1367, 1411, 1416, 1441, 1525, 3751,  # no value of the type
        1118, 1406, 1713, 3886,  # too long, also of all columns together
        1300, 1977, 3854,  # no text of the encoding
        3140, 3141, 3143, 3155, 3156, 3157, 3903, 3904, 4037, 4038,  # no JSON, or JSON of another type
        1365,  # division by zero in a column that is computed
        1526, 1748,  # no partition for the value
        1369,  # WITH CHECK OPTION of a view
        1644, 1645,  # SIGNAL and RESIGNAL of a trigger
    }
)  # fmt: skip
"""Error numbers about a value."""
_UNADAPTED = "cannot be converted to a MySQL type"
"""How mysql-connector-python ends an error about a value of a class that it does not know. It has no number."""
_REFUSALS: Mapping[int, Refusal] = {
    1044: Refusal.RIGHT, 1045: Refusal.RIGHT, 1142: Refusal.RIGHT, 1143: Refusal.RIGHT, 1227: Refusal.RIGHT,
    1370: Refusal.RIGHT, 1410: Refusal.RIGHT,
    1288: Refusal.VIEW, 1347: Refusal.VIEW, 1356: Refusal.VIEW, 1393: Refusal.VIEW, 1394: Refusal.VIEW,
    1423: Refusal.VIEW, 1471: Refusal.VIEW,
    1036: Refusal.READ_ONLY, 1290: Refusal.READ_ONLY, 1792: Refusal.READ_ONLY, 1836: Refusal.READ_ONLY,
    1906: Refusal.GENERATED, 3105: Refusal.GENERATED,
    1117: Refusal.TOO_MANY_COLUMNS,
    1118: Refusal.ROW_TOO_WIDE, 1074: Refusal.ROW_TOO_WIDE, 139: Refusal.ROW_TOO_WIDE,
    1071: Refusal.KEY_TOO_LONG, 1170: Refusal.KEY_TOO_LONG,
    1049: Refusal.NO_SCHEMA, 1046: Refusal.NO_SCHEMA,
    1050: Refusal.NAME_TAKEN,
    1060: Refusal.BAD_COLUMN, 1063: Refusal.BAD_COLUMN, 1166: Refusal.BAD_COLUMN,
}  # fmt: skip
_SIGNALS = (1644, 1645)
_QUOTED = re.compile(r"'[^']*'?")


class MysqlErrorClassifier(ErrorClassifier):
    """Errors of mysqlclient, mysql-connector-python or PyMySQL."""

    def is_transient(self, error: BaseException) -> bool:
        """By error number; mysql-connector-python has none (-1) for a connection that it found closed."""
        operational = type(driver_error(error)).__name__ == "OperationalError"
        number = error_number(error)
        return number in _TRANSIENT or (operational and number in (None, -1, 0))

    def is_about_value(self, error: BaseException) -> bool:
        """By error number; without one the driver cannot send a value."""
        number = error_number(error)
        unknown = number in (None, -1) and str(driver_error(error)).endswith(_UNADAPTED)
        return number in _VALUE or unknown or is_unsendable(error)

    def refusal(self, error: BaseException) -> Refusal | None:
        """By error number."""
        return _REFUSALS.get(error_number(error) or 0)

    def explain(self, error: BaseException) -> str:
        """Number and message, without what may be a value: what the message quotes, and what a trigger says."""
        cause = driver_error(error)
        if error_number(error) in _SIGNALS:
            return f"{type(cause).__name__} {error_number(error)}: a trigger has raised it"
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
