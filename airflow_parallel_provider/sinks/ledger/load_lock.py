"""A load that nobody else changes while tables are dropped or renamed for it."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy.engine import Connection

    from airflow_parallel_provider.sinks.ledger.loads import LoadsTable
    from airflow_parallel_provider.sql.database import Database


@dataclass(frozen=True, slots=True)
class LockedLoad:
    """A load in the hands of this attempt."""

    state: str | None
    """None when the load is not there."""
    control_tables: Connection
    """In the transaction that holds it, and that commits at the end."""
    tables: Connection
    """For DDL: the same connection where DDL is part of a transaction, else another, which commits first."""


@contextmanager
def lock_load(database: Database, loads: LoadsTable, load: str, *, alone: bool = True) -> Iterator[LockedLoad]:
    """Hold a load: no attempt begins it or swaps it meanwhile; those that do now are waited for.

    On MySQL a DROP or RENAME ends the transaction it stands in, and with it all locks, *before* it waits for the
    table. So there the lock is held by a second connection.

    :param alone: nobody commits a chunk to it meanwhile, either.
    :raises SinkError: for any error of the database, in words of its own.
    """
    if database.backend.transactional_ddl:
        with database.transaction() as connection:
            yield LockedLoad(loads.lock(connection, load, alone=alone), connection, connection)
        return
    with database.second_connection() as second, second.transaction() as control_tables:
        state = loads.lock(control_tables, load, alone=alone)
        with database.transaction() as tables:  # not every database that is not known to us commits DDL at once
            yield LockedLoad(state, control_tables, tables)
