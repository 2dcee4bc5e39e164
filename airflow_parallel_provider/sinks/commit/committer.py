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
from airflow_parallel_provider.rows.block import IrregularRows
from airflow_parallel_provider.rows.diagnose import diagnose
from airflow_parallel_provider.sinks.ledger.entry_table import ChunkKey
from airflow_parallel_provider.sinks.ledger.loads import OPEN
from airflow_parallel_provider.sql.disk_full import NO_ROOM, may_pass, told
from airflow_parallel_provider.sql.errors import Unreachable
from airflow_parallel_provider.sql.missing_table import gone, says_absent

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.engine import Connection

    from airflow_parallel_provider.rows.block import Block
    from airflow_parallel_provider.rows.reject import Reject
    from airflow_parallel_provider.sinks.commit.chunk import Content
    from airflow_parallel_provider.sinks.commit.rejection_limit import Allowance
    from airflow_parallel_provider.sinks.commit.target_table import Target
    from airflow_parallel_provider.sinks.ledger.chunks import ChunkReceipt
    from airflow_parallel_provider.sinks.ledger.control_tables import Books
    from airflow_parallel_provider.sql.database import Database

log = logging.getLogger(__name__)

FIRST_PAUSE, LONGEST_PAUSE = 0.1, 5.0
"""Seconds between two tries of a chunk whose commit failed for a reason that may pass."""


_SEE_TO_IT = "another attempt may hold its lock, or the database is down. See to that"
_MAKE_ROOM = "make room there"


class _TooLate(LoadMismatch):
    """Another attempt at the load has swapped it in meanwhile."""


