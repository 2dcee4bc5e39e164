"""How one chunk is committed: exactly once, whatever dies and whenever.

::

    BEGIN                      (IMMEDIATE on SQLite)
      INSERT ledger row        the claim: waits for, and fails on, anybody else's claim on this chunk
      rows                     those that are refused one by one, where some may be (isolate.py)
      dead letters, rejected rows
    COMMIT

* The claim fails: roll back and read the ledger. The chunk is in: that is the answer.
* Rows that were left unseen turn out to be irregular: roll back, look at all of them, again.
* Anything else fails: roll back. Transient: again on a new connection. Terminal: SchemaMismatch.
* COMMIT itself fails: nobody knows whether it happened. Read the ledger on a new connection: the row is there, or it is
  not there *yet*, in which case the next try's claim waits behind the old transaction and settles it.
"""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

from airflow_parallel_provider.errors import LoadMismatch, SchemaMismatch, SinkError
from airflow_parallel_provider.rows.block import NonUniformRows
from airflow_parallel_provider.rows.diagnose import diagnose
from airflow_parallel_provider.sinks.ledger.entry_table import ChunkKey
from airflow_parallel_provider.sinks.ledger.loads import OPEN
from airflow_parallel_provider.sql.disk_full import NO_ROOM, describe_error, is_transient
from airflow_parallel_provider.sql.errors import Unreachable
from airflow_parallel_provider.sql.missing_table import is_missing_table, missing_table_message

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.engine import Connection

    from airflow_parallel_provider.rows.block import Block
    from airflow_parallel_provider.rows.reject import RejectedRow
    from airflow_parallel_provider.sinks.commit.chunk import PendingChunk
    from airflow_parallel_provider.sinks.commit.rejection_limit import RejectionLimit
    from airflow_parallel_provider.sinks.commit.target_table import TargetTable
    from airflow_parallel_provider.sinks.ledger.chunks import ChunkReceipt
    from airflow_parallel_provider.sinks.ledger.control_tables import ControlTables
    from airflow_parallel_provider.sql.database import Database

log = logging.getLogger(__name__)

FIRST_PAUSE, LONGEST_PAUSE = 0.1, 5.0
"""Seconds between two tries of a chunk whose commit failed for a reason that may pass."""


_SEE_TO_IT = "another attempt may hold its lock, or the database is down. See to that"
_MAKE_ROOM = "make room there"


class _LoadClosed(LoadMismatch):
    """Another attempt at the load has swapped it in meanwhile."""


