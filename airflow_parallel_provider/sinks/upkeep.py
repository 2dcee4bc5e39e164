"""Old and unwanted loads: forgetting them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_parallel_provider.sinks.books import Books, open_books
from airflow_parallel_provider.sinks.ledger import load_id
from airflow_parallel_provider.sinks.load import read_figures

if TYPE_CHECKING:
    from datetime import timedelta

    from airflow_parallel_provider.sinks.database import Database
    from airflow_parallel_provider.sinks.table import SinkTable


def load_figures(database: Database, declared: SinkTable, load_key: str) -> dict[str, Any]:
    """The figures of a load; see :meth:`SinkTableHook.aggregates`."""
    books = _open(database, declared)
    with database.guarded() as connection:
        return read_figures(books.ledger, connection, load_id(load_key, declared.table, declared.schema), declared)


def discard_load(database: Database, declared: SinkTable, load_key: str) -> int:
    """Forget a load; see :meth:`SinkTableHook.discard`."""
    books = _open(database, declared)
    load = load_id(load_key, declared.table, declared.schema)
    with database.transaction() as connection:
        return books.forget(connection, load)


def purge(database: Database, declared: SinkTable, older_than: timedelta) -> int:
    """Forget what was complete so long ago; see :meth:`SinkTableHook.purge_ledger`."""
    ledger = _open(database, declared).ledger
    with database.transaction() as connection:
        old = ledger.complete_before(connection, older_than)
        for load in old:
            ledger.forget(connection, load)
    return len(old)


def _open(database: Database, declared: SinkTable) -> Books:
    with database.guarded():
        return open_books(database, declared)
