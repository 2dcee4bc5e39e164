# SPDX-License-Identifier: Apache-2.0
"""Which errors say that a table or a column does not exist: another attempt may have dropped it in the meantime."""

from __future__ import annotations

import re

from airflow_parallel_provider.sql.backends.error_classifier import driver_error

_POSTGRES_MISSING = {"42P01", "42703"}
_MYSQL_MISSING = {1146, 1054}
_SQLITE_MISSING = re.compile(r"no such table|table .* has no column named ", re.DOTALL)
_DUCKDB_MISSING = {"CatalogException", "BinderException"}


def is_missing_table(error: BaseException) -> bool:
    """Whether an error says that there is no such table or column; False for drivers that are not known here."""
    cause = driver_error(error)
    driver = type(cause).__module__.partition(".")[0]
    if driver == "sqlite3":
        return bool(_SQLITE_MISSING.match(str(cause)))
    if driver in ("psycopg", "psycopg2"):
        return bool(_POSTGRES_MISSING & {getattr(cause, "sqlstate", None), getattr(cause, "pgcode", None)})
    if driver in ("duckdb", "_duckdb"):
        return type(cause).__name__ in _DUCKDB_MISSING
    if driver in ("mysql", "MySQLdb", "pymysql"):
        return (getattr(cause, "errno", None) or next(iter(cause.args), None)) in _MYSQL_MISSING
    return False


def missing_table_message(table: str) -> str:
    """The error text for a table that existed before."""
    return (
        f"table {table!r} no longer exists: it was dropped during the load. Discard the load to write all of it again"
    )
