# SPDX-License-Identifier: Apache-2.0
"""The lock on a load, held while tables are dropped or renamed for it."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_parallel_provider.errors import LoadMismatch

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy.engine import Connection

    from airflow_parallel_provider.sinks.ledger.loads import LoadsTable
    from airflow_parallel_provider.sql.database import Database


@dataclass(frozen=True, slots=True)
class LockedLoad:
    """A load that this attempt has locked."""

    state: str | None
    """None if the load does not exist."""
    control_tables: Connection
    """In the transaction that holds the lock, and that commits at the end."""
    tables: Connection
    """For DDL: the same connection where DDL is part of a transaction, else another, which commits first."""


@contextmanager
def lock_load(database: Database, loads: LoadsTable, load: str, *, exclusive: bool = True) -> Iterator[LockedLoad]:
    """Lock a load: no attempt begins it or swaps it in meanwhile. Waits for an attempt that does so now.

    On MySQL a DROP or RENAME ends its transaction, and with it all locks, *before* it waits for the table. There a
    second connection holds the lock.

    :param exclusive: no attempt commits a chunk to it meanwhile, either.
    :raises SinkError: for any error of the database.
    """
    if database.backend.transactional_ddl:
        with database.transaction() as connection:
            yield LockedLoad(loads.lock(connection, load, exclusive=exclusive), connection, connection)
        return
    with database.second_connection() as second, second.transaction() as control_tables:
        state = loads.lock(control_tables, load, exclusive=exclusive)
        with database.transaction() as tables:  # not every database without a backend here commits DDL at once
            yield LockedLoad(state, control_tables, tables)


def require_coordinator(
    loads: LoadsTable, connection: Connection, load: str, load_key: str, coordinator: str | None
) -> None:
    """Check that the run which has sent a shard still coordinates its load.

    :raises LoadMismatch: if it was stopped, or another one has taken over.
    """
    import sqlalchemy as sa

    if coordinator is None:
        return
    query = sa.select(loads.loads.c.coordinator).where(loads.loads.c.load_id == load)
    if connection.execute(query).scalar() != coordinator:
        raise LoadMismatch(dismissed(load_key))


def dismissed(load_key: str) -> str:
    """Why a shard may not commit any more."""
    return (
        f"load {load_key!r}: the run that has sent this shard was stopped, or another one has taken over. What the "
        "shard has committed stays"
    )
