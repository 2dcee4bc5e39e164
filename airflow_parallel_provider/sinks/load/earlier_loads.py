# SPDX-License-Identifier: Apache-2.0
"""What earlier loads into a table have committed, for a source that leaves it out."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from airflow_parallel_provider.engine.interfaces.records import EarlierLoad
from airflow_parallel_provider.sinks.ledger.loads import COMPLETE
from airflow_parallel_provider.sinks.load.load_terms import ONLY_NEW

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from sqlalchemy.engine import Connection

    from airflow_parallel_provider.engine.interfaces.records import LoadSpec
    from airflow_parallel_provider.sinks.ledger.control_tables import ControlTables
    from airflow_parallel_provider.sinks.ledger.loads import LoadRecord
    from airflow_parallel_provider.sql.database import Database


def narrowed(database: Database, control_tables: ControlTables, load_spec: LoadSpec, table: str) -> LoadSpec:
    """A load without what earlier ones, complete or not, have committed to the same table.

    A shard has what the load had when it was begun.
    """
    if load_spec.narrow is None or load_spec.part in ("shard", "finish"):
        return load_spec
    with database.session() as connection:
        earlier = _earlier_loads(connection, control_tables, table)
    return replace(load_spec, source_state=load_spec.narrow(earlier))


def state_of_source(before: LoadRecord | None, load_spec: LoadSpec) -> Mapping[str, Any] | None:
    """What the source goes on with: what its committed chunks were read from, or what earlier loads have left.

    :param before: the load, if an earlier attempt has committed a chunk of it.
    """
    if before is not None:
        return before.source_state
    return None if load_spec.narrow is None else load_spec.source_state


def _earlier_loads(connection: Connection, control_tables: ControlTables, table: str) -> list[EarlierLoad]:
    import sqlalchemy as sa

    loads, chunks = control_tables.loads.loads.c, control_tables.loads.chunks.c
    mine = (loads.table_name == table) & loads.source_state.is_not(None)
    found = connection.execute(
        sa.select(loads.load_id, loads.source_state, loads.state).where(mine).order_by(loads.begun_at)
    ).fetchall()
    committed: defaultdict[str, list[tuple[int, int]]] = defaultdict(list)
    in_table = sa.select(loads.load_id).where(mine)
    for row in connection.execute(
        sa.select(chunks.load_id, chunks.first_position, chunks["items"]).where(chunks.load_id.in_(in_table))
    ).fetchall():
        committed[row[0]].append((int(row[1]), int(row[2])))
    return [
        EarlierLoad(json.loads(state), sorted(committed[load]), name == COMPLETE)
        for load, state, name in found
        if load in committed
    ]


def that_are_remembered(connection: Connection, control_tables: ControlTables, loads: Iterable[str]) -> set[str]:
    """Those of some loads that later ones look back at: without them their files would count as new."""
    import sqlalchemy as sa

    table = control_tables.loads.loads.c
    wanted = set(loads)
    found = connection.execute(sa.select(table.load_id, table.spec)).fetchall() if wanted else []
    return {load for load, terms in found if load in wanted and json.loads(terms).get(ONLY_NEW)}
