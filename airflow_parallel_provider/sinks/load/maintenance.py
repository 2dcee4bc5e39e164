# SPDX-License-Identifier: Apache-2.0
"""What is done with loads apart from loading: their dead letters are read, old and unwanted ones are deleted."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow_parallel_provider.errors import SinkError
from airflow_parallel_provider.sinks.ledger.definitions import load_id
from airflow_parallel_provider.sinks.load.earlier_loads import that_are_remembered
from airflow_parallel_provider.sinks.load.one_load import read_aggregates
from airflow_parallel_provider.sinks.load.open_tables import open_control_tables
from airflow_parallel_provider.sinks.load.rerun import delete_rows, drop_staging

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy.engine import Connection

    from airflow_parallel_provider.sinks.ledger.control_tables import ControlTables
    from airflow_parallel_provider.sinks.ledger.dead_letters import DeadLetterKey, StoredDeadLetter
    from airflow_parallel_provider.sinks.load.destination import Destination
    from airflow_parallel_provider.sinks.spec.table_spec import TableSpec

_PAGE = 500
"""Dead letters read at a time: with its item, one may have 60 KB."""


def load_aggregates(destination: Destination, load_key: str) -> dict[str, Any]:
    """The aggregates of a load; see :meth:`SinkTableHook.aggregates`."""
    spec, control_tables = destination.spec, _open(destination)
    with destination.database.session() as connection:
        found = control_tables.loads.by_key(connection, load_key, spec.display_name)
        load = found[0] if found else load_id(load_key, spec.table, spec.schema)
        return read_aggregates(control_tables.ledger, connection, load, spec)


def count_waiting(destination: Destination, load_key: str | None) -> dict[str, tuple[int, int]]:
    """How many dead letters are unresolved, by stage; see :meth:`SinkTableHook.dead_letters_waiting`."""
    dead_letters = _open(destination).dead_letter_table()
    with destination.database.session() as connection:
        return dead_letters.waiting(connection, load_key)


def unresolved_dead_letters(
    destination: Destination, load_key: str | None, stage: str | None, but_of: str | None
) -> Iterator[StoredDeadLetter]:
    """See :meth:`SinkTableHook.dead_letters`. No transaction is open while the caller works on a page."""
    database, control_tables = destination.database, _open(destination)
    dead_letters = control_tables.dead_letter_table()
    after: DeadLetterKey | None = None
    excluded: set[str] = set()
    while True:
        with database.session() as connection:
            if but_of is not None and not excluded:
                excluded = _ids(control_tables, connection, destination.spec, but_of)
            page = dead_letters.page(connection, load_key, stage, after, _PAGE)
        for dead_letter in page:
            same = load_key is None or dead_letter.load_key == load_key  # a database may ignore spaces at the end
            if same and dead_letter.key[0] not in excluded:
                yield dead_letter
        if len(page) < _PAGE:
            return
        after = page[-1].key


def discard_load(destination: Destination, load_key: str, *, rows: bool) -> int:
    """Delete a load in all its generations; see :meth:`SinkTableHook.discard`."""
    spec, database, control_tables = destination.spec, destination.database, _open(destination)
    with database.transaction() as connection:
        loads = sorted(_ids(control_tables, connection, spec, load_key))
        chunks = sum(control_tables.delete(connection, load) for load in loads)
        if rows:
            delete_rows(connection, spec, loads, database.backend)
    drop_staging(database, spec, loads)
    return chunks


def purge(destination: Destination, older_than: timedelta, *, abandoned: bool) -> int:
    """Delete loads that completed so long ago; see :meth:`SinkTableHook.purge_ledger`."""
    if not isinstance(older_than, timedelta):
        raise SinkError(f"purge_ledger(): older_than={older_than!r}: give a datetime.timedelta, as timedelta(days=30)")
    spec, database, control_tables = destination.spec, destination.database, _open(destination)
    given_up: list[str] = []
    with database.transaction() as connection:
        old = control_tables.loads.complete_before(connection, older_than)
        if abandoned:
            given_up = control_tables.loads.open_since(connection, older_than, spec.display_name)
        kept = that_are_remembered(connection, control_tables, [*old, *given_up])
        old, given_up = ([load for load in loads if load not in kept] for loads in (old, given_up))
        for load in [*old, *given_up]:
            control_tables.ledger.delete(connection, load)
    drop_staging(database, spec, given_up)
    return len(old) + len(given_up)


def _ids(control_tables: ControlTables, connection: Connection, spec: TableSpec, load_key: str) -> set[str]:
    """The loads with a key, in all generations."""
    found = control_tables.loads.by_key(connection, load_key, spec.display_name)
    return {load_id(load_key, spec.table, spec.schema), *found}


def _open(destination: Destination) -> ControlTables:
    with destination.database.session():
        return open_control_tables(destination)
