"""One load into one table: begun or gone on with, and completed."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from airflow_parallel_provider.errors import LoadMismatch, SinkError
from airflow_parallel_provider.rows.block import Block
from airflow_parallel_provider.sinks.commit.committer import ChunkCommitter
from airflow_parallel_provider.sinks.commit.rejection_limit import RejectionLimit
from airflow_parallel_provider.sinks.commit.target_table import TargetTable
from airflow_parallel_provider.sinks.ledger.chunks import LoadSummary
from airflow_parallel_provider.sinks.ledger.load_lock import lock_load
from airflow_parallel_provider.sinks.ledger.loads import COMPLETE, SWAPPING, staging_name
from airflow_parallel_provider.sinks.load.open_tables import open_control_tables
from airflow_parallel_provider.sinks.load.rerun import RerunPlan, plan_rerun
from airflow_parallel_provider.sinks.load.table_swap import TableSwap
from airflow_parallel_provider.sql.errors import TransientSinkError

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Mapping

    from sqlalchemy.engine import Connection

    from airflow_parallel_provider.engine.interfaces.records import ChunkResult, LoadSpec
    from airflow_parallel_provider.engine.interfaces.sink import SinkContext
    from airflow_parallel_provider.sinks.ledger.chunks import ChunkLedger, ChunkReceipt
    from airflow_parallel_provider.sinks.ledger.control_tables import ControlTables
    from airflow_parallel_provider.sinks.ledger.loads import LoadRecord
    from airflow_parallel_provider.sinks.table import SinkTable
    from airflow_parallel_provider.sql.database import Database

log = logging.getLogger(__name__)

_PAUSE = 0.05
"""Seconds until something that another attempt was in the way of is done again."""
_Answer = TypeVar("_Answer")


@dataclass(frozen=True, slots=True)
class OpenLoad:
    """A load that chunks can be committed to."""

    spec: LoadSpec
    declared: SinkTable
    committer: ChunkCommitter
    source_state: Mapping[str, Any] | None
    """What the source froze when the chunks that are in were read."""

    def committed(self) -> dict[str, ChunkReceipt]:
        """Its chunks that are in, read from the ledger now."""
        committer = self.committer
        with committer.database.session() as connection:
            return committer.control_tables.ledger.committed(connection, committer.load)

    def known_messages(self) -> frozenset[str]:
        """Ids of the messages of its queue that are in, by this load or another."""
        messages = self.committer.control_tables.messages
        if messages is None:
            return frozenset()
        with self.committer.database.transaction() as connection:
            return messages.seen_ids(connection)

    def record_messages(self, chunk: ChunkResult) -> Callable[[Connection], None] | None:
        """What writes the ids of a chunk's messages down, inside its transaction."""
        messages = self.committer.control_tables.messages
        if messages is None or not chunk.message_ids:
            return None
        load = self.committer.load
        return lambda connection: messages.record(connection, load, chunk.chunk_id, chunk.message_ids)

    def aggregates(self) -> dict[str, Any]:
        """The figures over its chunks that are in."""
        committer = self.committer
        with committer.database.session() as connection:
            return read_aggregates(committer.control_tables.ledger, connection, committer.load, self.declared)

    def consolidate(self, on_mismatch: Literal["fail", "warn"]) -> LoadSummary:
        """Compare ledger and table, mark the load as complete and return its sums; see the hook."""
        if on_mismatch not in ("fail", "warn"):
            raise SinkError(f"consolidate(): on_mismatch={on_mismatch!r}: give 'fail' or 'warn'")
        committer = self.committer
        summary = LoadSummary.of(committer.load_key, self.committed().values())
        if self.declared.write_disposition == "replace":
            _retry_transient(lambda: self._swap().finish(summary.rows), committer.retry_seconds, committer.stopped)
            return summary
        self._compare(summary.rows, on_mismatch)
        with committer.database.transaction() as connection:
            if committer.control_tables.loads.lock(connection, committer.load) is None:
                raise LoadMismatch(
                    f"load {committer.load_key!r} into table {self.declared.display_name!r} is gone from the ledger; somebody "
                    "discarded it, and with it the chunks that were in. Run the task again, or discard the load again"
                )
            committer.control_tables.loads.mark(connection, committer.load, COMPLETE)
        return summary

    def _swap(self) -> TableSwap:
        committer = self.committer
        return TableSwap(
            committer.database,
            committer.control_tables,
            committer.target,
            self.declared,
            committer.load,
            committer.reached,
        )

    def _compare(self, rows: int, on_mismatch: str) -> None:
        """Whether the table holds as many rows as the ledger says; after a merge nobody can count them."""
        if rows == 0 or self.declared.write_disposition == "merge":
            return
        found = self._count()
        mark = self.declared.load_id_column
        if found == rows or (found > rows and mark is None):
            return
        whose = f"of this load (by {mark!r})" if mark else "in all"
        said = (
            f"load {self.committer.load_key!r}: the ledger says that {rows} rows are in, but table "
            f"{self.declared.display_name!r} has {found} {whose}: somebody has changed it meanwhile"
        )
        if on_mismatch == "fail":
            raise SinkError(f"{said}. Look into that, then discard the load or call consolidate(on_mismatch='warn')")
        log.warning("%s", said)

    def _count(self) -> int:
        import sqlalchemy as sa

        from airflow_parallel_provider.sql.backends.base import core_of

        committer, mark = self.committer, self.declared.load_id_column
        column = sa.Column(sa.sql.quoted_name(mark or "", quote=True), sa.String(32), key="mark")
        table = core_of(self.declared.table, self.declared.schema, *([column] if mark else []))
        counted = sa.select(sa.func.count()).select_from(table)
        if mark:
            counted = counted.where(table.c.mark == committer.load)
        with committer.database.session() as connection:
            return int(connection.execute(counted).scalar() or 0)


