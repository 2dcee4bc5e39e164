# SPDX-License-Identifier: Apache-2.0
"""What a new generation of a load does with the earlier ones: resume, replace or append."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_parallel_provider.errors import LoadMismatch
from airflow_parallel_provider.sinks.ledger.definitions import load_id, staging_name
from airflow_parallel_provider.sinks.ledger.loads import refuse_load_of_other
from airflow_parallel_provider.sinks.ledger.mapped_tasks import MappedTask
from airflow_parallel_provider.sinks.load.shared_loads import loads_of_others
from airflow_parallel_provider.sql.backends.core_tables import core_table
from airflow_parallel_provider.sql.backends.table_ddl import temporary_name

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.engine import Connection

    from airflow_parallel_provider.engine.interfaces.records import LoadSpec
    from airflow_parallel_provider.sinks.ledger.control_tables import ControlTables
    from airflow_parallel_provider.sinks.ledger.loads import LoadRecord
    from airflow_parallel_provider.sinks.spec.table_spec import TableSpec
    from airflow_parallel_provider.sql.backends.base import Backend
    from airflow_parallel_provider.sql.database import Database

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RerunPlan:
    """The id of the load, and the loads of its family that it replaces."""

    load: str
    how: str
    """``resume``, ``replace`` or ``append``."""
    replaced: tuple[LoadRecord, ...] = ()

    def delete_replaced(
        self, connection: Connection, control_tables: ControlTables, spec: TableSpec, backend: Backend
    ) -> None:
        """Delete the replaced loads and their rows, in the transaction that begins the new one.

        :raises LoadMismatch: if their rows cannot be told from others.
        """
        if not self.replaced:
            return
        if spec.write_disposition != "replace":
            _require_load_column(connection, control_tables, self.replaced, spec)
        ids = [load.load_id for load in self.replaced]
        for load in ids:
            # Waits for a chunk that is being committed; its rows are deleted with the others.
            control_tables.delete(connection, load)
        if spec.write_disposition != "replace":
            delete_rows(connection, spec, ids, backend)

    def clean_up(self, database: Database, spec: TableSpec) -> None:
        """Drop the staging tables of the replaced loads."""
        drop_staging(database, spec, [load.load_id for load in self.replaced if load.replaces])


def plan_rerun(
    connection: Connection, control_tables: ControlTables, spec: TableSpec, load_spec: LoadSpec
) -> RerunPlan:
    """Which load this attempt works on.

    A load of the same generation is resumed whatever ``on_rerun`` says now: this is a retry.
    """
    assert load_spec.load_key is not None
    family = load_spec.family or load_spec.load_key
    how = how_to_rerun(spec, load_spec)
    relatives = control_tables.loads.of_family(connection, family, spec.display_name)
    for relative in relatives:
        refuse_load_of_other(relative, load_spec)
    same = [load for load in relatives if load.generation == load_spec.generation]
    others = [load for load in relatives if load.generation != load_spec.generation]
    if same:
        load = same[0].load_id
    elif how == "resume" and others:
        return RerunPlan(others[0].load_id, how)
    else:
        load = load_id(_key(load_spec, family, how), spec.table, spec.schema)
        others = [other for other in others if other.load_id != load]
    if how == "replace":
        return RerunPlan(load, how, (*others, *_of_unmapped(connection, control_tables, spec, load_spec)))
    if how == "append" and spec.on_rerun is None and spec.write_disposition == "append" and not same:
        _warn(connection, control_tables, spec, others)
    return RerunPlan(load, how)


def _of_unmapped(
    connection: Connection, control_tables: ControlTables, spec: TableSpec, load_spec: LoadSpec
) -> list[LoadRecord]:
    """The loads of task instances that a mapped task no longer has: no other task instance would remove their rows."""
    task, mapped = MappedTask.of(load_spec.labels), load_spec.mapped
    if task is None or mapped is None:
        return []
    others = loads_of_others(control_tables.loads, connection, task, spec.display_name)
    return [load for load, other in others if other.map_index >= mapped]


def how_to_rerun(spec: TableSpec, load_spec: LoadSpec) -> str:
    """``resume``, ``replace`` or ``append``: what a new generation does with the earlier ones."""
    if spec.on_rerun is not None:
        return spec.on_rerun
    if load_spec.family is None or load_spec.family == load_spec.load_key:
        return "resume"  # the author has named the load
    distinct = spec.write_disposition == "replace" or spec.load_id_column is not None
    return "replace" if distinct else "append"


def _key(load_spec: LoadSpec, family: str, how: str) -> str:
    """The key that the id of a new load is made of: the same for all attempts of one generation."""
    if how == "resume":
        return family
    if family == load_spec.load_key and load_spec.generation:
        return f"{family}\n{load_spec.generation}"
    return load_spec.load_key or family


def _warn(connection: Connection, control_tables: ControlTables, spec: TableSpec, others: Sequence[LoadRecord]) -> None:
    rows = control_tables.loads.rows_of(connection, [load.load_id for load in others]) if others else 0
    if rows:
        log.warning(
            "Table %s has %d rows of earlier generations of this load, and this one adds its rows to them. Say what "
            "you want: SinkTable(on_rerun='replace') removes them, 'resume' continues after them, 'append' adds to "
            "them",
            spec.display_name,
            rows,
        )


def _require_load_column(
    connection: Connection, control_tables: ControlTables, replaced: Sequence[LoadRecord], spec: TableSpec
) -> None:
    column = spec.load_id_column
    for load in replaced:
        before = load.terms.get("load_column")
        same = before == column and column is not None
        rows = 0 if same else control_tables.loads.rows_of(connection, [load.load_id])
        if rows:
            raise LoadMismatch(
                f"load {load.load_key!r}: on_rerun='replace' would remove the {rows} rows it has written into table "
                f"{spec.display_name!r}, but they were written with load_column={before!r} (now: {column!r}) "
                "and cannot be told from others. Delete them yourself and discard the load, or write on_rerun='resume' "
                "or 'append'"
            )


def delete_rows(connection: Connection, spec: TableSpec, loads: Sequence[str], backend: Backend) -> int:
    """Delete the rows with the ids of some loads; return how many."""
    import sqlalchemy as sa

    name = spec.load_id_column
    shape = backend.catalog.reflect(connection, spec.table, spec.schema)
    if name is None or shape is None or name not in shape.by_name:
        return 0
    column = sa.Column(sa.sql.quoted_name(name, quote=True), sa.String(32), key="load")
    table = core_table(spec.table, spec.schema, column)
    return int(connection.execute(table.delete().where(table.c.load.in_(list(loads)))).rowcount)


def drop_staging(database: Database, spec: TableSpec, loads: Sequence[str]) -> None:
    """Drop the staging tables of loads with ``write_disposition="replace"``."""
    if not loads:
        return
    backend = database.backend
    for load in loads:
        name = staging_name(spec.table, load, backend.longest_name)
        with database.transaction() as connection:
            for table in (name, temporary_name(name)):
                backend.ddl.drop(connection, table, spec.schema)
