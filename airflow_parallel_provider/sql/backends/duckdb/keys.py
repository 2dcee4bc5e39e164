# SPDX-License-Identifier: Apache-2.0
"""Which keys DuckDB takes for equal in a merge.

A unique index distinguishes 'a' from 'A' whatever the collation of the column. ON CONFLICT does not, where the column
has ``COLLATE NOCASE``, from DuckDB 1.4 on; earlier versions ask the index.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from airflow_parallel_provider.sql.backends.quoting import quote, quote_shape

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    from airflow_parallel_provider.values.table_shape import TableShape

_VERSION = re.compile(r"v(\d+)\.(\d+)")
_FIRST_BY_COLLATION = (1, 4)


def compares_by_collation(connection: Connection, of_table: str, names: tuple[str, str | None]) -> bool:
    """Whether ON CONFLICT may take texts of a table for equal that are not identical.

    :param of_table: the WHERE clause that selects the table from a catalog function, by ``names``.
    """
    query = f"SELECT sql, version() FROM duckdb_tables() {of_table}"  # noqa: S608  # no value in it
    definition, version = connection.exec_driver_sql(query, names).fetchone() or ("", "")
    number = _VERSION.match(version)
    if number is not None and (int(number[1]), int(number[2])) < _FIRST_BY_COLLATION:
        return False
    return " COLLATE " in definition.upper()


def collated(value: str, shape: TableShape, name: str) -> str:
    """A value, as SQL, that compares as ON CONFLICT compares the values of a column."""
    if not shape.by_name[name].case_insensitive:
        return value
    # The subquery finds no row of the table, but it has its column's collation.
    return f"coalesce({value}, (SELECT {quote(name)} FROM {quote_shape(shape)} WHERE false))"  # noqa: S608  # quoted
