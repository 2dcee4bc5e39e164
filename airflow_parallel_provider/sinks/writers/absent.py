"""Which errors say that a table is not there: another attempt may have dropped it since it was looked at."""

from __future__ import annotations

from typing import Any

_POSTGRES_ABSENT = "42P01"
_MYSQL_ABSENT = 1146


def says_absent(error: BaseException) -> bool:
    """Whether an error says that there is no such table; False also for drivers that are not known here."""
    cause: Any = getattr(error, "orig", None) or error
    driver = type(cause).__module__.partition(".")[0]
    if driver == "sqlite3":
        return str(cause).startswith("no such table")
    if driver in ("psycopg", "psycopg2"):
        return _POSTGRES_ABSENT in (getattr(cause, "sqlstate", None), getattr(cause, "pgcode", None))
    if driver in ("mysql", "MySQLdb", "pymysql"):
        return (getattr(cause, "errno", None) or next(iter(cause.args), None)) == _MYSQL_ABSENT
    return False
