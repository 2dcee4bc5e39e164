"""How one chunk is committed: exactly once, whatever dies and whenever.

::

    BEGIN                      (IMMEDIATE on SQLite)
      INSERT ledger row        the claim: waits for any other claim on this chunk, and fails if that one commits
      rows                     one by one where some may be refused (row_isolation.py)
      dead letters, rejected rows
    COMMIT

* The claim fails: roll back and read the ledger. The chunk has committed: that is the answer.
* Rows that were not looked at turn out to be non-uniform: roll back, look at all of them, try again.
* Anything else fails: roll back. Transient: try again on a new connection. Terminal: SchemaMismatch.
* COMMIT itself fails: whether it happened is unknown. Read the ledger on a new connection: the row exists, or does not
  exist *yet*. In the second case the claim of the next attempt waits for the old transaction, and then succeeds or
  fails.
"""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NoReturn

from airflow_parallel_provider.errors import LoadMismatch, SchemaMismatch, SinkError
from airflow_parallel_provider.rows.block import NonUniformRows
from airflow_parallel_provider.sinks.commit.recovery import Recovery
from airflow_parallel_provider.sinks.commit.row_isolation import RowIsolation
from airflow_parallel_provider.sinks.ledger.entry_table import ChunkKey
from airflow_parallel_provider.sinks.ledger.loads import OPEN
from airflow_parallel_provider.sql.disk_full import DISK_FULL

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.engine import Connection

    from airflow_parallel_provider.rows.reject import RejectedRow
    from airflow_parallel_provider.sinks.commit.chunk import PendingChunk
    from airflow_parallel_provider.sinks.commit.rejection_limit import RejectionLimit
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


class _LoadClosed(LoadMismatch):
    """Another attempt at the load has swapped it in meanwhile."""


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
    fenced: bool = False
    """Whether a later generation may have removed this load: each chunk then checks that its load still exists."""
    swapped: bool = False
    """Whether the load has been swapped in: no chunk can be added."""
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
        if self.swapped:
            return self._committed_before(chunk)
        if chunk.rejected_by_validate and not self.rejection_limit.allows(len(chunk.rejected_by_validate)):
            found = self._recovery.find(chunk.receipt)
            if found is not None:
                return found
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
            except _LoadClosed:
                self.database.invalidate()
                self.swapped = True
                return self._committed_before(chunk)
            except NonUniformRows:
                self.database.invalidate()
                chunk.mark_non_uniform()
                continue
            except Exception as error:  # noqa: BLE001  # the drivers have no common base class
                try:
                    found, reason = self._recovery.after(error, chunk, claimed=self._claimed)
                except SchemaMismatch:
                    if not self._may_isolate(chunk):
                        raise
                    chunk.row_by_row = True
                    continue
            if found is not None:
                return found
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
        with self.database.session():
            found = self._recovery.find(chunk.receipt)
        return found or self._refuse_late()

    def _may_isolate(self, chunk: PendingChunk) -> bool:
        """Whether the refused rows can be looked for, and whether any may be rejected."""
        if chunk.row_by_row:
            return False
        if not self.rejection_limit.allows(len(chunk.rejected_by_validate) + 1):
            return False
        with self.database.session() as connection:
            return self.target.reflect(connection) is not None

    def _attempt(self, chunk: PendingChunk) -> ChunkReceipt:
        self._claimed = False
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
        rows = self.writer.fit(block, shape, chunk.name) if shape is not None and block.rows else None
        receipt, partials = chunk.prepared(block)
        self._claim(connection, chunk, receipt, partials, self.writer.claim_statement(shape, block))
        if rows is not None and shape is not None:
            self.writer.write(connection, shape, block.names, rows)
        self._finish(connection, chunk)
        return receipt

    def _attempt_row_by_row(self, chunk: PendingChunk) -> ChunkReceipt:
        """The same, row by row where necessary."""

        def refuse(reject: RejectedRow) -> None:
            chunk.rejected_by_database.append(reject)
            self.rejection_limit.enforce(chunk.rejected, chunk.name)

        connection = self.database.connection()
        shape = self.target.reflect(connection)
        assert shape is not None, "checked by _attempt"

        def claim_again() -> None:
            connection.rollback()
            self._claim(connection, chunk, chunk.receipt, None)

        self._claim(connection, chunk, chunk.receipt, None)
        isolation = RowIsolation(connection, self.database, self.writer, shape, claim_again)
        written = isolation.write(chunk.numbered(), refuse)
        receipt, partials = chunk.prepared(self.writer.block([row for row, _ in written]))
        self.control_tables.ledger.update(connection, self.load, receipt, partials)
        self._finish(connection, chunk)
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
        if self.fenced:
            self._require_load(connection)
        self.control_tables.ledger.claim(connection, self.load, receipt, partials, execute)
        self._claimed = True
        self.reached("after_claim")
        if chunk.in_transaction is not None:
            chunk.in_transaction(connection)

    def _finish(self, connection: Connection, chunk: PendingChunk) -> None:
        self.reached("after_rows")
        key, rejected = ChunkKey(self.load, self.load_key, chunk.receipt.chunk_id), chunk.rejected
        if self.control_tables.dead_letters is not None:
            self.control_tables.dead_letters.insert(connection, key, chunk.dead_letters)
        if self.control_tables.rejected is not None and rejected:
            self.control_tables.rejected.insert(connection, key, rejected, chunk.item_positions())
        self.reached("before_commit")
        chunk.commit_sent = True
        self.database.backend.session.commit(connection)
        self.reached("after_commit")

    def _require_load(self, connection: Connection) -> None:
        state = self.control_tables.loads.lock(connection, self.load)
        if state is None:
            raise LoadMismatch(
                f"load {self.load_key!r} is no longer in the ledger: a later generation has begun and replaced it, or "
                "it was discarded. Nothing of this attempt is kept"
            )
        if state != OPEN:
            self._refuse_late()

    def _refuse_late(self) -> NoReturn:
        raise _LoadClosed(
            f"load {self.load_key!r} has already been swapped in as table {self.target.display_name!r}, and this chunk "
            "was not in it: the source has changed. Use another load_key"
        )
