# SPDX-License-Identifier: Apache-2.0
"""A table of entries of chunks, which commit with their chunk."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_parallel_provider.foreign.text import clean
from airflow_parallel_provider.sinks.ledger.definitions import CHUNK_ID_LENGTH, LOAD_KEY_LENGTH
from airflow_parallel_provider.values.typed_json import dumps

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sqlalchemy.engine import Connection


@dataclass(frozen=True, slots=True)
class ChunkKey:
    """A chunk of a load."""

    load_id: str
    load_key: str
    chunk_id: str


class EntryTable:
    """Statements on a table with any number of entries for each chunk. The caller begins and commits.

    :param table: its SQLAlchemy table, with :func:`chunk_columns`.
    :param value_length: characters of a value's JSON that are kept; a longer one is truncated and marked as incomplete.
    """

    def __init__(self, table: Any, value_length: int) -> None:
        self.table = table
        self.value_length = value_length

    def write(self, connection: Connection, chunk: ChunkKey, entries: Iterable[dict[str, Any]]) -> None:
        """Write the entries of a chunk, in their order.

        :param entries: values by column; an entry may have its own ``load_key``.
        """
        key = {"load_id": chunk.load_id, "load_key": chunk.load_key, "chunk_id": chunk.chunk_id}
        rows = [{**key, "number": number, **entry} for number, entry in enumerate(entries)]
        if rows:
            connection.execute(self.table.insert(), rows)

    def delete(self, connection: Connection, load: str) -> int:
        """Delete the entries of a load; return how many there were."""
        return int(connection.execute(self.table.delete().where(self.table.c.load_id == load)).rowcount)

    def as_json(self, name: str, value: Any) -> dict[str, Any]:
        """A value as typed JSON under a name, and whether the JSON gives the same value back."""
        text, complete = dumps(value, self.value_length)
        return {name: text, f"{name}_complete": complete}


def chunk_columns() -> tuple[Any, ...]:
    """The columns that say which chunk an entry belongs to, and its number there."""
    import sqlalchemy as sa

    return (
        sa.Column("load_id", sa.String(32), primary_key=True, nullable=False),
        sa.Column("chunk_id", sa.String(CHUNK_ID_LENGTH), primary_key=True, nullable=False),
        # One item may have several entries: a stage may yield several results of it.
        sa.Column("number", sa.Integer, primary_key=True, nullable=False, autoincrement=False),
        sa.Column("load_key", sa.String(LOAD_KEY_LENGTH), nullable=False),
    )


def json_columns(name: str, sql_type: Any) -> tuple[Any, Any]:
    """The columns of :meth:`EntryTable.as_json`."""
    import sqlalchemy as sa

    complete: Any = sa.Column(f"{name}_complete", sa.Boolean(create_constraint=False), nullable=False)
    return sa.Column(name, sql_type, nullable=False), complete


def storable(text: str) -> str:
    """A text that every database accepts."""
    return clean(text)
