# SPDX-License-Identifier: Apache-2.0
"""What happened to a chunk whose commit failed: it has committed, or may be retried, or never can."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_parallel_provider.errors import LoadMismatch, SchemaMismatch, SinkError
from airflow_parallel_provider.rows.diagnose import diagnose
from airflow_parallel_provider.sinks.commit.blame import is_fault_of_rows, no_fault_of_rows
from airflow_parallel_provider.sinks.ledger.loads import OPEN
from airflow_parallel_provider.sql.disk_full import describe_error, is_transient
from airflow_parallel_provider.sql.errors import Unreachable
from airflow_parallel_provider.sql.missing_table import is_missing_table, missing_table_message

if TYPE_CHECKING:
    import threading

    from airflow_parallel_provider.sinks.commit.chunk import PendingChunk
    from airflow_parallel_provider.sinks.commit.row_writer import RowWriter
    from airflow_parallel_provider.sinks.commit.target_table import TargetTable
    from airflow_parallel_provider.sinks.ledger.chunks import ChunkReceipt
    from airflow_parallel_provider.sinks.ledger.control_tables import ControlTables
    from airflow_parallel_provider.sql.database import Database


@dataclass(frozen=True, slots=True)
class Recovery:
    """Finds out how failed attempts at the chunks of a load have ended."""

    database: Database
    control_tables: ControlTables
    target: TargetTable
    writer: RowWriter
    load: str
    load_key: str
    stopped: threading.Event

    def find(self, receipt: ChunkReceipt) -> ChunkReceipt | None:
        """The receipt of a chunk that has committed; None if it has not.

        :raises LoadMismatch: if another chunk has committed under the same id.
        """
        connection = self.database.connection()
        found = self.control_tables.ledger.find(connection, self.load, receipt.chunk_id)
        connection.rollback()
        if found is not None:
            require_same_chunk(found, receipt, self.load_key)
        return found

    def after(self, error: Exception, chunk: PendingChunk, *, claimed: bool) -> tuple[ChunkReceipt | None, str]:
        """The receipt of the chunk if it has committed, and why the attempt failed.

        :param claimed: whether the attempt had claimed the chunk.
        :raises SchemaMismatch: if the database refuses the rows: those that it refuses can be looked for.
        :raises WriteRefused: if it would refuse any row.
        :raises SinkError: if a retry cannot help.
        """
        self.database.invalidate()
        self.target.invalidate_shape()  # a change of the table may be the reason
        if isinstance(error, Unreachable):
            return None, str(error)
        if isinstance(error, SinkError) or not self.database.is_driver_error(error):
            raise error
        reason = describe_error(error, self.database.backend)
        self.database.backend.session.learn(error)
        if self.stopped.is_set():
            raise SinkError(f"{chunk.name} was aborted: the run was asked to stop") from None
        try:
            found = self.find(chunk.receipt)
            # If a claim fails and the ledger does not have the chunk, then its other claim has been rolled back since.
            final = found is None and not is_transient(error, self.database.backend)
            if final and claimed and not self._was_dropped_as_stale(error):
                raise self._refusal(error, chunk, reason) from None  # the error may hold values
            if final and not claimed and self.database.backend.errors.refusal(error) is not None:
                raise no_fault_of_rows(error, self.database.backend, self.target.display_name, chunk.name)
        except Unreachable as unreachable:
            return None, str(unreachable)
        except Exception as second:
            if self.database.is_driver_error(second):
                self.database.invalidate()  # else the next attempt would begin on the broken connection
                return None, describe_error(second, self.database.backend)
            raise
        return found, reason

    def _was_dropped_as_stale(self, error: Exception) -> bool:
        """Whether another attempt has begun meanwhile and dropped the staging table of a load without chunks.

        That attempt may have created the table anew since, committed its first chunk, and even swapped it in.
        """
        if not self.target.is_staging:
            return False
        connection = self.database.connection()
        # In this order: another attempt creates the table before it commits to the ledger, and marks the load last.
        committed = self.control_tables.ledger.committed(connection, self.load)
        connection.rollback()
        if self.target.reflect(connection) is not None:
            return is_missing_table(error)
        state = self.control_tables.loads.lock(connection, self.load)
        connection.rollback()
        return not committed or state != OPEN

    def _refusal(self, error: Exception, chunk: PendingChunk, reason: str) -> SinkError:
        """Why the database has refused the rows, as exactly as can be found out; without their values."""
        block, backend = chunk.block(self.writer), self.database.backend
        shape = self.target.reflect(self.database.connection())
        table = self.target.display_name
        self.target.invalidate_shape()
        if shape is None:
            return LoadMismatch(missing_table_message(table))
        if chunk.rows_sent or not is_fault_of_rows(error, backend, shape, block.names):
            self.target.require_columns(shape, block.names)
            return no_fault_of_rows(error, backend, table, chunk.name)
        return SchemaMismatch(
            diagnose(block, shape, chunk.name, takes_nul=backend.takes_nul)
            or f"table {table!r}: the database refused the rows of {chunk.name} ({reason}). Compare them with the "
            "table's types, keys and constraints"
        )


def require_same_chunk(found: ChunkReceipt, receipt: ChunkReceipt, load_key: str) -> None:
    """Check that two chunks with one id have the same items.

    :raises LoadMismatch: if they have not.
    """
    was, now = (found.first_position, found.items), (receipt.first_position, receipt.items)
    if was != now:
        raise LoadMismatch(
            f"load {load_key!r}, chunk {receipt.chunk_id}: the ledger has {was[1]} items from position {was[0]}, "
            f"this attempt {now[1]} items from position {now[0]}. The source has changed: use another load_key, or "
            "discard the load"
        )
