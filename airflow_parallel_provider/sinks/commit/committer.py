# SPDX-License-Identifier: Apache-2.0
"""How one chunk is committed: exactly once, whatever dies and whenever.

::

    rows sent ahead            (Snowflake: as a file, which nothing reads yet)
    BEGIN                      (IMMEDIATE on SQLite)
      lock the load, look      only where the database does not enforce the ledger's key (ledger/keys.py)
      INSERT ledger row        the claim: waits for any other claim on this chunk, and fails if that one commits
      rows                     one by one where some may be refused (row_isolation.py)
      dead letters, rejected rows
    COMMIT

* The claim fails: roll back and read the ledger. The chunk has committed: that is the answer.
* Rows that were not looked at turn out to be non-uniform: roll back, look at all of them, try again.
* Anything else fails: roll back. Transient: try again on a new connection. The fault of a row: SchemaMismatch, and
  the row may be looked for. Neither: WriteRefused, which ends the run (blame.py).
* COMMIT itself fails: whether it happened is unknown. Read the ledger on a new connection: the row exists, or does not
  exist *yet*. In the second case the claim (or the lock) of the next attempt waits for the old transaction, and then
  succeeds or fails.
"""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NoReturn

from airflow_parallel_provider.errors import LoadMismatch, SchemaMismatch, SinkError, WriteRefused
from airflow_parallel_provider.rows.block import NonUniformRows
from airflow_parallel_provider.sinks.commit.answers import InAlready, LoadClosed
from airflow_parallel_provider.sinks.commit.recovery import Recovery, require_same_chunk
from airflow_parallel_provider.sinks.commit.row_isolation import RowIsolation
from airflow_parallel_provider.sinks.ledger.entry_table import ChunkKey
from airflow_parallel_provider.sinks.ledger.load_lock import require_coordinator
from airflow_parallel_provider.sinks.ledger.loads import OPEN
from airflow_parallel_provider.sinks.ledger.mapped_tasks import TYPES_HINT
from airflow_parallel_provider.sql.disk_full import DISK_FULL

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from sqlalchemy.engine import Connection

    from airflow_parallel_provider.rows.reject import RejectedRow
    from airflow_parallel_provider.rows.rejection_limit import RejectionLimit
    from airflow_parallel_provider.sinks.commit.chunk import PendingChunk
    from airflow_parallel_provider.sinks.commit.row_writer import RowWriter
    from airflow_parallel_provider.sinks.commit.target_table import TargetTable
    from airflow_parallel_provider.sinks.ledger.chunks import ChunkReceipt
    from airflow_parallel_provider.sinks.ledger.control_tables import ControlTables
    from airflow_parallel_provider.sql.database import Database

log = logging.getLogger(__name__)

FIRST_PAUSE, LONGEST_PAUSE = 0.1, 5.0
"""Seconds between two attempts at a chunk whose commit failed for a transient reason."""

_WAIT_FOR_IT = "another attempt may hold its lock, or the database is down. Wait for that"
_FREE_SPACE = "free space there"


