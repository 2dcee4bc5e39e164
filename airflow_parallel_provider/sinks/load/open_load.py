"""One load into one table: begun or resumed, and completed."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from airflow_parallel_provider.errors import LoadMismatch, SinkError
from airflow_parallel_provider.rows.block import Block
from airflow_parallel_provider.sinks.commit.committer import ChunkCommitter
from airflow_parallel_provider.sinks.commit.rejection_limit import RejectionLimit
from airflow_parallel_provider.sinks.commit.row_writer import RowWriter
from airflow_parallel_provider.sinks.commit.target_table import TargetTable
from airflow_parallel_provider.sinks.ledger.chunks import LoadSummary
from airflow_parallel_provider.sinks.ledger.load_lock import lock_load
from airflow_parallel_provider.sinks.ledger.loads import COMPLETE, SWAPPING, staging_name
from airflow_parallel_provider.sinks.load.open_tables import open_control_tables
from airflow_parallel_provider.sinks.load.rerun import RerunPlan, plan_rerun
from airflow_parallel_provider.sinks.load.table_swap import TableSwap
from airflow_parallel_provider.sql.backends.core_tables import core_table
from airflow_parallel_provider.sql.errors import TransientSinkError

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Mapping, Sequence

    from sqlalchemy.engine import Connection

    from airflow_parallel_provider.engine.interfaces.records import ChunkResult, LoadSpec
    from airflow_parallel_provider.engine.interfaces.sink import SinkContext
    from airflow_parallel_provider.sinks.ledger.chunks import ChunkLedger, ChunkReceipt
    from airflow_parallel_provider.sinks.ledger.control_tables import ControlTables
    from airflow_parallel_provider.sinks.ledger.dead_letters import DeadLetterKey
    from airflow_parallel_provider.sinks.ledger.loads import LoadRecord
    from airflow_parallel_provider.sinks.load.destination import Destination
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

    def committed(self) -> dict[str, ChunkReceipt]:
        """Its committed chunks, read from the ledger now."""
        committer = self.committer
        with committer.database.session() as connection:
            return committer.control_tables.ledger.committed(connection, committer.load)

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
        summary = LoadSummary.of(committer.load_key, self.committed().values())
        if self.spec.write_disposition == "replace":
            _retry_transient(lambda: self._swap().finish(summary.rows), committer.retry_seconds, committer.stopped)
            return summary
        self._compare(summary.rows, on_mismatch)
        with committer.database.transaction() as connection:
            if committer.control_tables.loads.lock(connection, committer.load) is None:
                raise LoadMismatch(
                    f"load {committer.load_key!r} into table {self.spec.display_name!r} is no longer in the ledger: it "
                    "was discarded, and with it the chunks that had committed. Run the task again, or discard the load "
                    "again"
                )
            committer.control_tables.loads.mark(connection, committer.load, COMPLETE)
        return summary

    def _swap(self) -> TableSwap:
        committer = self.committer
        return TableSwap(
            committer.database,
            committer.control_tables,
            committer.target,
            self.spec,
            committer.load,
            committer.reached,
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


def open_load(
    destination: Destination,
    load_spec: LoadSpec,
    stopped: threading.Event,
    reached: Callable[[str], None],
    *,
    run: SinkContext | None = None,
) -> OpenLoad:
    """Begin a load or resume it; see ``TableLoader.open``."""
    if not load_spec.load_key:
        raise SinkError("open(): load_key=None: name the load, so that a retry finds what has committed")
    spec, database = destination.spec, destination.database
    seconds = spec.lock_timeout
    # In DuckDB, of two attempts that make the control tables at the same time one fails instead of waiting.
    control_tables = _retry_transient(lambda: _prepare(destination, load_spec), seconds, stopped)
    plan, before = _retry_transient(lambda: _begin(destination, control_tables, load_spec), seconds, stopped)
    replaces = spec.write_disposition == "replace"
    staging = staging_name(spec.table, plan.load, database.backend.longest_name) if replaces else None
    target = TargetTable(spec, database.backend, staging=staging)
    writer = RowWriter(spec, database.backend, load=plan.load)
    limit = RejectionLimit(spec.max_rejected, run)
    committer = ChunkCommitter(
        database, control_tables, target, writer, plan.load, load_spec.load_key, seconds, stopped, reached, limit,
        fenced=replaces or plan.how == "replace", swapped=before is not None and before.swapped,
    )  # fmt: skip
    load = OpenLoad(load_spec, spec, committer, None if before is None else before.source_state)
    plan.clean_up(database, spec)
    committed = load.committed()
    limit.count = sum(receipt.rows_rejected for receipt in committed.values())
    if not committer.swapped:
        _retry_transient(lambda: _require_table(load, committed), seconds, stopped)
    return load


def _prepare(destination: Destination, load_spec: LoadSpec) -> ControlTables:
    """Make the control tables that are missing, and refuse a table that does not fit before anything is written."""
    spec, database = destination.spec, destination.database
    with database.session():
        database.backend.check_disposition(spec.write_disposition)
        control_tables = open_control_tables(destination)
        if load_spec.queue is not None:
            control_tables.ensure_messages(database, load_spec.queue)
        TargetTable(spec, database.backend).reflect(database.connection())
    return control_tables


def _retry_transient(act: Callable[[], _Result], seconds: float, stopped: threading.Event) -> _Result:
    """Call a function; again if another attempt that does the same has blocked it."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return act()
        except TransientSinkError:
            if time.monotonic() > deadline or stopped.wait(_PAUSE):
                raise


