"""Old and unwanted loads: forgetting them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_parallel_provider.errors import SinkError
from airflow_parallel_provider.sinks.books import Books, open_books
from airflow_parallel_provider.sinks.ledger import load_id
from airflow_parallel_provider.sinks.load import read_figures

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import timedelta

    from airflow_parallel_provider.sinks.database import Database
    from airflow_parallel_provider.sinks.dead_letters import DeadLetterTable, LetterKey, StoredLetter
    from airflow_parallel_provider.sinks.table import SinkTable

NO_LETTERS = "SinkTable.dead_letters=None: this sink keeps no dead letters"
_PAGE = 500
"""Dead letters read at a time: with their items they may be 60 KB each."""


def load_figures(database: Database, declared: SinkTable, load_key: str) -> dict[str, Any]:
    """The figures of a load; see :meth:`SinkTableHook.aggregates`."""
    books = _open(database, declared)
    with database.guarded() as connection:
        return read_figures(books.ledger, connection, load_id(load_key, declared.table, declared.schema), declared)


def letters_waiting(database: Database, declared: SinkTable, load_key: str | None) -> dict[str, tuple[int, int]]:
    """See :meth:`SinkTableHook.dead_letters_waiting`."""
    letters = _letters(database, declared)
    with database.guarded() as connection:
        return letters.waiting(connection, load_key)


def unresolved_letters(
    database: Database, declared: SinkTable, load_key: str | None, stage: str | None, left_out: str | None
) -> Iterator[StoredLetter]:
    """See :meth:`SinkTableHook.dead_letters`. No transaction is open while a page is gone through."""
    letters = _letters(database, declared)
    after: LetterKey | None = None
    while True:
        with database.guarded() as connection:
            page = letters.page(connection, load_key, stage, after, _PAGE)
        yield from (letter for letter in page if letter.key[0] != left_out)
        if len(page) < _PAGE:
            return
        after = page[-1].key


def _letters(database: Database, declared: SinkTable) -> DeadLetterTable:
    letters = _open(database, declared).letters
    if letters is None:
        raise SinkError(NO_LETTERS)
    return letters


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
