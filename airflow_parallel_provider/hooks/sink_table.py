"""``SinkTableHook``: chunks into a table, each exactly once, on any SQL connection of Airflow."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseHook

from airflow_parallel_provider.errors import SinkError
from airflow_parallel_provider.sinks.commit.chunk import PendingChunk
from airflow_parallel_provider.sinks.files.dead_letter_files import DeadLetterFiles
from airflow_parallel_provider.sinks.ledger.chunks import ChunkReceipt, LoadSummary
from airflow_parallel_provider.sinks.ledger.dead_letters import DeadLetterTable
from airflow_parallel_provider.sinks.ledger.definitions import CHUNK_ID_LENGTH, now
from airflow_parallel_provider.sinks.load.maintenance import (
    NO_DEAD_LETTERS,
    count_waiting,
    discard_load,
    load_aggregates,
    purge,
    unresolved_dead_letters,
)
from airflow_parallel_provider.sinks.load.open_load import OpenLoad, open_load
from airflow_parallel_provider.sinks.table import SinkTable
from airflow_parallel_provider.sql.database import Database, resolved_hook

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from datetime import timedelta
    from typing import Literal, Self, Unpack

    from sqlalchemy.engine import Connection

    from airflow_parallel_provider.engine.interfaces.records import DeadLetter, LoadSpec
    from airflow_parallel_provider.engine.interfaces.sink import SinkContext
    from airflow_parallel_provider.sinks.ledger.dead_letters import DeadLetterKey, StoredDeadLetter
    from airflow_parallel_provider.sinks.spec.options import SinkTableOptions


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
        self._load: OpenLoad | None = None
        self.source_state: Mapping[str, Any] | None = None
        """What the source of the open load froze at its first try; None as long as no chunk is in."""
        self._stopped = threading.Event()
        self._run: SinkContext | None = None

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
            self._provider_hook = resolved_hook(self.declaration.conn_id, self._given)
            if isinstance(self.declaration.dead_letters, DeadLetterFiles):
                self.declaration.dead_letters.prepare()

    def attach(self, run: SinkContext) -> None:
        """Have rejected rows judged by a run's tolerance; without one ``max_rejected`` alone decides."""
        self._run = run

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
        load = open_load(self._connect(), self.declaration, spec, self._stopped, self.reached, run=self._run)
        self._load = load
        self.source_state = load.source_state
        return load.committed()

    def committed_chunks(self) -> dict[str, ChunkReceipt]:
        """The chunks of the open load that are in, read from the ledger now."""
        return self._opened().committed()

    def write_chunk(
        self,
        chunk_id: str,
        rows: Sequence[Any],
        *,
        first_position: int = 0,
        items: int | None = None,
        items_filtered: int = 0,
        dead_letters: Sequence[DeadLetter] = (),
        positions: Callable[[], Sequence[int]] | None = None,
        within: Callable[[Connection], None] | None = None,
    ) -> ChunkReceipt:
        """Commit one chunk: its rows, its dead letters and its ledger row, all or nothing.

        Calling it again with the same chunk changes nothing and returns the first receipt.

        :param chunk_id: stable across tries, at most 64 characters.
        :param rows: what a :class:`~airflow_parallel_provider.sinks.table.SinkTable` takes; may be empty.
        :param first_position: position of the chunk's first item in the source.
        :param items: how many items of the source the chunk holds; None: as many as rows.
        :param items_filtered: how many of them ended without a row of their own.
        :param dead_letters: its items that could not be processed.
        :param positions: gives the position in the source of each row's item; asked when rows are rejected.
        :param within: called inside the transaction with the SQLAlchemy connection, once the chunk is claimed: for
            statements of your own that must hold exactly if the chunk does. Called again when the chunk is tried again.
        :raises SchemaMismatch: when the rows do not fit the table; nothing is written.
        :raises RowsRejected: when more rows are rejected than the load may have; nothing is written.
        :raises LoadMismatch: when other items are in under this chunk id.
        :raises SinkError: when the database kept failing, or ``rows`` is no list.
        """
        load = self._opened()
        if not isinstance(chunk_id, str) or not 0 < len(chunk_id) <= CHUNK_ID_LENGTH:
            raise SinkError(f"write_chunk(): chunk_id={chunk_id!r}: give a text of 1 to {CHUNK_ID_LENGTH} characters")
        if not isinstance(rows, Sequence) or isinstance(rows, (str, bytes)):
            raise SinkError(
                f"write_chunk(): rows is a {type(rows).__qualname__}: give a list of rows; a DataFrame or an Arrow "
                "table is put into one: [frame]"
            )
        receipt = ChunkReceipt(
            chunk_id=chunk_id,
            items=len(rows) if items is None else items,
            rows=len(rows),
            dead_letters=len(dead_letters),
            items_filtered=items_filtered,
            first_position=first_position,
            attempt=load.spec.attempt,
            committed_at=now(),
            labels=dict(load.spec.labels),
        )
        declared = self.declaration
        content = PendingChunk(receipt, rows, dead_letters, declared.declared_aggregates, positions, within)
        if declared.validate is not None:
            content.validate(declared.validate, declared.column_names)
        return load.committer.commit(content)

    def aggregates(self, load_key: str | None = None) -> dict[str, Any]:
        """The figures of ``SinkTable.aggregates`` over all rows of a load that are in, merged from the ledger.

        :param load_key: of which load; None: the open one.
        :return: a figure for each name; where it is told apart ``by`` a column, a dict of figures by its values.
        :raises SinkError: when no load is open and none is named.
        """
        if load_key is None:
            return self._opened().aggregates()
        return load_aggregates(self._connect(), self.declaration, load_key)

    def dead_letters(
        self, load_key: str | None = None, *, stage: str | None = None, but_of: str | None = None
    ) -> Iterator[StoredDeadLetter]:
        """The unresolved dead letters of this table, read page by page while they are gone through.

        :param load_key: of this load only (its replays included); None: of all loads.
        :param stage: only what this stage gave up.
        :param but_of: leave out what the load of this key has written.
        :raises SinkError: when the sink keeps no dead letters.
        """
        return unresolved_dead_letters(self._connect(), self.declaration, load_key, stage, but_of)

    def dead_letters_waiting(self, load_key: str | None = None) -> dict[str, tuple[int, int]]:
        """How many dead letters are unresolved, by stage: all, and those whose item can be had again.

        :param load_key: of this load only; None: of all loads.
        :raises SinkError: when the sink keeps no dead letters.
        """
        return count_waiting(self._connect(), self.declaration, load_key)

    def resolve_dead_letters(self, connection: Connection, keys: Sequence[DeadLetterKey], chunk_id: str) -> int:
        """Mark dead letters as resolved by a chunk of the open load; return how many were not resolved before.

        :param connection: what ``within`` of :meth:`write_chunk` was called with: the marks commit with the chunk.
        :raises SinkError: when the sink keeps no dead letters.
        """
        committer = self._opened().committer
        if not isinstance(committer.control_tables.dead_letters, DeadLetterTable):
            raise SinkError(NO_DEAD_LETTERS)
        return committer.control_tables.dead_letters.resolve(connection, keys, f"{committer.load}/{chunk_id}")

    def consolidate(self, *, on_mismatch: Literal["fail", "warn"] = "fail") -> LoadSummary:
        """Compare the table with the ledger, mark the open load as complete and return its sums.

        With ``write_disposition="replace"`` this is when the new rows take the place of the old ones, and the rows in
        the staging table must be as many as the ledger says. With ``append`` the table must hold at least as many, with
        a ``load_column`` exactly as many of this load. After a merge nobody can count them. May be called twice, and
        again after a crash in the middle of it.

        :param on_mismatch: what to do when somebody has deleted or added rows meanwhile: ``fail`` raises, ``warn``
            writes it to the log (a staging table must be right in either case).
        :raises SinkError: see there.
        :raises LoadMismatch: when the load is gone from the ledger.
        """
        return self._opened().consolidate(on_mismatch)

    def discard(self, load_key: str, *, rows: bool = False) -> int:
        """Forget a load in all its generations, its dead letters and its staging table included, so that it can be
        loaded again; return how many chunks it had.

        :param load_key: the key the load was opened with, or its family's.
        :param rows: delete its rows as well, in the same transaction; takes a ``load_column``. Without it they stay:
            delete them yourself, or merge.
        :raises SinkError: when ``rows`` are to be deleted and carry no mark of their load.
        """
        if rows and self.declaration.load_id_column is None:
            raise SinkError(
                "discard(rows=True): the rows carry no mark of their load; it takes SinkTable(load_column=...)"
            )
        return discard_load(self._connect(), self.declaration, load_key, rows=rows)

    def purge_ledger(self, older_than: timedelta, *, abandoned: bool = False) -> int:
        """Remove loads that were complete so long ago, of every table that shares the ledger; return how many.

        Dead letters stay. A load that was purged is loaded again when somebody runs it again.

        :param abandoned: also remove the loads into this table that were begun so long ago and never became complete,
            and drop their staging tables.
        :raises SinkError: when ``older_than`` is no timedelta.
        """
        return purge(self._connect(), self.declaration, older_than, abandoned=abandoned)

    def interrupt(self) -> None:
        """Break off what is going on, from another thread: it fails, and nothing of it is kept."""
        self._stopped.set()
        if self._database is not None:
            self._database.interrupt()

    def close(self) -> None:
        """Let go of the connection. May be called twice."""
        database, self._database, self._load = self._database, None, None
        if database is not None:
            database.close()

    def reached(self, point: str) -> None:
        """Called during a commit at ``after_claim``, ``after_rows``, ``before_commit`` and ``after_commit``.

        Does nothing; a test overrides it to end the process there.
        """

    @property
    def opened_load(self) -> OpenLoad:
        """The load that is open.

        :raises SinkError: when none is.
        """
        return self._opened()

    def _opened(self) -> OpenLoad:
        if self._load is None:
            raise SinkError(f"table {self.declaration.display_name!r} is not open: call open(LoadSpec(...)) first")
        return self._load

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
