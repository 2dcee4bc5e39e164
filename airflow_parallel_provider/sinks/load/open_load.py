# SPDX-License-Identifier: Apache-2.0
"""One load into one table: begun or resumed, and completed."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from airflow_parallel_provider.errors import LoadMismatch, SinkError
from airflow_parallel_provider.rows.block import Block
from airflow_parallel_provider.rows.rejection_limit import RejectionLimit
from airflow_parallel_provider.sinks.commit.committer import ChunkCommitter
from airflow_parallel_provider.sinks.commit.row_writer import RowWriter
from airflow_parallel_provider.sinks.commit.target_table import TargetTable
from airflow_parallel_provider.sinks.ledger.definitions import staging_name
from airflow_parallel_provider.sinks.ledger.load_lock import lock_load
from airflow_parallel_provider.sinks.ledger.loads import COMPLETE, SWAPPING
from airflow_parallel_provider.sinks.ledger.mapped_tasks import MappedTask
from airflow_parallel_provider.sinks.load.earlier_loads import narrowed, state_of_source
from airflow_parallel_provider.sinks.load.load_terms import terms_of
from airflow_parallel_provider.sinks.load.merge_order import forget_chunks_after_gap
from airflow_parallel_provider.sinks.load.one_load import OpenLoad, retry_transient
from airflow_parallel_provider.sinks.load.open_tables import open_control_tables
from airflow_parallel_provider.sinks.load.rerun import RerunPlan, plan_rerun
from airflow_parallel_provider.sinks.load.shared_loads import (
    join_load,
    refuse_shared_target,
)

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Mapping

    from sqlalchemy.engine import Connection

    from airflow_parallel_provider.engine.interfaces.records import LoadSpec
    from airflow_parallel_provider.engine.interfaces.sink import SinkContext
    from airflow_parallel_provider.sinks.ledger.chunks import ChunkReceipt
    from airflow_parallel_provider.sinks.ledger.control_tables import ControlTables
    from airflow_parallel_provider.sinks.ledger.loads import LoadRecord
    from airflow_parallel_provider.sinks.load.destination import Destination

log = logging.getLogger(__name__)


def open_load(
    destination: Destination,
    load_spec: LoadSpec,
    stopped: threading.Event,
    reached: Callable[[str], None],
    *,
    run: SinkContext | None = None,
) -> tuple[OpenLoad, dict[str, ChunkReceipt]]:
    """Begin a load or resume it, and return it with the chunks that have committed; see ``TableLoader.open``."""
    if not load_spec.load_key:
        raise SinkError("open(): load_key=None: name the load, so that a retry finds what has committed")
    spec, database = destination.spec, destination.database
    seconds = spec.lock_timeout
    # In DuckDB, of two attempts that make the control tables at the same time one fails instead of waiting.
    control_tables, target = retry_transient(lambda: _prepare(destination, load_spec), seconds, stopped)
    load_spec = narrowed(database, control_tables, load_spec, spec)
    joins = load_spec.part in ("shard", "finish")
    plan, before, terms = retry_transient(lambda: _begin(destination, control_tables, load_spec), seconds, stopped)
    replaces = spec.write_disposition == "replace"
    if replaces and not joins:
        with database.transaction() as connection:  # a new one: it sees what others have begun meanwhile
            task = MappedTask.of(load_spec.labels)
            refuse_shared_target(control_tables.loads, connection, task, spec.display_name)
    if replaces:
        staging = staging_name(spec.table, plan.load, database.backend.longest_name)
        target = TargetTable(spec, database.backend, staging=staging)
    writer = RowWriter(spec, database.backend, load=plan.load)
    limit = RejectionLimit(spec.max_rejected, run)
    committer = ChunkCommitter(
        database, control_tables, target, writer, plan.load, str(load_spec.load_key), seconds, stopped, reached, limit,
        terms, mapped=MappedTask.of(load_spec.labels) is not None, agreed=before is not None and not joins,
        counted=not replaces, fenced=replaces or joins or plan.how == "replace",
        swapped=before is not None and before.swapped, coordinator=load_spec.coordinator if joins else None,
    )  # fmt: skip
    load = OpenLoad(load_spec, spec, committer, state_of_source(before, load_spec))
    if before is not None:
        load = replace(load, source_chunks=before.source_chunks, begun_at=before.begun_at)
    plan.clean_up(database, spec)
    committed = load.committed()
    if load_spec.ordered and spec.order_matters and load_spec.queue is None:  # a queue gives each try other chunks
        forget_chunks_after_gap(database, control_tables, plan.load, committed)
        committed = load.committed()
    limit.count = sum(receipt.rows_rejected for receipt in committed.values())
    if not committer.swapped:
        retry_transient(lambda: _require_table(load, committed), seconds, stopped)
    return load, load.committed() if replaces else committed  # another attempt may have swapped the table meanwhile


def _prepare(destination: Destination, load_spec: LoadSpec) -> tuple[ControlTables, TargetTable]:
    """Make the control tables that are missing, and look the table up: one that does not fit is refused now."""
    spec, database = destination.spec, destination.database
    with database.session():
        database.backend.check_disposition(spec.write_disposition)
        control_tables = open_control_tables(destination)
        if load_spec.queue is not None:
            control_tables.ensure_messages(database, load_spec.queue)
        target = TargetTable(spec, database.backend)
        target.reflect(database.connection())
    return control_tables, target


def _begin(
    destination: Destination, control_tables: ControlTables, load_spec: LoadSpec
) -> tuple[RerunPlan, LoadRecord | None, Mapping[str, Any]]:
    """Write the row of the load and delete what the load replaces, in one transaction."""
    spec, database = destination.spec, destination.database
    if load_spec.part in ("shard", "finish"):
        load, terms = join_load(destination, control_tables, load_spec)
        return RerunPlan(load.load_id, "resume"), load, terms
    terms = terms_of(spec, load_spec)
    with database.transaction() as connection:
        plan = plan_rerun(connection, control_tables, spec, load_spec)
        plan.delete_replaced(connection, control_tables, spec, database.backend)
        before = control_tables.loads.begin_load(connection, plan.load, load_spec, spec.display_name, terms)
    if before is None and not control_tables.keys_hold:
        # No key has refused this row, although another attempt may have begun the load at the same moment.
        with database.transaction() as connection:
            before = control_tables.loads.begin_load(connection, plan.load, load_spec, spec.display_name, terms)
    return plan, before, terms


def _require_table(load: OpenLoad, committed: Mapping[str, ChunkReceipt]) -> None:
    """Check that the table exists if the ledger has rows in it; create it if its columns are already known."""
    committer = load.committer
    target = committer.target
    rows = sum(receipt.rows for receipt in committed.values())
    with committer.database.session() as connection:
        if not committed and target.is_staging and load.load_spec.part not in ("shard", "finish"):
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
