# SPDX-License-Identifier: Apache-2.0
"""Names as SQL, quoted as the SQL standard says; MySQL has its own way."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    from airflow_parallel_provider.values.table_shape import TableShape


def quote(name: str) -> str:
    """An identifier. For statements without parameters, so that a ``%`` in a name means nothing."""
    return '"' + name.replace('"', '""') + '"'


def column_list(names: Sequence[str]) -> str:
    """Identifiers with commas between."""
    return ", ".join(map(quote, names))


def quote_table(name: str, schema: str | None) -> str:
    """A table."""
    return f"{quote(schema)}.{quote(name)}" if schema else quote(name)


def quote_shape(shape: TableShape) -> str:
    """An existing table."""
    return quote_table(shape.name, shape.schema)


def quote_for_dialect(connection: Connection, name: str, schema: str | None) -> str:
    """A table, quoted as the dialect of the connection does."""
    preparer = connection.dialect.identifier_preparer
    return ".".join(preparer.quote_identifier(part) for part in (schema, name) if part is not None)


def any_is_null(values: Sequence[str]) -> str:
    """The condition that a key has a NULL: in a unique index such a key equals no other, not even an identical one.

    :param values: the parts of the key as SQL.
    """
    return " OR ".join(f"{value} IS NULL" for value in values)


def on_conflict(names: Sequence[str], key: Sequence[str], condition: str = "") -> str:
    """The end of an INSERT that updates the rows whose key exists.

    :param condition: which of them, as SQL.
    """
    rest = [name for name in names if name not in key]
    action = "UPDATE SET " + ", ".join(f"{quote(n)} = excluded.{quote(n)}" for n in rest) if rest else "NOTHING"
    return f"ON CONFLICT ({column_list(key)}) DO {action}{f' WHERE {condition}' if condition else ''}"


def is_not_older(row: str, newest: str | None, collation: str = "") -> str:
    """The condition that the row an INSERT brings may replace the one that is there; empty where it always may.

    A NULL is older than any value: a comparison with the NULL of the new row is not true.

    :param row: name, as SQL, of the table of the row that is there.
    :param newest: the column that says which row is newer.
    :param collation: how its texts compare, as SQL.
    """
    if newest is None:
        return ""
    there = f"{row}.{quote(newest)}"
    return f"{there} IS NULL OR excluded.{quote(newest)} >= {there}{collation}"
