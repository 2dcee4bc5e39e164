"""Old and unwanted loads: forgetting them."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow_parallel_provider.errors import SinkError
from airflow_parallel_provider.sinks.ledger.control_tables import Books
from airflow_parallel_provider.sinks.ledger.dead_letters import DeadLetterTable
from airflow_parallel_provider.sinks.ledger.loads import load_id
from airflow_parallel_provider.sinks.load.open_load import read_figures
from airflow_parallel_provider.sinks.load.open_tables import open_books
from airflow_parallel_provider.sinks.load.rerun import delete_rows, drop_staging

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy.engine import Connection

    from airflow_parallel_provider.sinks.ledger.dead_letters import LetterKey, StoredLetter
    from airflow_parallel_provider.sinks.table import SinkTable
    from airflow_parallel_provider.sql.database import Database

NO_LETTERS = "SinkTable.dead_letters: this sink has no table of dead letters"
_PAGE = 500
"""Dead letters read at a time: with their items they may be 60 KB each."""


def load_figures(database: Database, declared: SinkTable, load_key: str) -> dict[str, Any]:
    """The figures of a load; see :meth:`SinkTableHook.aggregates`."""
    books = _open(database, declared)
    with database.guarded() as connection:
        named = books.loads.named(connection, load_key, declared.shown)
        load = named[0] if named else load_id(load_key, declared.table, declared.schema)
        return read_figures(books.ledger, connection, load, declared)


def letters_waiting(database: Database, declared: SinkTable, load_key: str | None) -> dict[str, tuple[int, int]]:
    """See :meth:`SinkTableHook.dead_letters_waiting`."""
    letters = _letters(_open(database, declared))
    with database.guarded() as connection:
        return letters.waiting(connection, load_key)


def unresolved_letters(
    database: Database, declared: SinkTable, load_key: str | None, stage: str | None, but_of: str | None
) -> Iterator[StoredLetter]:
    """See :meth:`SinkTableHook.dead_letters`. No transaction is open while a page is gone through."""
    books = _open(database, declared)
    letters = _letters(books)
    after: LetterKey | None = None
    left_out: set[str] = set()
    while True:
        with database.guarded() as connection:
            if but_of is not None and not left_out:
                left_out = _ids(books, connection, declared, but_of)
            page = letters.page(connection, load_key, stage, after, _PAGE)
        yield from (letter for letter in page if letter.key[0] not in left_out)
        if len(page) < _PAGE:
            return
        after = page[-1].key


def _letters(books: Books) -> DeadLetterTable:
    if not isinstance(books.letters, DeadLetterTable):
        raise SinkError(NO_LETTERS)
    return books.letters


def discard_load(database: Database, declared: SinkTable, load_key: str, *, rows: bool) -> int:
    """Forget a load in all its generations; see :meth:`SinkTableHook.discard`."""
    books = _open(database, declared)
    with database.transaction() as connection:
        loads = _ids(books, connection, declared, load_key)
        chunks = sum(books.forget(connection, load) for load in sorted(loads))
        if rows:
            delete_rows(connection, declared, sorted(loads), database.writer)
    drop_staging(database, declared, sorted(loads))
    return chunks


def purge(database: Database, declared: SinkTable, older_than: timedelta, *, abandoned: bool) -> int:
    """Forget what was complete so long ago; see :meth:`SinkTableHook.purge_ledger`."""
    if not isinstance(older_than, timedelta):
        raise SinkError(f"purge_ledger(): older_than={older_than!r}: give a datetime.timedelta, as timedelta(days=30)")
    books = _open(database, declared)
    given_up: list[str] = []
    with database.transaction() as connection:
        old = books.loads.complete_before(connection, older_than)
        if abandoned:
            given_up = books.loads.open_since(connection, older_than, declared.shown)
        for load in [*old, *given_up]:
            books.ledger.forget(connection, load)
    drop_staging(database, declared, given_up)
    return len(old) + len(given_up)


def _ids(books: Books, connection: Connection, declared: SinkTable, load_key: str) -> set[str]:
    """The loads that go by a key, in all generations."""
    named = books.loads.named(connection, load_key, declared.shown)
    return {load_id(load_key, declared.table, declared.schema), *named}


def _open(database: Database, declared: SinkTable) -> Books:
    with database.guarded():
        return open_books(database, declared)
