"""Names as SQL, the way the standard says; MySQL has its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow_parallel_provider.values.table_shape import TableShape


def quote(name: str) -> str:
    """An identifier. For statements without parameters, so that a ``%`` in a name means nothing."""
    return '"' + name.replace('"', '""') + '"'


def column_list(names: Sequence[str]) -> str:
    """Identifiers with commas between."""
    return ", ".join(map(quote, names))


def place(name: str, schema: str | None) -> str:
    """A table."""
    return f"{quote(schema)}.{quote(name)}" if schema else quote(name)


def place_of(shape: TableShape) -> str:
    """A table that is there."""
    return place(shape.name, shape.schema)


def any_missing(values: Sequence[str]) -> str:
    """The condition that a key has a NULL: in a unique index such a key equals no other, not even one like it.

    :param values: the parts of the key as SQL.
    """
    return " OR ".join(f"{value} IS NULL" for value in values)


def on_conflict(names: Sequence[str], key: Sequence[str]) -> str:
    """The end of an INSERT that updates the rows whose key is there."""
    rest = [name for name in names if name not in key]
    action = "UPDATE SET " + ", ".join(f"{quote(n)} = excluded.{quote(n)}" for n in rest) if rest else "NOTHING"
    return f"ON CONFLICT ({column_list(key)}) DO {action}"
