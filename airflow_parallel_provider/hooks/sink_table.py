"""``SinkTableHook``: chunks into a table, each exactly once, on any SQL connection of Airflow."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, TypedDict

from airflow.sdk import BaseHook

from airflow_parallel_provider.errors import LoadMismatch, SinkError
from airflow_parallel_provider.sinks.books import Books, open_books
from airflow_parallel_provider.sinks.commit import Committer
from airflow_parallel_provider.sinks.database import Database, bound_hook
from airflow_parallel_provider.sinks.ledger import (
    CHUNK_ID_LENGTH,
    ChunkReceipt,
    LoadSummary,
    load_id,
    now,
)
from airflow_parallel_provider.sinks.rows import Block
from airflow_parallel_provider.sinks.table import SinkTable
from airflow_parallel_provider.sinks.target import Target

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import timedelta
    from typing import Literal, Self, Unpack

    from airflow_parallel_provider.engine.sink import DeadLetter, LoadSpec
    from airflow_parallel_provider.sinks.kinds import Column


class SinkTableOptions(TypedDict, total=False):
    """The keyword arguments of :class:`~airflow_parallel_provider.sinks.table.SinkTable`, with its defaults."""

    schema: str | None
    write_disposition: Literal["append", "merge"]
    primary_key: str | Iterable[str]
    columns: Mapping[str, Any] | Iterable[str | Column] | None
    dead_letters: str | None
    ledger_table: str
    lock_timeout: float
    statement_timeout: float
    dead_letter_length: int


class SinkTableHook(BaseHook):
    """Writes chunks of rows into a table, each chunk exactly once, with its ledger row in the same transaction.

    Usable without the operators of this package::

        hook = SinkTableHook("warehouse", "prices", primary_key=["id"])
        with hook:
            done = hook.open(LoadSpec(load_key="prices-2026-11-21", chunk_size=1000, source="prices.csv"))
            for number, rows in enumerate(chunks_of(1000)):
                if f"{number:08d}" not in done:
                    hook.write_chunk(f"{number:08d}", rows, first_position=number * 1000)
            hook.consolidate()

    Run that again after a crash at any point, and the table is as if nothing had happened.

    :param conn_id: Airflow connection of any SQL database.
    :param table: name of the table, without its schema.
    :param connection: an Airflow ``Connection`` that is at hand; None looks ``conn_id`` up.
    :param options: as those of :class:`~airflow_parallel_provider.sinks.table.SinkTable`.
    :raises PlanError: for an argument that cannot be right.

    :meth:`resolve` is the only method that talks to Airflow. All others except :meth:`interrupt` belong to one thread:
    the one that called :meth:`open`.
    """

    hook_name = "Sink table"

    def __init__(
        self, conn_id: str, table: str, *, connection: Any = None, **options: Unpack[SinkTableOptions]
    ) -> None:
        super().__init__()
        self._declare(SinkTable(table, conn_id=conn_id, **options), connection)

    @classmethod
    def of(cls, declaration: SinkTable, connection: Any = None) -> SinkTableHook:
        """A hook for what an author has declared."""
        hook = cls.__new__(cls)
        BaseHook.__init__(hook)
        hook._declare(declaration, connection)
        return hook

    def _declare(self, declaration: SinkTable, connection: Any) -> None:
        self.declaration = declaration
        self._given = connection
        self._provider_hook: Any = None
        self._database: Database | None = None
        self._committer: Committer | None = None
        self._spec: LoadSpec | None = None
        self.source_state: Mapping[str, Any] | None = None
        """What the source of the open load froze at its first try; None as long as no chunk is in."""
        self._stopped = threading.Event()

    def __enter__(self) -> Self:
        """The hook itself; leaving closes it."""
        return self

    def __exit__(self, *_: object) -> None:
        """Let go of the connection."""
        self.close()

    def get_conn(self) -> Any:
        """A new connection of the database's driver, for statements of your own."""
        self.resolve()
        return self._provider_hook.get_conn()

    def resolve(self) -> None:
        """Ask Airflow for the connection, once. Nothing after this does.

        :raises PlanError: when there is no such connection, or it is not one of an SQL database.
        """
        if self._provider_hook is None:
            self._provider_hook = bound_hook(self.declaration.conn_id, self._given)

    def open(self, spec: LoadSpec) -> Mapping[str, ChunkReceipt]:
        """Begin a load or go on with it; return the chunks that are in, by chunk id.

        Makes the ledger, the table of dead letters and, where all types are declared, the table.

        :param spec: ``load_key`` is needed here.
        :raises LoadMismatch: when the load was begun with another chunk size, source or declaration, or its table is
            gone.
        :raises UnsafeTable: when rows and ledger could part ways.
        :raises SchemaMismatch: when the table cannot be what was declared.
        :raises SinkError: when the database cannot be reached or the load is not named.
        """
        if not spec.load_key:
            raise SinkError("open(): load_key=None: name the load, so that a second try finds what the first committed")
        declared = self.declaration
        database = self._connect()
        with database.guarded():
            database.writer.check_disposition(declared.write_disposition)
            books = open_books(database, declared)
            target = Target(declared, database.writer)
            target.look(database.connection())  # a table that cannot do is refused before anything is written down
        load = load_id(spec.load_key, declared.table, declared.schema)
        with database.transaction() as connection:
            kept = books.ledger.begin_load(connection, load, spec, declared.shown, self._frozen(spec))
        self.source_state = kept
        self._spec = spec
        self._committer = Committer(
            database, books, target, load, spec.load_key, declared.lock_timeout, self._stopped, self.reached
        )
        committed = self.committed_chunks()
        rows = sum(receipt.rows for receipt in committed.values())
        with database.guarded() as connection:
            # In this order: another attempt makes the table before it commits to the ledger.
            if rows and target.look(connection) is None:
                raise LoadMismatch(
                    f"load {spec.load_key!r}: the ledger says that {rows} rows are in table {declared.shown!r}, but "
                    "there is no such table. Discard the load to write them again"
                )
            target.ensure(connection, Block((), []), "at the start")
        return committed

    def _frozen(self, spec: LoadSpec) -> dict[str, Any]:
        """What every try of a load must agree on."""
        declared = self.declaration
        columns = declared.declared
        return {
            "chunk_size": spec.chunk_size,
            "source": spec.source,
            "write_disposition": declared.write_disposition,
            "primary_key": list(declared.key),
            "columns": None if columns is None else [[column.name, column.spell()] for column in columns],
        }

    def committed_chunks(self) -> dict[str, ChunkReceipt]:
        """The chunks of the open load that are in, read from the ledger now."""
        committer = self._opened()
        with committer.database.guarded() as connection:
            return committer.books.ledger.committed(connection, committer.load)

    def write_chunk(
        self,
        chunk_id: str,
        rows: Sequence[Any],
        *,
        first_position: int = 0,
        items: int | None = None,
        items_filtered: int = 0,
        dead_letters: Sequence[DeadLetter] = (),
    ) -> ChunkReceipt:
        """Commit one chunk: its rows, its dead letters and its ledger row, all or nothing.

        Calling it again with the same chunk changes nothing and returns the first receipt.

        :param chunk_id: stable across tries, at most 64 characters.
        :param rows: what a :class:`~airflow_parallel_provider.sinks.table.SinkTable` takes; may be empty.
        :param first_position: position of the chunk's first item in the source.
        :param items: how many items of the source the chunk holds; None: as many as rows.
        :param items_filtered: how many of them ended without a row of their own.
        :param dead_letters: its items that could not be processed.
        :raises SchemaMismatch: when the rows do not fit the table; nothing is written.
        :raises LoadMismatch: when other items are in under this chunk id.
        :raises SinkError: when the database kept failing.
        """
        committer = self._opened()
        if not isinstance(chunk_id, str) or not 0 < len(chunk_id) <= CHUNK_ID_LENGTH:
            raise SinkError(f"write_chunk(): chunk_id={chunk_id!r}: give a text of 1 to {CHUNK_ID_LENGTH} characters")
        assert self._spec is not None
        receipt = ChunkReceipt(
            chunk_id=chunk_id,
            items=len(rows) if items is None else items,
            rows=len(rows),
            dead_letters=len(dead_letters),
            items_filtered=items_filtered,
            first_position=first_position,
            attempt=self._spec.attempt,
            committed_at=now(),
            labels=dict(self._spec.labels),
        )
        return committer.commit(receipt, rows, dead_letters)

    def consolidate(self) -> LoadSummary:
        """Mark the open load as complete and return its sums, from the ledger."""
        committer = self._opened()
        chunks = self.committed_chunks().values()
        with committer.database.transaction() as connection:
            committer.books.ledger.complete(connection, committer.load)
        return LoadSummary.of(committer.load_key, chunks)

    def discard(self, load_key: str) -> int:
        """Forget a load, its dead letters included, so that it can be loaded again; return how many chunks it had.

        What it does not do: delete rows. They carry no mark of their load; delete them yourself, or merge.
        """
        declared = self.declaration
        database = self._connect()
        books = self._open_books(database)
        load = load_id(load_key, declared.table, declared.schema)
        with database.transaction() as connection:
            if books.letters is not None:
                books.letters.forget(connection, load)
            return books.ledger.forget(connection, load)

    def purge_ledger(self, older_than: timedelta) -> int:
        """Remove loads that were complete so long ago, of every table that shares the ledger; return how many.

        Dead letters stay. A load that was purged is loaded again when somebody runs it again.
        """
        database = self._connect()
        ledger = self._open_books(database).ledger
        with database.transaction() as connection:
            old = ledger.complete_before(connection, older_than)
            for load in old:
                ledger.forget(connection, load)
        return len(old)

    def interrupt(self) -> None:
        """Break off what is going on, from another thread: it fails, and nothing of it is kept."""
        self._stopped.set()
        if self._database is not None:
            self._database.interrupt()

    def close(self) -> None:
        """Let go of the connection. May be called twice."""
        database, self._database, self._committer = self._database, None, None
        if database is not None:
            database.close()

    def reached(self, point: str) -> None:
        """Called during a commit at ``after_claim``, ``after_rows``, ``before_commit`` and ``after_commit``.

        Does nothing; a test overrides it to end the process there.
        """

    def _opened(self) -> Committer:
        if self._committer is None:
            raise SinkError(f"table {self.declaration.shown!r} is not open: call open(LoadSpec(...)) first")
        return self._committer

    def _connect(self) -> Database:
        self.resolve()
        if self._database is None:
            declared = self.declaration
            self._database = Database(
                self._provider_hook,
                declared.conn_id,
                lock_timeout=declared.lock_timeout,
                statement_timeout=declared.statement_timeout,
            )
        return self._database

    def _open_books(self, database: Database) -> Books:
        with database.guarded():
            return open_books(database, self.declaration)