@dataclass(slots=True)
class ChunkCommitter:
    """Commits the chunks of one load."""

    database: Database
    control_tables: ControlTables
    target: TargetTable
    load: str
    load_key: str
    retry_seconds: float
    """Seconds during which a chunk is tried again after errors that may pass."""
    stopped: threading.Event
    reached: Callable[[str], None]
    """Called at the named points of a commit."""
    rejection_limit: RejectionLimit
    """How many rows may be rejected."""
    fenced: bool = False
    """Whether a later generation may have removed this load: a chunk then makes sure that its load is still there."""
    swapped: bool = False
    """Whether the load has taken the table's place already: no chunk can be added."""
    _claimed: bool = False

    def commit(self, content: PendingChunk) -> ChunkReceipt:
        """Commit one chunk and return its receipt; of a chunk that is in already, the receipt it got then.

        :raises SchemaMismatch: when the rows do not fit.
        :raises RowsRejected: when more rows are refused than the load may have.
        :raises LoadMismatch: when another chunk is in under the same id.
        :raises SinkError: when the database kept failing.
        """
        where = f"chunk {content.receipt.chunk_id}"
        if self.swapped:
            return self._already_in(content)
        if content.rejected_by_validate and not self.rejection_limit.allows(len(content.rejected_by_validate)):
            found = self._look_up(content.receipt)
            if found is not None:
                return found
            self.rejection_limit.enforce(content.rejected_by_validate, where)
        receipt = self._commit(content, where)
        if content.commit_sent and content.rejected:
            self.rejection_limit.record(content.rejected, content.item_positions())
        return receipt

    def _commit(self, content: PendingChunk, where: str) -> ChunkReceipt:
        deadline = time.monotonic() + self.retry_seconds
        pause = FIRST_PAUSE
        while True:
            try:
                return self._attempt(content, where)
            except _LoadClosed:
                self.database.invalidate()
                self.swapped = True
                return self._already_in(content)
            except NonUniformRows:
                self.database.invalidate()
                content.mark_non_uniform()
                continue
            except Exception as error:  # noqa: BLE001  # sorted out there: the drivers have no common base
                try:
                    found, reason = self._recover(content, error, where)
                except SchemaMismatch:
                    if not self._may_isolate(content):
                        raise
                    content.row_by_row = True
                    continue
            if found is not None:
                return found
            log.warning("%s: %s; trying again", where, reason)
            if time.monotonic() + pause > deadline or self.stopped.wait(pause):
                cure = _MAKE_ROOM if reason.startswith(NO_ROOM) else _SEE_TO_IT
                raise SinkError(
                    f"{where} could not be committed within {self.retry_seconds:g} s ({reason}): {cure} and run the task "
                    "again: nothing is lost or doubled"
                )
            pause = min(pause * 2, LONGEST_PAUSE)

    def _already_in(self, content: PendingChunk) -> ChunkReceipt:
        """The receipt of a chunk of a load that is over: whoever has swapped it in may have had this chunk, too."""
        with self.database.session():
            found = self._look_up(content.receipt)
        return found or self._refuse_late()

    def _may_isolate(self, content: PendingChunk) -> bool:
        """Whether it is worth while, and allowed, to look for the rows that were refused."""
        if content.row_by_row:
            return False
        if not self.rejection_limit.allows(len(content.rejected_by_validate) + 1):
            return False
        with self.database.session() as connection:
            return self.target.reflect(connection) is not None

    def _attempt(self, content: PendingChunk, where: str) -> ChunkReceipt:
        self._claimed = False
        content.rejected_by_database = []
        if self.stopped.is_set():
            raise SinkError(f"{where} was not begun: the run was asked to stop")
        connection = self.database.connection()
        if content.row_by_row and self.target.reflect(connection) is not None:
            return self._attempt_row_by_row(content, where)
        content.row_by_row = False  # or it is a staging table that was dropped since, and is made anew first
        block = content.block(self.target, lazily=True)
        if self.fenced and self.target.reflect(connection) is None:
            self._require_load(connection)  # or a table would be made for a load that is over
            connection.rollback()
        shape = self.target.create_or_alter(connection, block, where)
        rows = self.target.fit(block, shape, where) if shape is not None and block.rows else None
        receipt, partials = content.prepared(block, where)
        self._claim(connection, content, receipt, partials, self.target.claim_statement(shape, block))
        if rows is not None and shape is not None:
            self.target.write(connection, shape, block.names, rows)
        self._finish(connection, content)
        return receipt

    def _attempt_row_by_row(self, content: PendingChunk, where: str) -> ChunkReceipt:
        """The same, row by row where need be."""
        from airflow_parallel_provider.sinks.commit.row_isolation import RowIsolation

        def refuse(reject: RejectedRow) -> None:
            content.rejected_by_database.append(reject)
            self.rejection_limit.enforce(content.rejected, where)

        connection = self.database.connection()
        shape = self.target.reflect(connection)
        assert shape is not None, "asked by _try"

        def claim_again() -> None:
            connection.rollback()
            self._claim(connection, content, content.receipt, None)

        self._claim(connection, content, content.receipt, None)
        written = RowIsolation(connection, self.database, self.target, shape, claim_again).write(
            content.numbered(), refuse
        )
        receipt, partials = content.prepared(self.target.block([row for row, _ in written]), where)
        self.control_tables.ledger.update(connection, self.load, receipt, partials)
        self._finish(connection, content)
        return receipt

    def _claim(
        self,
        connection: Connection,
        content: PendingChunk,
        receipt: ChunkReceipt,
        partials: str | None,
        execute: Any = None,
    ) -> None:
        self._claimed = False
        if content.row_by_row or content.rejected_by_validate:
            self.control_tables.ensure_rejected(self.database)
        self.database.backend.begin(connection)
        if self.fenced:
            self._require_load(connection)
        self.control_tables.ledger.claim(connection, self.load, receipt, partials, execute)
        self._claimed = True
        self.reached("after_claim")
        if content.in_transaction is not None:
            content.in_transaction(connection)

    def _finish(self, connection: Connection, content: PendingChunk) -> None:
        self.reached("after_rows")
        chunk, rejects = ChunkKey(self.load, self.load_key, content.receipt.chunk_id), content.rejected
        if self.control_tables.dead_letters is not None:
            self.control_tables.dead_letters.insert(connection, chunk, content.dead_letters)
        if self.control_tables.rejected is not None and rejects:
            self.control_tables.rejected.insert(connection, chunk, rejects, content.item_positions())
        self.reached("before_commit")
        content.commit_sent = True
        self.database.backend.commit(connection)
        self.reached("after_commit")

    def _require_load(self, connection: Connection) -> None:
        state = self.control_tables.loads.lock(connection, self.load)
        if state is None:
            raise LoadMismatch(
                f"load {self.load_key!r} is gone from the ledger: a later generation has begun and replaced it, or "
                "somebody has discarded it. Nothing of this attempt is kept"
            )
        if state != OPEN:
            self._refuse_late()

    def _refuse_late(self) -> NoReturn:
        raise _LoadClosed(
            f"load {self.load_key!r} has taken the place of table {self.target.display_name!r} already, and this chunk was "
            "not in it: the source has changed. Use another load_key"
        )

    def _recover(self, content: PendingChunk, error: Exception, where: str) -> tuple[ChunkReceipt | None, str]:
        """Find out how a failed try ended: the chunk's receipt if it is in, and why it failed.

        :raises SinkError: when trying again cannot help.
        """
        self.database.invalidate()
        self.target.invalidate_shape()  # it may be why
        if isinstance(error, Unreachable):
            return None, str(error)
        if isinstance(error, SinkError) or not self.database.is_driver_error(error):
            raise error
        reason = describe_error(error, self.database.backend)
        if self.stopped.is_set():
            raise SinkError(f"{where} was broken off: the run was asked to stop") from None
        try:
            found = self._look_up(content.receipt)
            # A claim that fails although nobody holds the chunk: who held it has rolled back in between.
            refused = found is None and self._claimed and not is_transient(error, self.database.backend)
            if refused and not self._was_dropped_as_stale(error):
                raise SchemaMismatch(self._refusal(content.block(self.target), where, reason)) from None  # no values
        except Unreachable as unreachable:
            return None, str(unreachable)
        except Exception as second:
            if self.database.is_driver_error(second):
                self.database.invalidate()  # or the next try would begin with a look over the broken connection
                return None, describe_error(second, self.database.backend)
            raise
        return found, reason

    def _was_dropped_as_stale(self, error: Exception) -> bool:
        """Whether another attempt has begun meanwhile and dropped the staging table of a load without a chunk.

        It may have made the table anew since, put its first chunk in, and even have swapped it in.
        """
        if self.target.name == self.target.declared_name:
            return False
        connection = self.database.connection()
        # In this order: another attempt makes the table before it commits to the ledger, and marks the load at last.
        committed = self.control_tables.ledger.committed(connection, self.load)
        connection.rollback()
        if self.target.reflect(connection) is not None:
            return is_missing_table(error)
        state = self.control_tables.loads.lock(connection, self.load)
        connection.rollback()
        return not committed or state != OPEN

    def _look_up(self, receipt: ChunkReceipt) -> ChunkReceipt | None:
        connection = self.database.connection()
        found = self.control_tables.ledger.find(connection, self.load, receipt.chunk_id)
        connection.rollback()
        if found is not None:
            require_same_chunk(found, receipt, self.load_key)
        return found

    def _refusal(self, block: Block, where: str, reason: str) -> str:
        backend = self.database.backend
        shape = self.target.reflect(self.database.connection())
        self.target.invalidate_shape()
        if shape is None:
            return missing_table_message(self.target.display_name)
        return diagnose(block, shape, where, takes_nul=backend.takes_nul) or (
            f"table {self.target.display_name!r}: the database refused the rows of {where} ({reason}). Compare them with the "
            "table's types, keys and constraints; if it is a view, name the table behind it"
        )


def require_same_chunk(found: ChunkReceipt, receipt: ChunkReceipt, load_key: str) -> None:
    """Two chunks with one id must be made of the same items.

    :raises LoadMismatch: when they are not.
    """
    was, now = (found.first_position, found.items), (receipt.first_position, receipt.items)
    if was != now:
        raise LoadMismatch(
            f"load {load_key!r}, chunk {receipt.chunk_id}: the ledger has {was[1]} items from position {was[0]}, "
            f"this try {now[1]} items from position {now[0]}. The source has changed: use another load_key, or discard "
            "the load"
        )
