"""A load that nobody else changes while tables are dropped or renamed for it."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy.engine import Connection

    from airflow_parallel_provider.sinks.ledger.loads import Loads
    from airflow_parallel_provider.sql.database import Database


@dataclass(frozen=True, slots=True)
class Held:
    """A load in the hands of this attempt."""

    state: str | None
    """None when the load is not there."""
    books: Connection
    """In the transaction that holds it, and that commits at the end."""
    tables: Connection
    """For DDL: the same connection where DDL is part of a transaction, else another, which commits first."""


@contextmanager
def held_load(database: Database, loads: Loads, load: str, *, alone: bool = True) -> Iterator[Held]:
    """Hold a load: no attempt begins it or swaps it meanwhile; those that do now are waited for.

    On MySQL a DROP or RENAME ends the transaction it stands in, and with it all locks, *before* it waits for the
    table. So there the lock is held by a second connection.

    :param alone: nobody commits a chunk to it meanwhile, either.
    :raises SinkError: for any error of the database, in words of its own.
    """
    if database.writer.transactional_ddl:
        with database.transaction() as connection:
            yield Held(loads.hold(connection, load, alone=alone), connection, connection)
        return
    with database.beside() as second, second.transaction() as books:
        state = loads.hold(books, load, alone=alone)
        with database.transaction() as tables:  # not every database that is not known to us commits DDL at once
            yield Held(state, books, tables)
