"""Old and unwanted loads: forgetting them."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow_parallel_provider.errors import SinkError
from airflow_parallel_provider.sinks.ledger.control_tables import ControlTables
from airflow_parallel_provider.sinks.ledger.dead_letters import DeadLetterTable
from airflow_parallel_provider.sinks.ledger.loads import load_id
from airflow_parallel_provider.sinks.load.open_load import read_aggregates
from airflow_parallel_provider.sinks.load.open_tables import open_control_tables
from airflow_parallel_provider.sinks.load.rerun import delete_rows, drop_staging

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy.engine import Connection

    from airflow_parallel_provider.sinks.ledger.dead_letters import DeadLetterKey, StoredDeadLetter
    from airflow_parallel_provider.sinks.table import SinkTable
    from airflow_parallel_provider.sql.database import Database

NO_DEAD_LETTERS = "SinkTable.dead_letters: this sink has no table of dead letters"
_PAGE = 500
"""Dead letters read at a time: with their items they may be 60 KB each."""


def load_aggregates(database: Database, declared: SinkTable, load_key: str) -> dict[str, Any]:
    """The figures of a load; see :meth:`SinkTableHook.aggregates`."""
    control_tables = _open(database, declared)
    with database.session() as connection:
        named = control_tables.loads.by_key(connection, load_key, declared.display_name)
        load = named[0] if named else load_id(load_key, declared.table, declared.schema)
        return read_aggregates(control_tables.ledger, connection, load, declared)


def count_waiting(database: Database, declared: SinkTable, load_key: str | None) -> dict[str, tuple[int, int]]:
    """See :meth:`SinkTableHook.dead_letters_waiting`."""
    dead_letters = _dead_letters(_open(database, declared))
    with database.session() as connection:
        return dead_letters.waiting(connection, load_key)


def unresolved_dead_letters(
    database: Database, declared: SinkTable, load_key: str | None, stage: str | None, but_of: str | None
) -> Iterator[StoredDeadLetter]:
    """See :meth:`SinkTableHook.dead_letters`. No transaction is open while a page is gone through."""
    control_tables = _open(database, declared)
    dead_letters = _dead_letters(control_tables)
    after: DeadLetterKey | None = None
    left_out: set[str] = set()
    while True:
        with database.session() as connection:
            if but_of is not None and not left_out:
                left_out = _ids(control_tables, connection, declared, but_of)
            page = dead_letters.page(connection, load_key, stage, after, _PAGE)
        yield from (dead_letter for dead_letter in page if dead_letter.key[0] not in left_out)
        if len(page) < _PAGE:
            return
        after = page[-1].key


def _dead_letters(control_tables: ControlTables) -> DeadLetterTable:
    if not isinstance(control_tables.dead_letters, DeadLetterTable):
        raise SinkError(NO_DEAD_LETTERS)
    return control_tables.dead_letters


def discard_load(database: Database, declared: SinkTable, load_key: str, *, rows: bool) -> int:
    """Forget a load in all its generations; see :meth:`SinkTableHook.discard`."""
    control_tables = _open(database, declared)
    with database.transaction() as connection:
        loads = _ids(control_tables, connection, declared, load_key)
        chunks = sum(control_tables.delete(connection, load) for load in sorted(loads))
        if rows:
            delete_rows(connection, declared, sorted(loads), database.backend)
    drop_staging(database, declared, sorted(loads))
    return chunks


def purge(database: Database, declared: SinkTable, older_than: timedelta, *, abandoned: bool) -> int:
    """Forget what was complete so long ago; see :meth:`SinkTableHook.purge_ledger`."""
    if not isinstance(older_than, timedelta):
        raise SinkError(f"purge_ledger(): older_than={older_than!r}: give a datetime.timedelta, as timedelta(days=30)")
    control_tables = _open(database, declared)
    given_up: list[str] = []
    with database.transaction() as connection:
        old = control_tables.loads.complete_before(connection, older_than)
        if abandoned:
            given_up = control_tables.loads.open_since(connection, older_than, declared.display_name)
        for load in [*old, *given_up]:
            control_tables.ledger.delete(connection, load)
    drop_staging(database, declared, given_up)
    return len(old) + len(given_up)


def _ids(control_tables: ControlTables, connection: Connection, declared: SinkTable, load_key: str) -> set[str]:
    """The loads that go by a key, in all generations."""
    named = control_tables.loads.by_key(connection, load_key, declared.display_name)
    return {load_id(load_key, declared.table, declared.schema), *named}


def _open(database: Database, declared: SinkTable) -> ControlTables:
    with database.session():
        return open_control_tables(database, declared)
