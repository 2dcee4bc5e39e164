"""Which keys DuckDB takes for equal in a merge.

A unique index tells 'a' and 'A' apart whatever the collation of the column. ON CONFLICT does not where the column has
``COLLATE NOCASE``, from DuckDB 1.4 on; before, it asked the index.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from airflow_parallel_provider.sql.backends.quoting import place_of, quote

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    from airflow_parallel_provider.values.table_shape import TableShape

_VERSION = re.compile(r"v(\d+)\.(\d+)")
_FIRST_BY_COLLATION = (1, 4)


def collates(connection: Connection, where: str, names: tuple[str, str | None]) -> bool:
    """Whether ON CONFLICT may take texts of a table for equal that are not the same.

    :param where: picks the table from a catalogue function, by ``names``.
    """
    query = f"SELECT sql, version() FROM duckdb_tables() {where}"  # noqa: S608  # no value in it
    made, version = connection.exec_driver_sql(query, names).fetchone() or ("", "")
    number = _VERSION.match(version)
    if number is not None and (int(number[1]), int(number[2])) < _FIRST_BY_COLLATION:
        return False
    return " COLLATE " in made.upper()


def compared(value: str, shape: TableShape, name: str) -> str:
    """A value for a column, which compares as ON CONFLICT compares the column."""
    if not shape.by_name[name].case_insensitive:
        return value
    # Never a row of the table, but its column's collation.
    return f"coalesce({value}, (SELECT {quote(name)} FROM {place_of(shape)} WHERE false))"  # noqa: S608  # quoted
