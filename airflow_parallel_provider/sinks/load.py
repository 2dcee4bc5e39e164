"""One load into one table: begun or gone on with, and completed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_parallel_provider.errors import LoadMismatch, SinkError
from airflow_parallel_provider.sinks.books import open_books
from airflow_parallel_provider.sinks.commit import Committer
from airflow_parallel_provider.sinks.ledger import LoadSummary, load_id
from airflow_parallel_provider.sinks.rejected import Allowance
from airflow_parallel_provider.sinks.rows import Block
from airflow_parallel_provider.sinks.target import Target

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Mapping

    from sqlalchemy.engine import Connection

    from airflow_parallel_provider.engine.sink import ChunkResult, LoadSpec, SinkRun
    from airflow_parallel_provider.sinks.database import Database
    from airflow_parallel_provider.sinks.ledger import ChunkReceipt, Ledger
    from airflow_parallel_provider.sinks.table import SinkTable


@dataclass(frozen=True, slots=True)
class OpenLoad:
    """A load that chunks can be committed to."""

    spec: LoadSpec
    declared: SinkTable
    committer: Committer
    source_state: Mapping[str, Any] | None
    """What the source froze when the chunks that are in were read."""

    def committed(self) -> dict[str, ChunkReceipt]:
        """Its chunks that are in, read from the ledger now."""
        committer = self.committer
        with committer.database.guarded() as connection:
            return committer.books.ledger.committed(connection, committer.load)

    def known_messages(self) -> frozenset[str]:
        """Ids of the messages of its queue that are in, by this load or another."""
        messages = self.committer.books.messages
        if messages is None:
            return frozenset()
        with self.committer.database.transaction() as connection:
            return messages.known(connection)

    def remembering(self, chunk: ChunkResult) -> Callable[[Connection], None] | None:
        """What writes the ids of a chunk's messages down, inside its transaction."""
        messages = self.committer.books.messages
        if messages is None or not chunk.message_ids:
            return None
        load = self.committer.load
        return lambda connection: messages.remember(connection, load, chunk.chunk_id, chunk.message_ids)

    def aggregates(self) -> dict[str, Any]:
        """The figures over its chunks that are in."""
        committer = self.committer
        with committer.database.guarded() as connection:
            return read_figures(committer.books.ledger, connection, committer.load, self.declared)

    def consolidate(self) -> LoadSummary:
        """Mark it as complete and return its sums, from the ledger."""
        committer = self.committer
        chunks = self.committed().values()
        with committer.database.transaction() as connection:
            committer.books.ledger.complete(connection, committer.load)
        return LoadSummary.of(committer.load_key, chunks)


def open_load(
    database: Database,
    declared: SinkTable,
    spec: LoadSpec,
    stopped: threading.Event,
    reached: Callable[[str], None],
    *,
    run: SinkRun | None = None,
) -> OpenLoad:
    """Begin a load or go on with it; see :meth:`SinkTableHook.open`."""
    if not spec.load_key:
        raise SinkError("open(): load_key=None: name the load, so that a second try finds what the first committed")
    with database.guarded():
        database.writer.check_disposition(declared.write_disposition)
        books = open_books(database, declared)
        if spec.queue is not None:
            books.ensure_messages(database, declared, spec.queue)
        target = Target(declared, database.writer)
        target.look(database.connection())  # a table that cannot do is refused before anything is written down
    load = load_id(spec.load_key, declared.table, declared.schema)
    with database.transaction() as connection:
        kept = books.ledger.begin_load(connection, load, spec, declared.shown, _frozen(declared, spec))
    allowance = Allowance(declared.max_rejected, run)
    committer = Committer(
        database, books, target, load, spec.load_key, declared.lock_timeout, stopped, reached, allowance
    )
    opened = OpenLoad(spec, declared, committer, kept)
    receipts = opened.committed().values()
    rows = sum(receipt.rows for receipt in receipts)
    allowance.count = sum(receipt.rows_rejected for receipt in receipts)
    with database.guarded() as connection:
        # In this order: another attempt makes the table before it commits to the ledger.
        if rows and target.look(connection) is None:
            raise LoadMismatch(
                f"load {spec.load_key!r}: the ledger says that {rows} rows are in table {declared.shown!r}, but "
                "there is no such table. Discard the load to write them again"
            )
        target.ensure(connection, Block((), []), "at the start")
    return opened


def read_figures(ledger: Ledger, connection: Connection, load: str, declared: SinkTable) -> dict[str, Any]:
    """The figures of a load, merged from what its chunks have kept."""
    from airflow_parallel_provider.sinks.aggregates.partials import figures, from_text, merge_partials

    wanted = declared.figures_wanted
    partials = [from_text(text) for text in ledger.partials(connection, load)] if wanted else []
    return figures(merge_partials(partials, wanted), wanted)


def _frozen(declared: SinkTable, spec: LoadSpec) -> dict[str, Any]:
    """What every try of a load must agree on."""
    columns = declared.declared
    return {
        "chunk_size": spec.chunk_size,
        "source": spec.source,
        "write_disposition": declared.write_disposition,
        "primary_key": list(declared.key),
        "aggregates": {name: each.spell() for name, each in declared.figures_wanted.items()},
        "columns": None if columns is None else [[column.name, column.spell()] for column in columns],
    }