@dataclass(slots=True)
class Committer:
    """Commits the chunks of one load."""

    database: Database
    books: Books
    target: Target
    load: str
    load_key: str
    patience: float
    """Seconds during which a chunk is tried again after errors that may pass."""
    stopped: threading.Event
    reached: Callable[[str], None]
    """Called at the named points of a commit."""
    allowance: Allowance
    """How many rows may be rejected."""
    fenced: bool = False
    """Whether a later generation may have removed this load: a chunk then makes sure that its load is still there."""
    swapped: bool = False
    """Whether the load has taken the table's place already: no chunk can be added."""
    _claimed: bool = False

    def commit(self, content: Content) -> ChunkReceipt:
        """Commit one chunk and return its receipt; of a chunk that is in already, the receipt it got then.

        :raises SchemaMismatch: when the rows do not fit.
        :raises RowsRejected: when more rows are refused than the load may have.
        :raises LoadMismatch: when another chunk is in under the same id.
        :raises SinkError: when the database kept failing.
        """
        where = f"chunk {content.receipt.chunk_id}"
        if self.swapped:
            return self._already_in(content)
        if content.screened and not self.allowance.covers(len(content.screened)):
            found = self._look_up(content.receipt)
            if found is not None:
                return found
            self.allowance.require(content.screened, where)
        receipt = self._commit(content, where)
        if content.sent and content.rejects:
            self.allowance.settle(content.rejects, content.item_positions())
        return receipt

    def _commit(self, content: Content, where: str) -> ChunkReceipt:
        deadline = time.monotonic() + self.patience
        pause = FIRST_PAUSE
        while True:
            try:
                return self._try(content, where)
            except _TooLate:
                self.database.discard()
                self.swapped = True
                return self._already_in(content)
            except IrregularRows:
                self.database.discard()
                content.turned_out_irregular()
                continue
            except Exception as error:  # noqa: BLE001  # sorted out there: the drivers have no common base
                try:
                    found, reason = self._recover(content, error, where)
                except SchemaMismatch:
                    if not self._may_isolate(content):
                        raise
                    content.alone = True
                    continue
            if found is not None:
                return found
            log.warning("%s: %s; trying again", where, reason)
            if time.monotonic() + pause > deadline or self.stopped.wait(pause):
                cure = _MAKE_ROOM if reason.startswith(NO_ROOM) else _SEE_TO_IT
                raise SinkError(
                    f"{where} could not be committed within {self.patience:g} s ({reason}): {cure} and run the task "
                    "again: nothing is lost or doubled"
                )
            pause = min(pause * 2, LONGEST_PAUSE)

    def _already_in(self, content: Content) -> ChunkReceipt:
        """The receipt of a chunk of a load that is over: whoever has swapped it in may have had this chunk, too."""
        with self.database.guarded():
            found = self._look_up(content.receipt)
        return found or self._refuse_late()

    def _may_isolate(self, content: Content) -> bool:
        """Whether it is worth while, and allowed, to look for the rows that were refused."""
        if content.alone:
            return False
        if not self.allowance.covers(len(content.screened) + 1):
            return False
        with self.database.guarded() as connection:
            return self.target.look(connection) is not None

    def _try(self, content: Content, where: str) -> ChunkReceipt:
        self._claimed = False
        content.refused = []
        if self.stopped.is_set():
            raise SinkError(f"{where} was not begun: the run was asked to stop")
        connection = self.database.connection()
        if content.alone and self.target.look(connection) is not None:
            return self._try_alone(content, where)
        content.alone = False  # or it is a staging table that was dropped since, and is made anew first
        block = content.block(self.target, lazily=True)
        if self.fenced and self.target.look(connection) is None:
            self._require_load(connection)  # or a table would be made for a load that is over
            connection.rollback()
        shape = self.target.ensure(connection, block, where)
        rows = self.target.fit(block, shape, where) if shape is not None and block.rows else None
        receipt, partials = content.ready(block, where)
        self._claim(connection, content, receipt, partials, self.target.claiming(shape, block))
        if rows is not None and shape is not None:
            self.target.write(connection, shape, block.names, rows)
        self._finish(connection, content)
        return receipt

    def _try_alone(self, content: Content, where: str) -> ChunkReceipt:
        """The same, row by row where need be."""
        from airflow_parallel_provider.sinks.commit.row_isolation import Isolation

        def refuse(reject: Reject) -> None:
            content.refused.append(reject)
            self.allowance.require(content.rejects, where)

        connection = self.database.connection()
        shape = self.target.look(connection)
        assert shape is not None, "asked by _try"

        def claim_again() -> None:
            connection.rollback()
            self._claim(connection, content, content.receipt, None)

        self._claim(connection, content, content.receipt, None)
        written = Isolation(connection, self.database, self.target, shape, claim_again).write(
            content.numbered(), refuse
        )
        receipt, partials = content.ready(self.target.block([row for row, _ in written]), where)
        self.books.ledger.amend(connection, self.load, receipt, partials)
        self._finish(connection, content)
        return receipt

    def _claim(
        self, connection: Connection, content: Content, receipt: ChunkReceipt, partials: str | None, execute: Any = None
    ) -> None:
        self._claimed = False
        if content.alone or content.screened:
            self.books.ensure_rejected(self.database)
        self.database.writer.begin(connection)
        if self.fenced:
            self._require_load(connection)
        self.books.ledger.claim(connection, self.load, receipt, partials, execute)
        self._claimed = True
        self.reached("after_claim")
        if content.within is not None:
            content.within(connection)

    def _finish(self, connection: Connection, content: Content) -> None:
        self.reached("after_rows")
        chunk, rejects = ChunkKey(self.load, self.load_key, content.receipt.chunk_id), content.rejects
        if self.books.letters is not None:
            self.books.letters.insert(connection, chunk, content.letters)
        if self.books.rejected is not None and rejects:
            self.books.rejected.insert(connection, chunk, rejects, content.item_positions())
        self.reached("before_commit")
        content.sent = True
        self.database.writer.commit(connection)
        self.reached("after_commit")

    def _require_load(self, connection: Connection) -> None:
        state = self.books.loads.hold(connection, self.load)
        if state is None:
            raise LoadMismatch(
                f"load {self.load_key!r} is gone from the ledger: a later generation has begun and replaced it, or "
                "somebody has discarded it. Nothing of this attempt is kept"
            )
        if state != OPEN:
            self._refuse_late()

    def _refuse_late(self) -> NoReturn:
        raise _TooLate(
            f"load {self.load_key!r} has taken the place of table {self.target.shown!r} already, and this chunk was "
            "not in it: the source has changed. Use another load_key"
        )

    def _recover(self, content: Content, error: Exception, where: str) -> tuple[ChunkReceipt | None, str]:
        """Find out how a failed try ended: the chunk's receipt if it is in, and why it failed.

        :raises SinkError: when trying again cannot help.
        """
        self.database.discard()
        self.target.forget_shape()  # it may be why
        if isinstance(error, Unreachable):
            return None, str(error)
        if isinstance(error, SinkError) or not self.database.is_driver_error(error):
            raise error
        reason = told(error, self.database.writer)
        if self.stopped.is_set():
            raise SinkError(f"{where} was broken off: the run was asked to stop") from None
        try:
            found = self._look_up(content.receipt)
            # A claim that fails although nobody holds the chunk: who held it has rolled back in between.
            refused = found is None and self._claimed and not may_pass(error, self.database.writer)
            if refused and not self._was_dropped_as_stale(error):
                raise SchemaMismatch(self._refusal(content.block(self.target), where, reason)) from None  # no values
        except Unreachable as unreachable:
            return None, str(unreachable)
        except Exception as second:
            if self.database.is_driver_error(second):
                self.database.discard()  # or the next try would begin with a look over the broken connection
                return None, told(second, self.database.writer)
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
        committed = self.books.ledger.committed(connection, self.load)
        connection.rollback()
        if self.target.look(connection) is not None:
            return says_absent(error)
        state = self.books.loads.hold(connection, self.load)
        connection.rollback()
        return not committed or state != OPEN

    def _look_up(self, receipt: ChunkReceipt) -> ChunkReceipt | None:
        connection = self.database.connection()
        found = self.books.ledger.find(connection, self.load, receipt.chunk_id)
        connection.rollback()
        if found is not None:
            require_same_chunk(found, receipt, self.load_key)
        return found

    def _refusal(self, block: Block, where: str, reason: str) -> str:
        writer = self.database.writer
        shape = self.target.look(self.database.connection())
        self.target.forget_shape()
        if shape is None:
            return gone(self.target.shown)
        return diagnose(block, shape, where, takes_nul=writer.takes_nul) or (
            f"table {self.target.shown!r}: the database refused the rows of {where} ({reason}). Compare them with the "
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
