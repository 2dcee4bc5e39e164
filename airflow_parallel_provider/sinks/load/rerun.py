"""What a new generation of a load does about the earlier ones: resume, replace or append."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_parallel_provider.errors import LoadMismatch
from airflow_parallel_provider.sinks.ledger.loads import load_id, staging_name

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.engine import Connection

    from airflow_parallel_provider.engine.interfaces.records import LoadSpec
    from airflow_parallel_provider.sinks.ledger.control_tables import ControlTables
    from airflow_parallel_provider.sinks.ledger.loads import LoadRecord
    from airflow_parallel_provider.sinks.table import SinkTable
    from airflow_parallel_provider.sql.backends.base import Backend
    from airflow_parallel_provider.sql.database import Database

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RerunPlan:
    """The id of the load, and which loads of its family it replaces."""

    load: str
    how: str
    """``resume``, ``replace`` or ``append``."""
    replaced: tuple[LoadRecord, ...] = ()

    def delete_replaced(
        self, connection: Connection, control_tables: ControlTables, declared: SinkTable, backend: Backend
    ) -> None:
        """Remove the loads that are replaced and their rows, in the transaction that begins the new one.

        :raises LoadMismatch: when their rows cannot be told from others.
        """
        if not self.replaced:
            return
        if declared.write_disposition != "replace":
            _require_marks(connection, control_tables, self.replaced, declared)
        ids = [load.load_id for load in self.replaced]
        for load in ids:
            control_tables.delete(
                connection, load
            )  # waits for a chunk that is being committed; its rows go with the others
        if declared.write_disposition != "replace":
            delete_rows(connection, declared, ids, backend)

    def clean_up(self, database: Database, declared: SinkTable) -> None:
        """Drop the staging tables of the loads that were replaced."""
        drop_staging(database, declared, [load.load_id for load in self.replaced if load.replaces])


def plan_rerun(connection: Connection, control_tables: ControlTables, declared: SinkTable, spec: LoadSpec) -> RerunPlan:
    """Which load this try works on.

    A load of the same generation is gone on with whatever ``on_rerun`` says now: this is a retry.
    """
    assert spec.load_key is not None
    family = spec.family or spec.load_key
    how = declared.on_rerun or _default(declared, spec)
    relatives = control_tables.loads.of_family(connection, family, declared.display_name)
    same = [load for load in relatives if load.generation == spec.generation]
    others = [load for load in relatives if load.generation != spec.generation]
    if same:
        load = same[0].load_id
    elif how == "resume" and others:
        return RerunPlan(others[0].load_id, how)
    else:
        load = load_id(_key(spec, family, how), declared.table, declared.schema)
        others = [other for other in others if other.load_id != load]
    if how == "replace":
        return RerunPlan(load, how, tuple(others))
    if how == "append" and declared.on_rerun is None and declared.write_disposition == "append" and not same:
        _warn(connection, control_tables, declared, others)
    return RerunPlan(load, how)


def _default(declared: SinkTable, spec: LoadSpec) -> str:
    if spec.family is None or spec.family == spec.load_key:
        return "resume"  # the author has named the load
    told_apart = declared.write_disposition == "replace" or declared.load_id_column is not None
    return "replace" if told_apart else "append"


def _key(spec: LoadSpec, family: str, how: str) -> str:
    """What the id of a new load is made of: the same for all tries that belong together."""
    if how == "resume":
        return family
    if family == spec.load_key and spec.generation:
        return f"{family}\n{spec.generation}"
    return spec.load_key or family


def _warn(
    connection: Connection, control_tables: ControlTables, declared: SinkTable, others: Sequence[LoadRecord]
) -> None:
    rows = control_tables.loads.rows_of(connection, [load.load_id for load in others]) if others else 0
    if rows:
        log.warning(
            "Table %s holds %d rows of earlier generations of this load, and this one adds its rows to them. Say what "
            "you want: SinkTable(on_rerun='replace') removes them, 'resume' goes on where they end, 'append' adds",
            declared.display_name,
            rows,
        )


def _require_marks(
    connection: Connection, control_tables: ControlTables, replaced: Sequence[LoadRecord], declared: SinkTable
) -> None:
    mark = declared.load_id_column
    for load in replaced:
        was = load.spec.get("load_column")
        rows = 0 if was == mark and mark is not None else control_tables.loads.rows_of(connection, [load.load_id])
        if rows:
            raise LoadMismatch(
                f"load {load.load_key!r}: on_rerun='replace' would remove the {rows} rows it has put into table "
                f"{declared.display_name!r}, but they were written with load_column={was!r} (now: {mark!r}) "
                "and cannot be told from others. Delete them yourself and discard the load, or write on_rerun='resume' "
                "or 'append'"
            )


def delete_rows(connection: Connection, declared: SinkTable, loads: Sequence[str], backend: Backend) -> int:
    """Delete the rows that carry the ids of some loads; return how many."""
    import sqlalchemy as sa

    from airflow_parallel_provider.sql.backends.base import core_of

    mark = declared.load_id_column
    there = backend.reflect(connection, declared.table, declared.schema)
    if mark is None or there is None or mark not in there.by_name:
        return 0
    column = sa.Column(sa.sql.quoted_name(mark, quote=True), sa.String(32), key="mark")
    table = core_of(declared.table, declared.schema, column)
    return int(connection.execute(table.delete().where(table.c.mark.in_(list(loads)))).rowcount)


def drop_staging(database: Database, declared: SinkTable, loads: Sequence[str]) -> None:
    """Drop what loads with ``write_disposition="replace"`` have left beside the table."""
    from airflow_parallel_provider.sql.backends.base import temporary_name

    if not loads:
        return
    backend = database.backend
    for load in loads:
        name = staging_name(declared.table, load, backend.longest_name)
        with database.transaction() as connection:
            for table in (name, temporary_name(name)):
                backend.drop(connection, table, declared.schema)
