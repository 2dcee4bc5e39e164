"""Which errors say that a table or a column is not there: another attempt may have dropped it meanwhile."""

from __future__ import annotations

import re
from typing import Any

_POSTGRES_ABSENT = {"42P01", "42703"}
_MYSQL_ABSENT = {1146, 1054}
_SQLITE_ABSENT = re.compile(r"no such table|table .* has no column named ", re.DOTALL)
_DUCKDB_ABSENT = {"CatalogException", "BinderException"}


def is_missing_table(error: BaseException) -> bool:
    """Whether an error says that there is no such table or column; False also for drivers that are not known here."""
    cause: Any = getattr(error, "orig", None) or error
    driver = type(cause).__module__.partition(".")[0]
    if driver == "sqlite3":
        return bool(_SQLITE_ABSENT.match(str(cause)))
    if driver in ("psycopg", "psycopg2"):
        return bool(_POSTGRES_ABSENT & {getattr(cause, "sqlstate", None), getattr(cause, "pgcode", None)})
    if driver in ("duckdb", "_duckdb"):
        return type(cause).__name__ in _DUCKDB_ABSENT
    if driver in ("mysql", "MySQLdb", "pymysql"):
        return (getattr(cause, "errno", None) or next(iter(cause.args), None)) in _MYSQL_ABSENT
    return False


def missing_table_message(table: str) -> str:
    """What to say of a table that was there."""
    return (
        f"table {table!r} is gone: somebody has dropped it during the load. Discard the load to write all of it again"
    )
