"""The loads of a ledger: begun, compared with how they were begun, and marked as complete."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow_parallel_provider.errors import LoadMismatch, SinkError
from airflow_parallel_provider.sinks.ledger.definitions import now

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sqlalchemy.engine import Connection

    from airflow_parallel_provider.engine.interfaces.records import LoadSpec

OPEN, SWAPPING, COMPLETE = "open", "swapping", "complete"
"""The states of a load. Swapping: its staging table is being renamed to the table, where no transaction covers that."""


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

    @property
    def replaces(self) -> bool:
        """Whether its rows go into a staging table, which is swapped in at the end."""
        return self.terms.get("write_disposition") == "replace"

    @property
    def swapped(self) -> bool:
        """Whether it has been swapped in, or is about to be: no chunk can be added."""
        return self.replaces and self.state != OPEN


def staging_name(table: str, load: str, longest: int | None) -> str:
    """The table that collects the rows of a load with ``write_disposition="replace"``: one per load.

    :param longest: bytes of the longest name that the database supports; None: unknown.
    """
    name = f"{table}__staging_{load[:12]}"
    return name if len(name.encode()) + 4 <= (longest or 63) else f"parallel_staging_{load}"


def load_id(load_key: str, table: str, schema: str | None) -> str:
    """Short stable id of a load: of one load key, into one table."""
    text = json.dumps([load_key, schema or "", table])
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


@dataclass(frozen=True, slots=True)
class LoadsTable:
    """Statements on the loads of a ledger. The caller begins and commits; a failed insert of a load rolls back."""

    loads: Any
    """SQLAlchemy table with a row per load."""
    chunks: Any
    """SQLAlchemy table with a row per chunk."""

    def of_family(self, connection: Connection, family: str, table: str) -> list[LoadRecord]:
        """All loads of a family into a table, the latest first."""
        matching = (self.loads.c.family == family) & (self.loads.c.table_name == table)
        found = connection.execute(self.loads.select().where(matching)).fetchall()
        return [_load_record(row) for row in sorted(found, key=lambda row: row.begun_at, reverse=True)]

    def by_key(self, connection: Connection, key: str, table: str) -> list[str]:
        """Ids of the loads into a table whose key or family is this one, the latest first."""
        import sqlalchemy as sa

        loads = self.loads.c
        matching = ((loads.load_key == key) | (loads.family == key)) & (loads.table_name == table)
        found = connection.execute(sa.select(loads.load_id, loads.begun_at).where(matching)).fetchall()
        return [row.load_id for row in sorted(found, key=lambda row: row.begun_at, reverse=True)]

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

        self._lock(connection, load)
        query = sa.select(self.loads.c.state).where(self.loads.c.load_id == load)
        found: str | None = connection.execute(query.with_for_update(read=not exclusive)).scalar()
        return found

    def _lock(self, connection: Connection, load: str) -> None:
        """Lock a load by writing its row, on databases where reading cannot (SQL Server, DuckDB).

        SQLite does not need it: only one of its transactions writes at a time.
        """
        if connection.dialect.name == "sqlite" or _has_locking_reads(connection.dialect):
            return
        count = self.loads.c.attempt
        for change in (1, -1):  # DuckDB ignores an UPDATE that changes nothing
            connection.execute(self.loads.update().where(self.loads.c.load_id == load).values(attempt=count + change))

    def begin_load(
        self, connection: Connection, load: str, load_spec: LoadSpec, table: str, terms: dict[str, Any]
    ) -> LoadRecord | None:
        """Write the row of the load. If the load has chunks, compare it with the row there is, and return that.

        As long as no chunk has committed, a load may begin anew on other terms. From then on the state of the source
        stays the same. A load that has been swapped in stays complete.

        :raises LoadMismatch: if the terms have changed; names what changed.
        """
        import sqlalchemy as sa

        found = self._find_load(connection, load, locked=True)  # else its state may change before it is written below
        if found is None:
            row = load_row(load, load_spec, table, terms)
            try:
                connection.execute(self.loads.insert(), [row])
            except sa.exc.DBAPIError:
                connection.rollback()
                found = self._find_load(connection, load, locked=True)  # another attempt was faster
                if found is None:
                    raise
            else:
                return None
        source_state = _state_text(load_spec)
        before = None
        if self._has_chunks(connection, load):
            _compare(json.loads(found.spec), terms, load_spec.load_key or "", table)
            source_state = found.source_state
            before = _load_record(found)
        # Open again, even if it was complete: only the end of this attempt shows whether it is.
        values = {
            "attempt": load_spec.attempt,
            "labels": json.dumps(dict(load_spec.labels), sort_keys=True),
            "spec": json.dumps(terms, sort_keys=True),
            "source_state": source_state,
            "generation": load_spec.generation,
        }
        if before is None or not before.swapped:
            values |= {"state": OPEN, "completed_at": None}
        connection.execute(self.loads.update().where(self.loads.c.load_id == load).values(**values))
        return before

    def _has_chunks(self, connection: Connection, load: str) -> bool:
        import sqlalchemy as sa

        found = connection.execute(sa.select(self.chunks.c.chunk_id).where(self.chunks.c.load_id == load).limit(1))
        return found.fetchone() is not None

    def _find_load(self, connection: Connection, load: str, *, locked: bool = False) -> Any:
        if locked:
            self._lock(connection, load)
        query = self.loads.select().where(self.loads.c.load_id == load)
        return connection.execute(query.with_for_update() if locked else query).fetchone()

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
        return [row.load_id for row in connection.execute(sa.select(self.loads.c.load_id).where(done)).fetchall()]

    def open_since(self, connection: Connection, age: timedelta, table: str) -> list[str]:
        """Ids of the loads into a table that began so long ago and are not complete."""
        import sqlalchemy as sa

        loads = self.loads.c
        old = (loads.state == OPEN) & (loads.begun_at < now() - age) & (loads.table_name == table)
        return [row.load_id for row in connection.execute(sa.select(loads.load_id).where(old)).fetchall()]


def _has_locking_reads(dialect: Any) -> bool:
    """Whether SQLAlchemy has a SELECT ... FOR UPDATE for this database."""
    import sqlalchemy as sa

    read: Any = sa.select(sa.literal_column("1"))
    return str(read.with_for_update().compile(dialect=dialect)) != str(read.compile(dialect=dialect))


def _state_text(load_spec: LoadSpec) -> str | None:
    return None if load_spec.source_state is None else json.dumps(dict(load_spec.source_state))


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
        "state": OPEN,
        "begun_at": now(),
        "completed_at": None,
    }


def _load_record(found: Any) -> LoadRecord:
    row = found._mapping  # public in spite of its name
    state = row["source_state"]
    return LoadRecord(
        load_id=row["load_id"],
        load_key=row["load_key"],
        generation=row["generation"] or "",
        state=row["state"],
        terms=json.loads(row["spec"]),
        source_state=None if state is None else json.loads(state),
    )


def _compare(before: Mapping[str, Any], terms: Mapping[str, Any], load_key: str, table: str) -> None:
    changed = [name for name in terms if before.get(name) != terms[name]]
    if changed:
        listed = "; ".join(f"{name} was {before.get(name)!r} and is {terms[name]!r}" for name in changed)
        raise LoadMismatch(
            f"load {load_key!r} into table {table!r} was begun differently: {listed}. Its committed chunks would not "
            "be the same chunks: restore the first values, use another load_key, or discard the load to start over"
        )
