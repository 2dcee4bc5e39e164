# SPDX-License-Identifier: Apache-2.0
"""``TableLoader``: commits the chunks of one load into a table, each exactly once."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow_parallel_provider.errors import SinkError
from airflow_parallel_provider.sinks.commit.chunk import PendingChunk
from airflow_parallel_provider.sinks.files.store import FileStore
from airflow_parallel_provider.sinks.ledger.chunks import ChunkReceipt, LoadSummary
from airflow_parallel_provider.sinks.ledger.definitions import CHUNK_ID_LENGTH, now
from airflow_parallel_provider.sinks.load.destination import Destination
from airflow_parallel_provider.sinks.load.one_load import OpenLoad
from airflow_parallel_provider.sinks.load.open_load import open_load
from airflow_parallel_provider.sql.database import Database, resolved_hook

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Literal, Self

    from sqlalchemy.engine import Connection

    from airflow_parallel_provider.engine.interfaces.records import ChunkResult, DeadLetter, LoadSpec
    from airflow_parallel_provider.engine.interfaces.sink import SinkContext
    from airflow_parallel_provider.sinks.spec.table_spec import TableSpec


class TableLoader:
    """Writes the chunks of a load into a table, each exactly once, with its ledger row in the same transaction.

    :meth:`resolve` is the only method that asks Airflow for anything. All others except :meth:`interrupt` belong to one
    thread: the one that called :meth:`open`.

    :param spec: the declaration of the table.
    :param connection: an Airflow ``Connection``; None looks up the ``conn_id`` of the declaration.
    """

    def __init__(self, spec: TableSpec, connection: Any = None) -> None:
        self.spec = spec
        self._given_connection = connection
        self._provider_hook: Any = None
        self._dead_letter_folder: FileStore | None = None
        self._database: Database | None = None
        self._load: OpenLoad | None = None
        self._context: SinkContext | None = None
        self._stopped = threading.Event()

    def __enter__(self) -> Self:
        """The loader itself; leaving the block closes it."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the connection."""
        self.close()

    def resolve(self) -> Any:
        """Ask Airflow for the connections, once; nothing after this asks Airflow.

        :return: the hook of the connection's own provider.
        :raises PlanError: if a connection does not exist, or ``conn_id`` is not one of an SQL database.
        """
        if self._provider_hook is None:
            self._provider_hook = resolved_hook(self.spec.conn_id, self._given_connection)
            files = self.spec.dead_letter_files
            if files is not None:
                self._dead_letter_folder = FileStore.of(files.path, files.conn_id)
        return self._provider_hook

    def bind(self, run: SinkContext) -> None:
        """Let the tolerance of a run decide how many rows may be rejected; without one only ``max_rejected`` does."""
        self._context = run

    def open(self, load_spec: LoadSpec) -> Mapping[str, ChunkReceipt]:
        """Begin a load or resume it; return the chunks that have committed, by chunk id.

        Creates the ledger, the table of dead letters and, if all types are declared, the table.

        :param load_spec: must have a ``load_key``.
        :raises LoadMismatch: if the load was begun with another chunk size, source or declaration, or its table no
            longer exists.
        :raises UnsafeTable: if rows and ledger could become inconsistent.
        :raises SchemaMismatch: if the table does not fit the declaration.
        :raises SinkError: if the database cannot be reached or the load has no name.
        """
        self._load, committed = open_load(self.destination(), load_spec, self._stopped, self.reached, run=self._context)
        return committed

    def committed_chunks(self) -> dict[str, ChunkReceipt]:
        """The chunks of the open load that have committed, read from the ledger now."""
        return self.load.committed()

    def commit(
        self,
        chunk: ChunkResult,
        *,
        dead_letters: Sequence[DeadLetter] | None = None,
        in_transaction: Callable[[Connection], None] | None = None,
        settle: Callable[[Connection, frozenset[int]], None] | None = None,
    ) -> ChunkReceipt:
        """Commit what came out of a chunk of the pipeline; see :meth:`write_chunk`.

        :param dead_letters: the dead letters to write in place of those of the chunk.
        """
        return self.write_chunk(
            chunk.chunk_id,
            chunk.rows,
            first_position=chunk.first_position,
            items=chunk.items,
            items_filtered=chunk.items_filtered,
            dead_letters=chunk.dead_letters if dead_letters is None else dead_letters,
            positions=chunk.positions,
            failed_items=chunk.failed_items,
            in_transaction=in_transaction,
            settle=settle,
        )

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
        failed_items: float | None = None,
        in_transaction: Callable[[Connection], None] | None = None,
        settle: Callable[[Connection, frozenset[int]], None] | None = None,
    ) -> ChunkReceipt:
        """Commit one chunk: its rows, its dead letters and its ledger row, all or nothing.

        Calling it again with the same chunk changes nothing and returns the first receipt.

        :param chunk_id: the same for every attempt, at most 64 characters.
        :param rows: what a :class:`~airflow_parallel_provider.sinks.table.SinkTable` takes; may be empty.
        :param first_position: position of the chunk's first item in the source.
        :param items: how many items of the source the chunk holds; None: as many as rows.
        :param items_filtered: how many of them ended without a row of their own.
        :param dead_letters: its items that could not be processed.
        :param positions: returns the position in the source of each row's item; called if rows are rejected.
        :param failed_items: see :attr:`~airflow_parallel_provider.engine.interfaces.records.ChunkResult.failed_items`.
        :param in_transaction: called inside the transaction with the SQLAlchemy connection, after the chunk is claimed:
            for statements of your own that must take effect exactly if the chunk does. Called again if the chunk is
            retried.
        :param settle: the same, but called when the rows are written, and with the positions of the items of which the
            table has refused rows and taken none.
        :raises SchemaMismatch: if the rows do not fit the table; nothing is written.
        :raises WriteRefused: if the database would refuse any row, or has dropped some; nothing is written.
        :raises RowsRejected: if more rows are rejected than the load may have; nothing is written.
        :raises LoadMismatch: if other items have committed under this chunk id.
        :raises SinkError: if the database kept failing, or ``rows`` is no list.
        """
        load = self.load
        if not isinstance(chunk_id, str) or not 0 < len(chunk_id) <= CHUNK_ID_LENGTH:
            raise SinkError(f"write_chunk(): chunk_id={chunk_id!r}: give a text of 1 to {CHUNK_ID_LENGTH} characters")
        if chunk_id.endswith(" "):
            raise SinkError(
                f"write_chunk(): chunk_id={chunk_id!r}: some databases ignore spaces at the end of a key: leave "
                "them out"
            )
        if not isinstance(rows, Sequence) or isinstance(rows, (str, bytes)):
            raise SinkError(
                f"write_chunk(): rows is a {type(rows).__qualname__}: give a list of rows; put a DataFrame or an Arrow "
                "table into a list: [frame]"
            )
        receipt = ChunkReceipt(
            chunk_id=chunk_id,
            items=len(rows) if items is None else items,
            rows=len(rows),
            dead_letters=len(dead_letters),
            failed_items=failed_items,
            items_filtered=items_filtered,
            first_position=first_position,
            attempt=load.load_spec.attempt,
            committed_at=now(),
            labels=dict(load.load_spec.labels),
        )
        aggregates = self.spec.declared_aggregates
        pending = PendingChunk(receipt, rows, dead_letters, aggregates, positions, in_transaction, settle)
        if self.spec.validate is not None:
            pending.validate(self.spec.validate, self.spec.column_names)
        return load.committer.commit(pending)

    def consolidate(self, *, on_mismatch: Literal["fail", "warn"] = "fail") -> LoadSummary:
        """Compare the table with the ledger, mark the open load as complete and return its sums.

        With ``write_disposition="replace"`` the new rows take the place of the old ones now, and the staging table must
        have exactly as many rows as the ledger says. With ``append`` the table must have at least as many, with a
        ``load_column`` exactly as many of this load. After a merge they cannot be counted. May be called twice, and
        again after a crash while it was running.

        :param on_mismatch: what to do if rows were deleted or added meanwhile: ``fail`` raises, ``warn`` logs it (a
            staging table must match in either case).
        :raises SinkError: on a mismatch.
        :raises LoadMismatch: if the ledger no longer has the load.
        """
        return self.load.consolidate(on_mismatch)

    def interrupt(self) -> None:
        """Abort what is in progress, from another thread: it fails, and nothing of it is kept."""
        self._stopped.set()
        if self._database is not None:
            self._database.interrupt()

    def close(self) -> None:
        """Close the connection. May be called twice."""
        database, self._database, self._load = self._database, None, None
        if database is not None:
            database.close()

    def reached(self, point: str) -> None:
        """Called during a commit at ``after_claim``, ``after_rows``, ``before_commit`` and ``after_commit``.

        Does nothing; a test overrides it to end the process there.
        """

    @property
    def load(self) -> OpenLoad:
        """The load that is open.

        :raises SinkError: if none is.
        """
        if self._load is None:
            raise SinkError(f"table {self.spec.display_name!r} is not open: call open(LoadSpec(...)) first")
        return self._load

    def destination(self) -> Destination:
        """The table, and the database it is in, which is connected to when it is first used."""
        hook = self.resolve()
        if self._database is None:
            spec = self.spec
            self._database = Database(
                hook, spec.conn_id, lock_timeout=spec.lock_timeout, statement_timeout=spec.statement_timeout
            )
        return Destination(self.spec, self._database, self._dead_letter_folder)
