# SPDX-License-Identifier: Apache-2.0
"""Names and types of the columns of a query, which no catalog has.

PostgreSQL, MySQL and MariaDB say them with the result, so a login that may only read, or a server that only reads, is
enough. SQLite says them of a view, which is made in the connection's own temporary schema.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from airflow_parallel_provider.errors import PlanError
from airflow_parallel_provider.sources.sql.types.column_readers import read_with
from airflow_parallel_provider.sources.sql.types.mysql_types import DIALECTS as MYSQL_DIALECTS
from airflow_parallel_provider.sources.sql.types.sqlite_types import with_loose_types
from airflow_parallel_provider.sql.backends.types import column_of_sql
from airflow_parallel_provider.values.table_shape import TableShape

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    from airflow_parallel_provider.sql.backends.base import Backend

NAME = "airflow_parallel_query"
"""What the query is called in the statements that read from it."""

_PG_TYPES = """
SELECT t.oid, format_type(COALESCE(e.oid, t.oid), NULL), e.oid IS NOT NULL
FROM pg_catalog.pg_type t LEFT JOIN pg_catalog.pg_type e ON e.oid = t.typelem AND e.typarray = t.oid
WHERE t.oid = ANY(%(oids)s)
"""


def shapes_of_result(connection: Connection, select: Any, backend: Backend) -> tuple[TableShape, TableShape]:
    """The columns of a query as SQLAlchemy would reflect them, and as SQLite's are read; a query declares no key.

    :param select: the query, as a SQLAlchemy text with its parameters.
    :raises PlanError: for two columns of one name.
    """
    import sqlalchemy as sa

    dialect = connection.dialect.name
    if dialect == "sqlite":
        return _shapes_of_view(connection, select, backend)
    described = sa.select(sa.text("*")).select_from(select.columns().subquery(NAME)).where(sa.text("1 = 0"))
    try:
        result = connection.execute(described)
    except sa.exc.DBAPIError as error:
        if getattr(error.orig, "args", [None])[0] == _MYSQL_SAME_NAME:
            raise _same_name("two columns") from None
        raise
    description: list[Any] = list(result.cursor.description) if result.cursor is not None else []
    result.close()
    types: Sequence[Any] = [sa.types.NULLTYPE] * len(description)
    if dialect == "postgresql":
        types = _postgres_types(connection, [column[1] for column in description])
    elif dialect in MYSQL_DIALECTS:
        types = [_mysql_type(column[1]) for column in description]
    shape = _shape([column[0] for column in description], types, dialect)
    return shape, shape


def _shape(names: Sequence[str], types: Sequence[Any], dialect: str) -> TableShape:
    for name in names:
        if names.count(name) > 1:
            raise _same_name(repr(name))
    found = ({"name": name, "type": sql_type} for name, sql_type in zip(names, types, strict=True))
    return TableShape(NAME, None, tuple(column_of_sql(column, dialect) for column in found))


def _same_name(what: str) -> PlanError:
    cure = "columns of the query have the same name, and a row is a dict: name each with AS"
    return PlanError("SqlSource.query", what, cure)


def _postgres_types(connection: Connection, oids: Sequence[int]) -> list[Any]:
    """SQLAlchemy types by the numbers of the types; those of a domain are already those of its base."""
    import sqlalchemy as sa
    from sqlalchemy.dialects import postgresql

    known: Any = connection.dialect
    found = {}
    for oid, name, is_array in connection.exec_driver_sql(_PG_TYPES, {"oids": list(set(oids))}).fetchall():
        made = known.ischema_names.get(name.removesuffix(" with time zone").removesuffix(" without time zone"))
        # Anything else, such as an enum, is what the driver makes of it, and is compared without a type.
        item = sa.types.NULLTYPE if made is None else made()
        if name.endswith(" with time zone"):
            item = made(timezone=True)
        is_known_array = is_array and made is not None
        found[oid] = postgresql.ARRAY(item) if is_known_array else item
    return [found.get(oid, sa.types.NULLTYPE) for oid in oids]


_MYSQL_SAME_NAME = 1060
_MYSQL_STRING = 254


def _mysql_type(code: int) -> Any:
    """A SQLAlchemy type by the number of the protocol, which all drivers have."""
    import sqlalchemy as sa
    from sqlalchemy.dialects import mysql

    of_code: dict[int, Any] = {
        **dict.fromkeys((0, 246), mysql.DECIMAL()),
        **dict.fromkeys((1, 2, 3, 8, 9, 13), sa.BigInteger()),
        4: mysql.FLOAT(),
        5: mysql.DOUBLE(),
        **dict.fromkeys((10, 14), sa.Date()),
        11: mysql.TIME(),
        **dict.fromkeys((7, 12, 17, 18), mysql.DATETIME()),
        245: mysql.JSON(),
    }
    if code in of_code:
        return of_code[code]
    # The protocol calls CHAR, BINARY, ENUM and SET a string.
    return read_with("STRING", read=_bytes, is_compared_as_text=code == _MYSQL_STRING)


def _bytes(stored: Any) -> Any:
    return bytes(stored) if isinstance(stored, bytearray) else stored


def as_compared(column: Any) -> Any:
    """A column of a key as a text, where the database could sort it by one thing and compare it by another (ENUM)."""
    import sqlalchemy as sa

    return sa.func.concat(column) if getattr(column.type, "is_compared_as_text", False) else column


_EXPRESSION = ("", "INT", "NUM", "REAL", "TEXT", "BLOB")
"""What SQLite says of a column that is calculated: its value is read as it is."""


def _shapes_of_view(connection: Connection, select: Any, backend: Backend) -> tuple[TableShape, TableShape]:
    import sqlalchemy as sa

    # A view takes no parameters, and its types do not depend on them.
    empty = [sa.bindparam(name, "", type_=sa.String()) for name in select.compile().params]
    text = select.bindparams(*empty).compile(dialect=connection.dialect, compile_kwargs={"literal_binds": True})
    connection.exec_driver_sql(f"CREATE TEMP VIEW {NAME} AS {text}")
    try:
        declared = connection.exec_driver_sql(f"PRAGMA temp.table_xinfo({NAME})").fetchall()
        columns = sa.inspect(connection).get_columns(NAME, schema="temp")
        names = [row[1] for row in declared]
        for name in names:  # SQLite gives the second of two columns of one name another one
            base = re.fullmatch(r"(.+):\d+", name)
            if base is not None and base[1] in names:
                raise _same_name(repr(base[1]))
        of_name = {column["name"]: column["type"] for column in columns}
        calculated = {row[1] for row in declared if row[2].upper() in _EXPRESSION}
        types = [sa.types.NULLTYPE if name in calculated else of_name[name] for name in names]
        shape = replace(_shape(names, types, "sqlite"), schema="temp")
        loose = with_loose_types(shape, connection, backend)
    finally:
        connection.exec_driver_sql(f"DROP VIEW temp.{NAME}")
    read = (shape.by_name[each.name] if each.name in calculated else each for each in loose.columns)
    return shape, replace(loose, columns=tuple(read))