def _begin(
    destination: Destination, control_tables: ControlTables, load_spec: LoadSpec
) -> tuple[RerunPlan, LoadRecord | None]:
    """Write the row of the load and delete what the load replaces, in one transaction."""
    spec, database = destination.spec, destination.database
    with database.transaction() as connection:
        plan = plan_rerun(connection, control_tables, spec, load_spec)
        plan.delete_replaced(connection, control_tables, spec, database.backend)
        before = control_tables.loads.begin_load(
            connection, plan.load, load_spec, spec.display_name, _terms(spec, load_spec)
        )
    return plan, before


def _require_table(load: OpenLoad, committed: Mapping[str, ChunkReceipt]) -> None:
    """Check that the table exists if the ledger has rows in it; create it if its columns are already known."""
    committer = load.committer
    target = committer.target
    rows = sum(receipt.rows for receipt in committed.values())
    with committer.database.session() as connection:
        if not committed and target.is_staging:
            _drop_stale(load)
        # In this order: another attempt creates the table before it commits to the ledger.
        if rows and target.reflect(connection) is None:
            committer.swapped = _is_swapped(load, connection)
            if committer.swapped:
                return
            raise LoadMismatch(
                f"load {committer.load_key!r}: the ledger has {rows} committed rows in table {target.name!r}, but "
                "there is no such table. Discard the load to write them again"
            )
        target.create_or_alter(connection, Block((), []), "at the start")


def _is_swapped(load: OpenLoad, connection: Connection) -> bool:
    """Whether another attempt has finished the load since this one began."""
    committer = load.committer
    state = committer.control_tables.loads.lock(connection, committer.load)
    return load.spec.write_disposition == "replace" and state in (SWAPPING, COMPLETE)


def _drop_stale(load: OpenLoad) -> None:
    """Drop the staging table of an attempt that has not committed a chunk: its declaration may have been another."""
    committer = load.committer
    with lock_load(committer.database, committer.control_tables.loads, committer.load) as locked:
        if not committer.control_tables.ledger.committed(locked.control_tables, committer.load):
            committer.database.backend.ddl.drop(locked.tables, committer.target.name, load.spec.schema)


def read_aggregates(ledger: ChunkLedger, connection: Connection, load: str, spec: TableSpec) -> dict[str, Any]:
    """The aggregates of a load, merged from those of its chunks."""
    from airflow_parallel_provider.sinks.aggregates.partials import from_text, merge_partials, results_of

    aggregates = spec.declared_aggregates
    partials = [from_text(text) for text in ledger.aggregate_states(connection, load)] if aggregates else []
    return results_of(merge_partials(partials, aggregates), aggregates)


def _terms(spec: TableSpec, load_spec: LoadSpec) -> dict[str, Any]:
    """What every attempt at a load must agree on."""
    columns = spec.declared_columns
    return {
        "chunk_size": load_spec.chunk_size,
        "source": load_spec.source,
        "write_disposition": spec.write_disposition,
        "primary_key": list(spec.key),
        "aggregates": {name: each.as_text() for name, each in spec.declared_aggregates.items()} or None,
        "columns": None if columns is None else [[column.name, column.type_name()] for column in columns],
        "load_column": spec.load_id_column,
    }