def open_load(
    database: Database,
    declared: SinkTable,
    spec: LoadSpec,
    stopped: threading.Event,
    reached: Callable[[str], None],
    *,
    run: SinkContext | None = None,
) -> OpenLoad:
    """Begin a load or go on with it; see :meth:`SinkTableHook.open`."""
    if not spec.load_key:
        raise SinkError("open(): load_key=None: name the load, so that a second try finds what the first committed")
    with database.session():
        database.backend.check_disposition(declared.write_disposition)
        control_tables = open_control_tables(database, declared)
        if spec.queue is not None:
            control_tables.ensure_messages(database, declared, spec.queue)
        # A table that cannot do is refused before anything is written down.
        TargetTable(declared, database.backend).reflect(database.connection())
    patience = declared.lock_timeout
    rerun, before = _retry_transient(lambda: _begin(database, control_tables, declared, spec), patience, stopped)
    load = rerun.load
    replaces = declared.write_disposition == "replace"
    staging = staging_name(declared.table, load, database.backend.longest_name) if replaces else None
    target = TargetTable(declared, database.backend, load=load, staging=staging)
    allowance = RejectionLimit(declared.max_rejected, run)
    committer = ChunkCommitter(
        database, control_tables, target, load, spec.load_key, declared.lock_timeout, stopped, reached, allowance,
        fenced=replaces or rerun.how == "replace", swapped=before is not None and before.swapped,
    )  # fmt: skip
    opened = OpenLoad(spec, declared, committer, None if before is None else before.source_state)
    rerun.clean_up(database, declared)
    committed = opened.committed()
    allowance.count = sum(receipt.rows_rejected for receipt in committed.values())
    if not committer.swapped:
        _retry_transient(lambda: _require_table(opened, committed), patience, stopped)
    return opened


def _retry_transient(act: Callable[[], _Answer], seconds: float, stopped: threading.Event) -> _Answer:
    """Do something; again when another attempt that did so at the same time was in the way."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return act()
        except TransientSinkError:
            if time.monotonic() > deadline or stopped.wait(_PAUSE):
                raise


def _begin(
    database: Database, control_tables: ControlTables, declared: SinkTable, spec: LoadSpec
) -> tuple[RerunPlan, LoadRecord | None]:
    """Write the load down, having removed what it replaces: all in one transaction."""
    with database.transaction() as connection:
        rerun = plan_rerun(connection, control_tables, declared, spec)
        rerun.delete_replaced(connection, control_tables, declared, database.backend)
        before = control_tables.loads.begin_load(
            connection, rerun.load, spec, declared.display_name, _frozen(declared, spec)
        )
    return rerun, before


def _require_table(opened: OpenLoad, committed: Mapping[str, ChunkReceipt]) -> None:
    """The table is there if the ledger says that rows are in it; it is made if that can be done by now."""
    committer, declared = opened.committer, opened.declared
    target = committer.target
    rows = sum(receipt.rows for receipt in committed.values())
    with committer.database.session() as connection:
        if not committed and target.name != declared.table:
            _drop_stale(opened)
        # In this order: another attempt makes the table before it commits to the ledger.
        if rows and target.reflect(connection) is None:
            committer.swapped = _is_swapped(opened, connection)
            if committer.swapped:
                return
            raise LoadMismatch(
                f"load {committer.load_key!r}: the ledger says that {rows} rows are in table {target.name!r}, but "
                "there is no such table. Discard the load to write them again"
            )
        target.create_or_alter(connection, Block((), []), "at the start")


def _is_swapped(opened: OpenLoad, connection: Connection) -> bool:
    """Whether another attempt has finished the load since this one has begun."""
    committer = opened.committer
    state = committer.control_tables.loads.lock(connection, committer.load)
    return opened.declared.write_disposition == "replace" and state in (SWAPPING, COMPLETE)


def _drop_stale(opened: OpenLoad) -> None:
    """A staging table of a try that has not committed a chunk: it may have been made from another declaration."""
    committer = opened.committer
    with lock_load(committer.database, committer.control_tables.loads, committer.load) as held:
        if not committer.control_tables.ledger.committed(held.control_tables, committer.load):
            committer.database.backend.drop(held.tables, committer.target.name, opened.declared.schema)


def read_aggregates(ledger: ChunkLedger, connection: Connection, load: str, declared: SinkTable) -> dict[str, Any]:
    """The figures of a load, merged from what its chunks have kept."""
    from airflow_parallel_provider.sinks.aggregates.partials import from_text, merge_partials, results_of

    wanted = declared.declared_aggregates
    partials = [from_text(text) for text in ledger.aggregate_states(connection, load)] if wanted else []
    return results_of(merge_partials(partials, wanted), wanted)


def _frozen(declared: SinkTable, spec: LoadSpec) -> dict[str, Any]:
    """What every try of a load must agree on."""
    columns = declared.declared
    return {
        "chunk_size": spec.chunk_size,
        "source": spec.source,
        "write_disposition": declared.write_disposition,
        "primary_key": list(declared.key),
        "aggregates": {name: each.as_text() for name, each in declared.declared_aggregates.items()} or None,
        "columns": None if columns is None else [[column.name, column.type_name()] for column in columns],
        "load_column": declared.load_id_column,
    }
