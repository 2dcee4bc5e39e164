# SPDX-License-Identifier: Apache-2.0
"""What earlier loads into a table have committed, for a source that leaves it out."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from airflow_parallel_provider.engine.interfaces.records import EarlierLoad, EarlierLoads
from airflow_parallel_provider.sinks.ledger.loads import COMPLETE
from airflow_parallel_provider.sinks.load.load_terms import ONLY_NEW
from airflow_parallel_provider.sinks.load.rerun import how_to_rerun

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from sqlalchemy.engine import Connection

    from airflow_parallel_provider.engine.interfaces.records import LoadSpec
    from airflow_parallel_provider.sinks.ledger.control_tables import ControlTables
    from airflow_parallel_provider.sinks.ledger.loads import LoadRecord
    from airflow_parallel_provider.sinks.spec.table_spec import TableSpec
    from airflow_parallel_provider.sql.database import Database


def narrowed(database: Database, control_tables: ControlTables, load_spec: LoadSpec, spec: TableSpec) -> LoadSpec:
    """A load without what earlier ones, complete or not, have committed to the same table.

    A shard has what the load had when it was begun.
    """
    if load_spec.narrow is None or load_spec.part in ("shard", "finish"):
        return load_spec
    before = _Before(database, control_tables, load_spec, spec)
    merges = spec.write_disposition == "merge"
    earlier = EarlierLoads(before.oldest_first, before.newest_first, load_spec.chunk_size, merges)
    return replace(load_spec, source_state=load_spec.narrow(earlier))


def state_of_source(before: LoadRecord | None, load_spec: LoadSpec) -> Mapping[str, Any] | None:
    """What the source goes on with: what its committed chunks were read from, or what earlier loads have left.

    :param before: the load, if an earlier attempt has committed a chunk of it.
    """
    if before is not None:
        return before.source_state
    return None if load_spec.narrow is None else load_spec.source_state


@dataclass(frozen=True, slots=True)
class _Before:
    """The loads before this one."""

    database: Database
    control_tables: ControlTables
    load_spec: LoadSpec
    spec: TableSpec

    def oldest_first(self) -> list[EarlierLoad]:
        import sqlalchemy as sa

        loads, chunks = self.control_tables.loads.loads.c, self.control_tables.loads.chunks.c
        committed: defaultdict[str, list[tuple[int, int]]] = defaultdict(list)
        failed: defaultdict[str, list[tuple[int, int]]] = defaultdict(list)
        what = (chunks.load_id, chunks.first_position, chunks["items"], chunks.dead_letters, chunks.rows_rejected)
        with self.database.session() as connection:
            columns = [*self._columns(), loads.source_state]
            found = connection.execute(sa.select(*columns).where(self._mine).order_by(loads.begun_at)).fetchall()
            in_table = sa.select(loads.load_id).where(self._mine)
            for row in connection.execute(sa.select(*what).where(chunks.load_id.in_(in_table))).fetchall():
                committed[row[0]].append((int(row[1]), int(row[2])))
                if row[3] or row[4]:
                    failed[row[0]].append((int(row[1]), int(row[2])))
        return [
            self._load(row, row.source_state, committed[row.load_id], failed[row.load_id])
            for row in found
            if row.load_id in committed
        ]

    def newest_first(self) -> Iterator[EarlierLoad]:
        import sqlalchemy as sa

        loads, chunks = self.control_tables.loads.loads.c, self.control_tables.loads.chunks.c
        newest = sa.select(*self._columns()).where(self._mine).order_by(loads.begun_at.desc())
        with self.database.session() as connection:
            found = connection.execute(newest).fetchall()
        for row in found:
            # The state of a source may be long: read one at a time.
            state = sa.select(loads.source_state).where(loads.load_id == row.load_id).limit(1)
            spans = sa.select(chunks.first_position, chunks["items"]).where(chunks.load_id == row.load_id)
            with self.database.session() as connection:
                text = connection.execute(state).scalar()
                committed = [(int(first), int(items)) for first, items in connection.execute(spans).fetchall()]
            if text is not None and (committed or row.state == COMPLETE):
                yield self._load(row, text, committed)

    @property
    def _mine(self) -> Any:
        loads = self.control_tables.loads.loads.c
        return (loads.table_name == self.spec.display_name) & loads.source_state.is_not(None)

    def _columns(self) -> list[Any]:
        loads = self.control_tables.loads.loads.c
        return [loads.load_id, loads.load_key, loads.family, loads.generation, loads.state]

    def _load(
        self, row: Any, state: str, committed: list[tuple[int, int]], failed: Sequence[tuple[int, int]] = ()
    ) -> EarlierLoad:
        load_spec = self.load_spec
        resumed = row.generation == load_spec.generation or how_to_rerun(self.spec, load_spec) == "resume"
        is_own = row.family == (load_spec.family or load_spec.load_key) and resumed
        complete = row.state == COMPLETE
        return EarlierLoad(json.loads(state), sorted(committed), complete, row.load_key, is_own, failed)


def that_are_remembered(connection: Connection, control_tables: ControlTables, loads: Iterable[str]) -> set[str]:
    """Those of some loads that later ones look back at: without them what they have loaded would count as new."""
    import sqlalchemy as sa

    table = control_tables.loads.loads.c
    wanted = set(loads)
    columns = (table.load_id, table.spec, table.state, table.table_name, table.begun_at)
    found = connection.execute(sa.select(*columns)).fetchall() if wanted else []
    kept: set[str] = set()
    last: dict[tuple[str, str], str] = {}
    for row in sorted(found, key=lambda row: row.begun_at):
        stream = json.loads(row.spec).get(ONLY_NEW)
        if stream is True:
            kept.add(row.load_id)
        elif stream and row.state == COMPLETE:
            last[row.table_name, stream] = row.load_id
    return wanted & (kept | set(last.values()))
