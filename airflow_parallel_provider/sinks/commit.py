"""How one chunk is committed: exactly once, whatever dies and whenever.

::

    BEGIN                      (IMMEDIATE on SQLite)
      INSERT ledger row        the claim: waits for, and fails on, anybody else's claim on this chunk
      rows
      dead letters
    COMMIT

* The claim fails: roll back and read the ledger. The chunk is in: that is the answer.
* Anything else fails: roll back. Transient: again on a new connection. Terminal: SchemaMismatch.
* COMMIT itself fails: nobody knows whether it happened. Read the ledger on a new connection: the row is there, or it is
  not there *yet*, in which case the next try's claim waits behind the old transaction and settles it.
"""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from airflow_parallel_provider.errors import LoadMismatch, SchemaMismatch, SinkError
from airflow_parallel_provider.sinks.database import Unreachable
from airflow_parallel_provider.sinks.diagnose import diagnose

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from airflow_parallel_provider.engine.sink import DeadLetter
    from airflow_parallel_provider.sinks.books import Books
    from airflow_parallel_provider.sinks.database import Database
    from airflow_parallel_provider.sinks.ledger import ChunkReceipt
    from airflow_parallel_provider.sinks.rows import Block
    from airflow_parallel_provider.sinks.target import Target

log = logging.getLogger(__name__)

FIRST_PAUSE, LONGEST_PAUSE = 0.1, 5.0
"""Seconds between two tries of a chunk whose commit failed for a reason that may pass."""


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
    _claimed: bool = False

    def commit(self, receipt: ChunkReceipt, rows: Sequence[Any], letters: Sequence[DeadLetter]) -> ChunkReceipt:
        """Commit one chunk and return its receipt; of a chunk that is in already, the receipt it got then.

        :raises SchemaMismatch: when the rows do not fit.
        :raises LoadMismatch: when another chunk is in under the same id.
        :raises SinkError: when the database kept failing.
        """
        where = f"chunk {receipt.chunk_id}"
        block = self.target.block(rows)
        receipt = replace(receipt, rows=len(block.rows))
        deadline = time.monotonic() + self.patience
        pause = FIRST_PAUSE
        while True:
            try:
                return self._try(receipt, block, letters, where)
            except Exception as error:  # noqa: BLE001  # sorted out there: the drivers have no common base
                found, reason = self._recover(receipt, error, block, where)
            if found is not None:
                return found
            log.warning("%s: %s; trying again", where, reason)
            if time.monotonic() + pause > deadline or self.stopped.wait(pause):
                raise SinkError(
                    f"{where} could not be committed within {self.patience:g} s ({reason}): another attempt may hold "
                    "its lock, or the database is down. See to that and run the task again: nothing is lost or doubled"
                )
            pause = min(pause * 2, LONGEST_PAUSE)

    def _try(self, receipt: ChunkReceipt, block: Block, letters: Sequence[DeadLetter], where: str) -> ChunkReceipt:
        self._claimed = False
        if self.stopped.is_set():
            raise SinkError(f"{where} was not begun: the run was asked to stop")
        connection = self.database.connection()
        shape = self.target.ensure(connection, block, where)
        rows = self.target.fit(block, shape, where) if shape is not None and block.rows else None
        self.database.writer.begin(connection)
        self.books.ledger.claim(connection, self.load, receipt)
        self._claimed = True
        self.reached("after_claim")
        if rows is not None and shape is not None:
            self.target.write(connection, shape, block.names, rows)
        self.reached("after_rows")
        if self.books.letters is not None:
            self.books.letters.insert(connection, self.load, self.load_key, receipt.chunk_id, letters)
        self.reached("before_commit")
        self.database.writer.commit(connection)
        self.reached("after_commit")
        return receipt

    def _recover(
        self, receipt: ChunkReceipt, error: Exception, block: Block, where: str
    ) -> tuple[ChunkReceipt | None, str]:
        """Find out how a failed try ended: the chunk's receipt if it is in, and why it failed.

        :raises SinkError: when trying again cannot help.
        """
        self.database.discard()
        if isinstance(error, Unreachable):
            return None, str(error)
        if isinstance(error, SinkError) or not self.database.is_driver_error(error):
            raise error
        reason = self.database.writer.explain(error)
        if self.stopped.is_set():
            raise SinkError(f"{where} was broken off: the run was asked to stop") from None
        try:
            found = self._look_up(receipt)
        except Unreachable as unreachable:
            return None, str(unreachable)
        except Exception as second:
            if self.database.is_driver_error(second):
                return None, self.database.writer.explain(second)
            raise
        # A claim that fails although nobody holds the chunk: who held it has rolled back in between.
        if found is None and self._claimed and not self.database.writer.is_transient(error):
            raise SchemaMismatch(self._refusal(block, where, reason)) from None  # its text may hold values
        return found, reason

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
        found = None if shape is None else diagnose(block, shape, where, takes_nul=writer.takes_nul)
        return found or (
            f"table {self.target.shown!r}: the database refused the rows of {where} ({reason}). Compare them with the "
            "table's types, keys and constraints"
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