@dataclass(slots=True)
class ChunkCommitter:
    """Commits the chunks of one load."""

    database: Database
    control_tables: ControlTables
    target: TargetTable
    writer: RowWriter
    load: str
    load_key: str
    retry_seconds: float
    """For how long a chunk is retried after transient errors."""
    stopped: threading.Event
    reached: Callable[[str], None]
    """Called at the named points of a commit."""
    rejection_limit: RejectionLimit
    terms: Mapping[str, Any]
    """What every attempt at the load must agree on."""
    mapped: bool = False
    """Whether the task is a mapped one, whose other task instances may write to the table meanwhile."""
    agreed: bool = False
    """Whether the load can no longer begin anew on other terms: it has a chunk."""
    counted: bool = True
    """Whether the row of the load says how many chunks have committed. A staging table is counted at its swap."""
    fenced: bool = False
    """Whether a later generation may have removed this load: each chunk then checks that its load still exists."""
    swapped: bool = False
    """Whether the load has been swapped in: no chunk can be added."""
    coordinator: str | None = None
    """See ``LoadSpec.coordinator``."""
    _recovery: Recovery = field(init=False)
    _claimed: bool = False

    def __post_init__(self) -> None:
        """Make what finds out how a failed attempt ended."""
        self._recovery = Recovery(
            self.database, self.control_tables, self.target, self.writer, self.load, self.load_key, self.stopped
        )

    def commit(self, chunk: PendingChunk) -> ChunkReceipt:
        """Commit one chunk and return its receipt; of a chunk that has committed before, the receipt of that time.

        :raises SchemaMismatch: if the rows do not fit.
        :raises RowsRejected: if more rows are refused than the load may have.
        :raises LoadMismatch: if another chunk has committed under the same id.
        :raises SinkError: if the database kept failing.
        """
        try:
            return self._commit_within_limit(chunk)
        except SchemaMismatch as error:
            chunk.locate(error)
            if not self.mapped or self.target.is_declared:
                raise
            error.args = (f"{error}. {TYPES_HINT}",)
            raise

    def _commit_within_limit(self, chunk: PendingChunk) -> ChunkReceipt:
        if self.swapped:
            return self._committed_before(chunk)
        if chunk.rejected_by_validate and not self.rejection_limit.allows(len(chunk.rejected_by_validate)):
            found = self._recovery.find(chunk.receipt)
            if found is not None:
                return replace(found, already_committed=True)
            self.rejection_limit.enforce(chunk.rejected_by_validate, chunk.name)
        receipt = self._commit(chunk)
        if chunk.commit_sent and chunk.rejected:
            self.rejection_limit.record(chunk.rejected, chunk.item_positions())
        return receipt

    def _commit(self, chunk: PendingChunk) -> ChunkReceipt:
        deadline = time.monotonic() + self.retry_seconds
        pause = FIRST_PAUSE
        while True:
            try:
                return self._attempt(chunk)
            except LoadClosed:
                self.database.invalidate()
                self.swapped = True
                return self._committed_before(chunk)
            except InAlready as known:
                self.database.rollback()
                self.writer.forget_sent(self.database.connection())
                require_same_chunk(known.receipt, chunk.receipt, self.load_key)
                return replace(known.receipt, already_committed=not chunk.may_have_committed(known.receipt))
            except NonUniformRows:
                self.database.invalidate()
                chunk.mark_non_uniform()
                continue
            except Exception as error:  # noqa: BLE001  # the drivers have no common base class
                try:
                    found, reason = self._recovery.after(error, chunk, claimed=self._claimed)
                except SchemaMismatch as refused:
                    if isinstance(refused, WriteRefused) or not self._may_isolate(chunk):
                        raise
                    chunk.row_by_row = True
                    continue
            if found is not None:
                return replace(found, already_committed=not chunk.may_have_committed(found))
            log.warning("%s: %s; trying again", chunk.name, reason)
            if time.monotonic() + pause > deadline or self.stopped.wait(pause):
                cure = _FREE_SPACE if reason.startswith(DISK_FULL) else _WAIT_FOR_IT
                raise SinkError(
                    f"{chunk.name} could not be committed within {self.retry_seconds:g} s ({reason}): {cure} and run "
                    "the task again: nothing is lost or doubled"
                )
            pause = min(pause * 2, LONGEST_PAUSE)

    def _committed_before(self, chunk: PendingChunk) -> ChunkReceipt:
        """The receipt of a chunk of a load that is closed: the attempt that swapped it in may have had this chunk."""
        with self.database.session() as connection:
            self.writer.forget_sent(connection)
            found = self._recovery.find(chunk.receipt)
        return replace(found, already_committed=True) if found is not None else self._refuse_late()

    def _may_isolate(self, chunk: PendingChunk) -> bool:
        """Whether the refused rows can be looked for, and whether any may be rejected."""
        if chunk.row_by_row:
            return False
        if not self.rejection_limit.allows(len(chunk.rejected_by_validate) + 1):
            return False
        with self.database.session() as connection:
            return self.target.reflect(connection) is not None

    def _attempt(self, chunk: PendingChunk) -> ChunkReceipt:
        self._claimed = chunk.rows_sent = False
        chunk.rejected_by_database = []
        if self.stopped.is_set():
            raise SinkError(f"{chunk.name} was not begun: the run was asked to stop")
        connection = self.database.connection()
        if chunk.row_by_row and self.target.reflect(connection) is not None:
            return self._attempt_row_by_row(chunk)
        chunk.row_by_row = False  # or it is a staging table that was dropped since, and must be created first
        block = chunk.block(self.writer, unchecked=self.target.is_reflected)
        if self.fenced and self.target.reflect(connection) is None:
            self._require_load(connection)  # else a table would be created for a load that is closed
            connection.rollback()
        shape = self.target.create_or_alter(connection, block, chunk.name)
        if shape is not None:
            self.target.require_columns(shape, block.names)
            block = self.writer.parsed(block, shape, chunk.name)
        rows = self.writer.fit(block, shape, chunk.name) if shape is not None and block.rows else None
        receipt, partials = chunk.prepared(block)
        if rows is not None and shape is not None:
            rows = self.writer.send_ahead(connection, shape, block.names, rows)
        self._claim(connection, chunk, receipt, partials, self.writer.claim_statement(shape, block))
        if rows is not None and shape is not None:
            self.writer.write(connection, shape, block.names, rows, chunk.name)
        self._finish(connection, chunk, receipt.rows)
        self.writer.forget_sent(connection)
        return receipt

    def _attempt_row_by_row(self, chunk: PendingChunk) -> ChunkReceipt:
        """The same, row by row where necessary."""

        def refuse(reject: RejectedRow) -> None:
            chunk.rejected_by_database.append(reject)
            self.rejection_limit.enforce(chunk.rejected, chunk.name)

        connection = self.database.connection()
        shape = self.target.reflect(connection)
        assert shape is not None, "checked by _attempt"

        rows = chunk.numbered()
        names = self.writer.names([row for row, _ in rows])
        self.target.require_columns(shape, names)

        def claim_again() -> None:
            connection.rollback()
            self._claim(connection, chunk, chunk.receipt, None)

        self._claim(connection, chunk, chunk.receipt, None)
        isolation = RowIsolation(connection, self.database, self.writer, shape, chunk.name, claim_again)
        written = isolation.write(rows, names, refuse)
        chunk.partly_written = frozenset(at for _, at in written)
        block = self.writer.block([row for row, _ in written])
        receipt, partials = chunk.prepared(self.writer.parsed(block, shape, chunk.name))
        self.control_tables.ledger.update(connection, self.load, receipt, partials)
        self._finish(connection, chunk, receipt.rows)
        return receipt

    def _claim(
        self,
        connection: Connection,
        chunk: PendingChunk,
        receipt: ChunkReceipt,
        partials: str | None,
        execute: Any = None,
    ) -> None:
        self._claimed = False
        if chunk.row_by_row or chunk.rejected_by_validate:
            self.control_tables.ensure_rejected(self.database)
        self.database.backend.session.begin(connection)
        if self._checks_late:
            self._check_terms(connection, lock=False)
        else:
            self._check_load(connection)
        if not self.control_tables.keys_hold:
            found = self.control_tables.ledger.find(connection, self.load, receipt.chunk_id)
            if found is not None:
                raise InAlready(found)
        self.control_tables.ledger.claim(connection, self.load, receipt, partials, execute)
        self._claimed = True
        self.reached("after_claim")
        if chunk.in_transaction is not None:
            chunk.in_transaction(connection)

    def _finish(self, connection: Connection, chunk: PendingChunk, rows_written: int) -> None:
        self.reached("after_rows")
        chunk.rows_sent = True
        if chunk.settle is not None:
            chunk.settle(connection, chunk.unwritten_positions(rows_written))
        key, rejected = ChunkKey(self.load, self.load_key, chunk.receipt.chunk_id), chunk.rejected
        if self.control_tables.dead_letters is not None:
            self.control_tables.dead_letters.insert(connection, key, chunk.dead_letters)
        if self.control_tables.rejected is not None and rejected:
            self.control_tables.rejected.insert(connection, key, rejected, chunk.item_positions())
        if self.counted:
            # Last, because attempts at the load wait for each other here. Before, a lock that they share would not do:
            # each would wait for the other to give it up.
            self.control_tables.ledger.count(connection, self.load, 1)
        if self._checks_late:
            self._check_load(connection)
        self.reached("before_commit")
        chunk.commit_sent, chunk.rows_sent = True, False  # a constraint may be checked only now
        self.database.backend.session.commit(connection)
        self.agreed = True
        self.reached("after_commit")

    @property
    def _checks_late(self) -> bool:
        """Whether the load is locked at the end, where its row is written anyway, and not before the claim."""
        return self.counted and self.control_tables.keys_hold

    def _check_load(self, connection: Connection) -> None:
        """Check that the load is still the one that this attempt has begun, and lock it."""
        if self.fenced or not self.control_tables.keys_hold:
            self._require_load(connection)
        self._check_terms(connection, lock=True)

    def _check_terms(self, connection: Connection, *, lock: bool) -> None:
        if not self.agreed:
            self.control_tables.loads.require_terms(connection, self.load, self.load_key, self.terms, lock=lock)

    def _require_load(self, connection: Connection) -> None:
        loads = self.control_tables.loads
        require_coordinator(loads, connection, self.load, self.load_key, self.coordinator)
        state = loads.lock(connection, self.load, exclusive=self.counted)
        if state is None:
            raise LoadMismatch(
                f"load {self.load_key!r} is no longer in the ledger: a later generation has begun and replaced it, or "
                "it was discarded. Nothing of this attempt is kept"
            )
        if state != OPEN and self.fenced:
            self._refuse_late()

    def _refuse_late(self) -> NoReturn:
        raise LoadClosed(
            f"load {self.load_key!r} has already been swapped in as table {self.target.display_name!r}, and this chunk "
            "was not in it: the source has changed. Use another load_key"
        )
