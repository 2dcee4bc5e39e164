# SPDX-License-Identifier: Apache-2.0
"""A load into a table that is open: what its chunks, its shards and its end need."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from airflow_parallel_provider.errors import LoadMismatch, SinkError
from airflow_parallel_provider.rows.texts.line_rows import CopyLines
from airflow_parallel_provider.sinks.commit.committer import ChunkCommitter
from airflow_parallel_provider.sinks.ledger.chunks import LoadSummary
from airflow_parallel_provider.sinks.ledger.loads import COMPLETE
from airflow_parallel_provider.sinks.ledger.mapped_tasks import MappedTask
from airflow_parallel_provider.sinks.load.shared_loads import (
    dismiss_shards,
    record_source_chunks,
    take_over_chunks,
)
from airflow_parallel_provider.sinks.load.table_swap import TableSwap
from airflow_parallel_provider.sql.backends.core_tables import core_table
from airflow_parallel_provider.sql.backends.quoting import quote_table
from airflow_parallel_provider.sql.backends.session import driver_connection
from airflow_parallel_provider.sql.copy_lines import copied_types, driver_copies
from airflow_parallel_provider.sql.errors import TransientSinkError

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Mapping, Sequence
    from collections.abc import Set as AbstractSet
    from datetime import datetime

    from sqlalchemy.engine import Connection

    from airflow_parallel_provider.engine.interfaces.records import ChunkResult, LoadSpec
    from airflow_parallel_provider.engine.interfaces.sink import Choice
    from airflow_parallel_provider.sinks.ledger.chunks import ChunkLedger, ChunkReceipt
    from airflow_parallel_provider.sinks.ledger.dead_letters import DeadLetterKey
    from airflow_parallel_provider.sinks.ledger.loads import LoadsTable
    from airflow_parallel_provider.sinks.spec.table_spec import TableSpec

log = logging.getLogger(__name__)

_PAUSE = 0.05
"""Seconds before a step is retried that another attempt has blocked."""
_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True)
class OpenLoad:
    """A load that chunks can be committed to."""

    load_spec: LoadSpec
    spec: TableSpec
    committer: ChunkCommitter
    source_state: Mapping[str, Any] | None
    """The state of the source when the committed chunks were read; None as long as there are none."""
    source_chunks: int | None = None
    """How many chunks the source has, see :meth:`finish_shard`; None: not known."""
    begun_at: datetime | None = None

    def committed(self) -> dict[str, ChunkReceipt]:
        """Its committed chunks, read from the ledger now.

        :raises LoadMismatch: if rows of the ledger have been deleted.
        """
        committer = self.committer
        with committer.database.session() as connection:  # in this order: meanwhile the chunks only become more
            counted = committer.control_tables.ledger.counted(connection, committer.load)
            connection.rollback()
            found = committer.control_tables.ledger.committed(connection, committer.load)
        if len(found) < counted:
            raise LoadMismatch(
                f"load {committer.load_key!r} into table {self.spec.display_name!r}: {counted} chunks have committed, "
                f"but ledger table {self.spec.ledger_table!r} has only {len(found)} of them: its rows were deleted, "
                "and a retry would write the rows of those chunks twice. Restore the ledger's rows; or delete the rows "
                f"of the load from the table and call SinkTableHook(...).discard({committer.load_key!r}) to start over"
            )
        return found

    def takes_lines(self) -> CopyLines | None:
        """Lines of COPY in place of rows, which the table takes if nothing has to look at the rows."""
        committer, spec = self.committer, self.spec
        looks = spec.validate is not None or spec.aggregates or spec.load_id_column or spec.on_schema_change != "fail"
        if looks or not committer.database.backend.takes_lines:
            return None
        with committer.database.session() as connection:
            raw = driver_connection(connection)
            if not driver_copies(raw):
                return None
            # A staging table that an earlier attempt has made, or what it will be made like.
            found = (copied_types(raw, quote_table(name, spec.schema)) for name in (committer.target.name, spec.table))
            types = next(filter(None, found), None)
            connection.rollback()
        committer.writer.lines = CopyLines(types) if types else None
        return committer.writer.lines

    def known_messages(self) -> frozenset[str]:
        """Ids of the messages of its queue that have committed, in this load or another."""
        messages = self.committer.control_tables.messages
        if messages is None:
            return frozenset()
        with self.committer.database.transaction() as connection:
            return messages.seen_ids(connection)

    def record_messages(self, chunk: ChunkResult) -> Callable[[Connection], None] | None:
        """A function that writes the message ids of a chunk, to be called inside its transaction."""
        messages = self.committer.control_tables.messages
        if messages is None or not chunk.message_ids:
            return None
        load = self.committer.load
        return lambda connection: messages.record(connection, load, chunk.chunk_id, chunk.message_ids)

    def resolve_dead_letters(self, connection: Connection, keys: Sequence[DeadLetterKey], chunk_id: str) -> int:
        """Mark dead letters as resolved by a chunk of this load; return how many were not resolved before.

        :param connection: the argument of ``in_transaction`` of ``write_chunk``: the marks commit with the chunk.
        :raises SinkError: if the sink has no table of dead letters.
        """
        committer = self.committer
        by = f"{committer.load}/{chunk_id}"
        return committer.control_tables.dead_letter_table().resolve(connection, keys, by)

    def aggregates(self) -> dict[str, Any]:
        """The aggregates over its committed chunks."""
        committer = self.committer
        with committer.database.session() as connection:
            return read_aggregates(committer.control_tables.ledger, connection, committer.load, self.spec)

    def consolidate(self, on_mismatch: Literal["fail", "warn"]) -> LoadSummary:
        """Compare ledger and table, mark the load as complete and return its sums; see ``TableLoader.consolidate``."""
        if on_mismatch not in ("fail", "warn"):
            raise SinkError(f"consolidate(): on_mismatch={on_mismatch!r}: give 'fail' or 'warn'")
        committer = self.committer
        seconds, stopped = committer.retry_seconds, committer.stopped
        summary = retry_transient(
            lambda: LoadSummary.of(committer.load_key, self.committed().values()), seconds, stopped
        )
        if self.load_spec.part == "finish":
            committer.rejection_limit.enforce_whole(summary.rows_rejected)
        if self.spec.write_disposition == "replace":
            retry_transient(lambda: self._swap().finish(summary.rows), seconds, stopped)
            return summary
        retry_transient(lambda: self._compare(summary.rows, on_mismatch), seconds, stopped)
        retry_transient(self._complete, seconds, stopped)
        return summary

    def _complete(self) -> None:
        committer = self.committer
        with committer.database.transaction() as connection:
            # Exclusive: of two attempts that share the lock, each would wait for the other before it marks the load.
            if committer.control_tables.loads.lock(connection, committer.load, exclusive=True) is None:
                raise LoadMismatch(
                    f"load {committer.load_key!r} into table {self.spec.display_name!r} is no longer in the ledger: it "
                    "was discarded, and with it the chunks that had committed. Run the task again, or discard the load "
                    "again"
                )
            committer.control_tables.loads.mark(connection, committer.load, COMPLETE)

    def finish_shard(self, chunks: int) -> None:
        """Store how many chunks the source has: the shard has read it to its end."""
        self._on_load_row(lambda loads, at, load: record_source_chunks(loads, at, load, chunks))

    def take_over(self, choose: Choice) -> AbstractSet[str]:
        """Note that this run takes chunks of other shards; see ``Sink.take_over``."""
        committed = self.committed()
        return self._on_load_row(lambda loads, at, load: take_over_chunks(loads, at, load, committed, choose))

    def dismiss_shards(self) -> None:
        """No shard that a coordinator has sent may commit any more."""
        self._on_load_row(dismiss_shards)

    def _on_load_row(self, act: Callable[[LoadsTable, Connection, str], _Result]) -> _Result:
        committer = self.committer

        def acted() -> _Result:
            with committer.database.transaction() as connection:
                return act(committer.control_tables.loads, connection, committer.load)

        return retry_transient(acted, committer.retry_seconds, committer.stopped)

    def seconds(self) -> float | None:
        """From its beginning to its last commit; None as long as there is none."""
        last = max((chunk.committed_at for chunk in self.committed().values() if chunk.committed_at), default=None)
        if last is None or self.begun_at is None:
            return None
        return max(0.0, (last - self.begun_at).total_seconds())

    def _swap(self) -> TableSwap:
        committer = self.committer
        return TableSwap(
            committer.database,
            committer.control_tables,
            committer.target,
            self.spec,
            committer.load,
            committer.reached,
            MappedTask.of(self.load_spec.labels),
        )

    def _compare(self, rows: int, on_mismatch: str) -> None:
        """Check that the table has as many rows as the ledger says; after a merge they cannot be counted."""
        if rows == 0 or self.spec.write_disposition == "merge":
            return
        found = self._count()
        column = self.spec.load_id_column
        if found == rows or (found > rows and column is None):
            return
        which = f"of this load (by {column!r})" if column else "in total"
        text = (
            f"load {self.committer.load_key!r}: the ledger has {rows} committed rows, but table "
            f"{self.spec.display_name!r} has {found} {which}: rows were deleted or added meanwhile"
        )
        if on_mismatch == "fail":
            raise SinkError(f"{text}. Find out why, then discard the load or call consolidate(on_mismatch='warn')")
        log.warning("%s", text)

    def _count(self) -> int:
        import sqlalchemy as sa

        committer, name = self.committer, self.spec.load_id_column
        column = sa.Column(sa.sql.quoted_name(name or "", quote=True), sa.String(32), key="load")
        table = core_table(self.spec.table, self.spec.schema, *([column] if name else []))
        query = sa.select(sa.func.count()).select_from(table)
        if name:
            query = query.where(table.c.load == committer.load)
        with committer.database.session() as connection:
            return int(connection.execute(query).scalar() or 0)


def retry_transient(act: Callable[[], _Result], seconds: float, stopped: threading.Event) -> _Result:
    """Call a function; again if another attempt that does the same has blocked it."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return act()
        except TransientSinkError:
            if time.monotonic() > deadline or stopped.wait(_PAUSE):
                raise


def read_aggregates(ledger: ChunkLedger, connection: Connection, load: str, spec: TableSpec) -> dict[str, Any]:
    """The aggregates of a load, merged from those of its chunks."""
    from airflow_parallel_provider.sinks.aggregates.partials import from_text, merge_partials, results_of

    aggregates = spec.declared_aggregates
    partials = [from_text(text) for text in ledger.aggregate_states(connection, load)] if aggregates else []
    return results_of(merge_partials(partials, aggregates), aggregates)
