# SPDX-License-Identifier: Apache-2.0
"""What several runs write at the same time: the shards of one load, and the loads of a mapped task."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from airflow_parallel_provider.errors import LoadMismatch
from airflow_parallel_provider.sinks.ledger.load_lock import require_coordinator
from airflow_parallel_provider.sinks.ledger.loads import OPEN, SHARDED, compare_terms, load_record
from airflow_parallel_provider.sinks.load.load_terms import terms_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from collections.abc import Set as AbstractSet

    from sqlalchemy.engine import Connection

    from airflow_parallel_provider.engine.interfaces.records import CommittedChunk, LoadSpec
    from airflow_parallel_provider.engine.interfaces.sink import Choice
    from airflow_parallel_provider.sinks.ledger.control_tables import ControlTables
    from airflow_parallel_provider.sinks.ledger.loads import LoadRecord, LoadsTable
    from airflow_parallel_provider.sinks.ledger.mapped_tasks import MappedTask
    from airflow_parallel_provider.sinks.load.destination import Destination


def join_load(
    destination: Destination, control_tables: ControlTables, load_spec: LoadSpec
) -> tuple[LoadRecord, Mapping[str, Any]]:
    """Find the load that was begun for shards; a shard must agree with it. Changes nothing."""
    spec = destination.spec
    with destination.database.transaction() as connection:
        load = _joined_load(control_tables.loads, connection, load_spec, spec.display_name)
    terms = load.terms
    if load_spec.part == "shard":
        terms = {**terms_of(spec, load_spec), SHARDED: load.frozen}
        compare_terms(load.terms, terms, load.load_key, spec.display_name)
    return load, terms


def _joined_load(loads: LoadsTable, connection: Connection, load_spec: LoadSpec, table: str) -> LoadRecord:
    """The load that a shard belongs to, as it was begun.

    :raises LoadMismatch: if none was.
    """
    for load in loads.of_family(connection, load_spec.family or load_spec.load_key or "", table):
        if load.generation == load_spec.generation and load.frozen is not None:
            if load_spec.part == "shard":
                require_coordinator(loads, connection, load.load_id, load.load_key, load_spec.coordinator)
            return load
    raise LoadMismatch(
        f"load {load_spec.load_key!r} into table {table!r} has not been begun for shards, or was replaced or discarded "
        "since: call Pipeline.begin() first (in Airflow, clear the task 'plan' with those after it)"
    )


def record_source_chunks(loads: LoadsTable, connection: Connection, load: str, chunks: int) -> None:
    """Store how many chunks the source of a load has; all its shards must say the same.

    :raises LoadMismatch: if another shard has found another number.
    """
    import sqlalchemy as sa

    loads.lock(connection, load, exclusive=True)
    mine = loads.loads.c.load_id == load
    found = connection.execute(sa.select(loads.loads.c.source_chunks).where(mine)).scalar()
    if found is None:
        connection.execute(loads.loads.update().where(mine).values(source_chunks=chunks))
    elif int(found) != chunks:
        raise LoadMismatch(
            f"the source has {chunks} chunks for this shard, and {found} for another one: it gives other items each "
            "time it is read, so the chunks of the shards do not fit together. Discard the load, and freeze the items "
            "first (write them to files or a table)"
        )


def dismiss_shards(loads: LoadsTable, connection: Connection, load: str) -> None:
    """Tell all shards that a coordinator has sent to stop."""
    connection.execute(loads.loads.update().where(loads.loads.c.load_id == load).values(coordinator=""))


def take_over_chunks(
    loads: LoadsTable, connection: Connection, load: str, committed: Mapping[str, CommittedChunk], choose: Choice
) -> AbstractSet[str]:
    """Choose chunks of other shards that no shard has taken over before, and note them.

    :param committed: read before; those of them need no note any more.
    """
    import sqlalchemy as sa

    if loads.lock(connection, load, exclusive=True) != OPEN:
        return frozenset()
    mine = loads.loads.c.load_id == load
    text = connection.execute(sa.select(loads.loads.c.taken_over).where(mine)).scalar()
    taken = frozenset(json.loads(text or "[]")) - committed.keys()
    chosen = choose(committed, taken)
    if chosen:
        connection.execute(loads.loads.update().where(mine).values(taken_over=json.dumps(sorted(taken | chosen))))
    return chosen


def loads_of_others(
    loads: LoadsTable, connection: Connection, task: MappedTask, table: str
) -> list[tuple[LoadRecord, MappedTask]]:
    """The loads into a table that other task instances of a mapped task have begun, the latest first."""
    matching = (loads.loads.c.table_name == table) & loads.loads.c.labels.like(task.like)
    found = connection.execute(loads.loads.select().where(matching)).fetchall()
    records = [load_record(row) for row in sorted(found, key=lambda row: row.begun_at, reverse=True)]
    return [(load, other) for load in records if (other := task.other(load.labels)) is not None]


def refuse_shared_target(loads: LoadsTable, connection: Connection, task: MappedTask | None, table: str) -> None:
    """Check that no other task instance of a mapped task replaces the same table.

    Loads that a Clear has left behind before they replaced anything do not count.

    :raises LoadMismatch: if one does.
    """
    if task is None:
        return
    for load, other in loads_of_others(loads, connection, task, table):
        if load.replaces and (load.state != OPEN or other.run_start == task.run_start):
            raise LoadMismatch(task.shared_target(f"table {table!r}", other, load.load_key))
