# SPDX-License-Identifier: Apache-2.0
"""The loads of a ledger: begun, compared with how they were begun, and marked as complete."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow_parallel_provider.errors import LoadMismatch, SinkError
from airflow_parallel_provider.sinks.ledger.definitions import now
from airflow_parallel_provider.sinks.ledger.keys import has_locking_reads, lock_by_writing
from airflow_parallel_provider.sinks.ledger.mapped_tasks import MappedTask

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sqlalchemy.engine import Connection

    from airflow_parallel_provider.engine.interfaces.records import LoadSpec

OPEN, SWAPPING, COMPLETE = "open", "swapping", "complete"
"""The states of a load. Swapping: its staging table is being renamed to the table, where no transaction covers that."""
_STATES = (OPEN, SWAPPING, COMPLETE)
SHARDED = "sharded"
"""The term of a load that shards write: a digest of the state of its source."""


@dataclass(frozen=True, slots=True)
class LoadRecord:
    """What the ledger has about a load itself."""

    load_id: str
    load_key: str
    generation: str
    state: str
    terms: Mapping[str, Any]
    """What every attempt must agree on, as it was when the load began."""
    source_state: Mapping[str, Any] | None
    labels: Mapping[str, str]
    """Of the attempt that began it last."""
    source_chunks: int | None
    """How many chunks the source has, where several shards write the load and one has read it to its end."""
    begun_at: datetime
    """UTC, without a time zone."""

    @property
    def frozen(self) -> str | None:
        """A digest of the state of its source, if shards write it: they all read what it had when the load began."""
        found: str | None = self.terms.get(SHARDED)
        return found

    @property
    def replaces(self) -> bool:
        """Whether its rows go into a staging table, which is swapped in at the end."""
        return self.terms.get("write_disposition") == "replace"

    @property
    def swapped(self) -> bool:
        """Whether it has been swapped in, or is about to be: no chunk can be added."""
        return self.replaces and self.state != OPEN


@dataclass(frozen=True, slots=True)
class LoadsTable:
    """Statements on the loads of a ledger. The caller begins and commits; a failed insert of a load rolls back."""

    loads: Any
    """SQLAlchemy table with a row per load."""
    chunks: Any
    """SQLAlchemy table with a row per chunk."""
    keys_hold: bool = True
    """Whether the database enforces the keys of both. If not, two attempts that begin a load at once leave two rows of
    it, which every statement here takes as one."""

    def of_family(self, connection: Connection, family: str, table: str) -> list[LoadRecord]:
        """All loads of a family into a table, the latest first."""
        matching = (self.loads.c.family == family) & (self.loads.c.table_name == table)
        found = connection.execute(self.loads.select().where(matching)).fetchall()
        latest: dict[str, LoadRecord] = {}
        for row in sorted(_by_state(found), key=lambda row: row.begun_at, reverse=True):
            if row.family == family:  # a database may ignore spaces at the end
                latest.setdefault(row.load_id, load_record(row))
        return list(latest.values())

    def require_terms(
        self, connection: Connection, load: str, load_key: str, terms: Mapping[str, Any], *, lock: bool
    ) -> None:
        """Check that no attempt has begun a load anew on other terms.

        :param lock: let none do so until this transaction ends.
        :raises LoadMismatch: naming what has changed.
        """
        import sqlalchemy as sa

        query = sa.select(self.loads.c.spec, self.loads.c.table_name).where(self.loads.c.load_id == load)
        if lock:
            self._lock(connection, load)
            query = self._locking(connection, query, exclusive=False)
        for row in connection.execute(query).fetchall():
            compare_terms(json.loads(row.spec), terms, load_key, row.table_name)

    def by_key(self, connection: Connection, key: str, table: str) -> list[str]:
        """Ids of the loads into a table whose key or family is this one, the latest first."""
        import sqlalchemy as sa

        loads = self.loads.c
        matching = ((loads.load_key == key) | (loads.family == key)) & (loads.table_name == table)
        columns = (loads.load_id, loads.begun_at, loads.load_key, loads.family)
        found = connection.execute(sa.select(*columns).where(matching)).fetchall()
        same = [row for row in found if key in (row.load_key, row.family)]  # a database may ignore spaces at the end
        return _distinct(sorted(same, key=lambda row: row.begun_at, reverse=True))

    def rows_of(self, connection: Connection, loads: Sequence[str]) -> int:
        """How many rows the chunks of some loads have committed."""
        import sqlalchemy as sa

        rows = sa.select(sa.func.sum(self.chunks.c.rows_committed)).where(self.chunks.c.load_id.in_(list(loads)))
        return int(connection.execute(rows).scalar() or 0)

    def lock(self, connection: Connection, load: str, *, exclusive: bool = False) -> str | None:
        """The state of a load, locked until this transaction ends; None if the load does not exist.

        :param exclusive: no other transaction may hold the lock; else several may, to keep the state as it is. On a
            database without locking reads the lock is always exclusive.
        """
        import sqlalchemy as sa

        if not self._lock(connection, load):
            return None
        query = sa.select(self.loads.c.state).where(self.loads.c.load_id == load)
        found = connection.execute(self._locking(connection, query, exclusive=exclusive)).fetchall()
        states: list[str] = [row.state for row in found]
        return max(states, key=_STATES.index, default=None)

    def _lock(self, connection: Connection, load: str) -> bool:
        """Lock a load by writing its row, where reading cannot (SQL Server, DuckDB) or where no key is enforced.

        SQLite does not need it: only one of its transactions writes at a time.

        :return: whether there may be such a row.
        """
        dialect = connection.dialect
        if dialect.name == "sqlite" or (self.keys_hold and has_locking_reads(dialect)):
            return True
        return lock_by_writing(connection, self.loads, self.loads.c.load_id == load, self.loads.c.attempt)

    def _locking(self, connection: Connection, query: Any, *, exclusive: bool) -> Any:
        return query.with_for_update(read=not exclusive) if has_locking_reads(connection.dialect) else query

    def begin_load(
        self, connection: Connection, load: str, load_spec: LoadSpec, table: str, terms: dict[str, Any]
    ) -> LoadRecord | None:
        """Write the row of the load. If the load has chunks, compare it with the row there is, and return that.

        As long as no chunk has committed, a load may begin anew on other terms. From then on the state of the source
        stays the same. A load that has been swapped in stays complete.

        :raises LoadMismatch: if the terms have changed; names what changed. Or if it is the load of another task
            instance of a mapped task.
        """
        import sqlalchemy as sa

        found = self._locked(connection, load)  # else its state may change before it is written below
        if not found:
            row = load_row(load, load_spec, table, terms)
            try:
                connection.execute(self.loads.insert(), [row])
            except sa.exc.DBAPIError:
                connection.rollback()
                found = self._locked(connection, load)  # another attempt was faster
                if not found:
                    raise
            else:
                return None
        refuse_load_of_other(load_record(found[0]), load_spec)
        source_state = _state_text(load_spec)
        before = None
        source_chunks = None
        if any(row.chunks_committed for row in found) or self._has_chunks(connection, load):
            before = load_record(found[0])
            if load_spec.part == "plan" and before.frozen is not None:
                terms[SHARDED] = before.frozen  # its shards go on with the source as it was
            for row in found:
                compare_terms(json.loads(row.spec), terms, load_spec.load_key or "", table)
            source_state, source_chunks = found[0].source_state, before.source_chunks
        # Open again, even if it was complete: only the end of this attempt shows whether it is.
        counted = sa.select(sa.func.count()).where(self.chunks.c.load_id == load).scalar_subquery()
        values = {
            "attempt": load_spec.attempt,
            "labels": json.dumps(dict(load_spec.labels), sort_keys=True),
            "spec": json.dumps(terms, sort_keys=True),
            "source_state": source_state,
            "generation": load_spec.generation,
            "source_chunks": source_chunks,
            "coordinator": load_spec.coordinator,
            "taken_over": None,
            "chunks_committed": sa.func.coalesce(self.loads.c.chunks_committed, counted),
        }
        if before is None or not before.swapped:
            values |= {"state": OPEN, "completed_at": None}
        elif len(found) > 1:
            values |= {"state": before.state}
        connection.execute(self.loads.update().where(self.loads.c.load_id == load).values(**values))
        return before

    def _has_chunks(self, connection: Connection, load: str) -> bool:
        import sqlalchemy as sa

        found = connection.execute(sa.select(self.chunks.c.chunk_id).where(self.chunks.c.load_id == load).limit(1))
        return found.fetchone() is not None

    def _locked(self, connection: Connection, load: str) -> list[Any]:
        """The row of a load, locked; more than one only where no key is enforced, that with the state first."""
        self._lock(connection, load)
        query = self._locking(connection, self.loads.select().where(self.loads.c.load_id == load), exclusive=True)
        return _by_state(connection.execute(query).fetchall())

    def mark(self, connection: Connection, load: str, state: str) -> None:
        """Set the state of a load."""
        values: dict[str, Any] = {"state": state}
        if state == COMPLETE:
            values["completed_at"] = now()
        connection.execute(self.loads.update().where(self.loads.c.load_id == load).values(**values))

    def complete_before(self, connection: Connection, age: timedelta) -> list[str]:
        """Ids of the loads that completed so long ago."""
        import sqlalchemy as sa

        done = (self.loads.c.state == COMPLETE) & (self.loads.c.completed_at < now() - age)
        return _distinct(connection.execute(sa.select(self.loads.c.load_id).where(done)).fetchall())

    def open_since(self, connection: Connection, age: timedelta, table: str) -> list[str]:
        """Ids of the loads into a table that began so long ago and are not complete."""
        import sqlalchemy as sa

        loads = self.loads.c
        old = (loads.state == OPEN) & (loads.begun_at < now() - age) & (loads.table_name == table)
        return _distinct(connection.execute(sa.select(loads.load_id).where(old)).fetchall())


def refuse_load_of_other(load: LoadRecord, load_spec: LoadSpec) -> None:
    """Check that a load was not begun by another task instance of the same mapped task, in the same run.

    Consumers of a queue may share a load: their chunks have ids of their own.

    :raises LoadMismatch: if it was.
    """
    task = MappedTask.of(load_spec.labels)
    other = None if task is None or load_spec.queue is not None else task.other(load.labels)
    if task is not None and other is not None:
        raise LoadMismatch(task.shared_load(load.load_key, other))


def _by_state(rows: Sequence[Any]) -> list[Any]:
    """The rows of loads, those first that are furthest: another row of the same load is of an attempt that was late."""
    return sorted(rows, key=lambda row: _STATES.index(row.state), reverse=True)


def _distinct(rows: Sequence[Any]) -> list[str]:
    return list(dict.fromkeys(row.load_id for row in rows))


def _state_text(load_spec: LoadSpec) -> str | None:
    return None if load_spec.source_state is None else json.dumps(dict(load_spec.source_state))


def frozen_digest(load_spec: LoadSpec) -> str:
    """A short text that changes with the state of the source."""
    return hashlib.blake2b((_state_text(load_spec) or "").encode(), digest_size=8).hexdigest()


def load_row(load: str, load_spec: LoadSpec, table: str, terms: Mapping[str, Any]) -> dict[str, Any]:
    """The row of a new load."""
    if len(table) > 255:
        raise SinkError(f"table name of {len(table)} characters: use one of at most 255")
    return {
        "load_id": load,
        "load_key": load_spec.load_key,
        "family": load_spec.family or load_spec.load_key,
        "generation": load_spec.generation,
        "table_name": table,
        "spec": json.dumps(terms, sort_keys=True),
        "source_state": _state_text(load_spec),
        "labels": json.dumps(dict(load_spec.labels), sort_keys=True),
        "attempt": load_spec.attempt,
        "chunks_committed": 0,
        "state": OPEN,
        "begun_at": now(),
        "completed_at": None,
        "source_chunks": None,
        "coordinator": load_spec.coordinator,
        "taken_over": None,
    }


def load_record(found: Any) -> LoadRecord:
    row = found._mapping  # public in spite of its name
    state = row["source_state"]
    return LoadRecord(
        load_id=row["load_id"],
        load_key=row["load_key"],
        generation=row["generation"] or "",
        state=row["state"],
        terms=json.loads(row["spec"]),
        source_state=None if state is None else json.loads(state),
        labels=json.loads(row["labels"]),
        source_chunks=row["source_chunks"],
        begun_at=row["begun_at"],
    )


def compare_terms(before: Mapping[str, Any], terms: Mapping[str, Any], load_key: str, table: str) -> None:
    changed = [name for name in terms if before.get(name) != terms[name]]
    if changed:
        listed = "; ".join(f"{name} was {before.get(name)!r} and is {terms[name]!r}" for name in changed)
        raise LoadMismatch(
            f"load {load_key!r} into table {table!r} was begun differently: {listed}. Its committed chunks would not "
            "be the same chunks: restore the first values, use another load_key, or discard the load to start over"
        )
