"""The loads of a ledger: begun, compared with what they were begun with, marked as complete."""

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
"""The states of a load. Swapping: on its way in place of the table, where no transaction covers that."""


@dataclass(frozen=True, slots=True)
class LoadRecord:
    """What the ledger says of a load itself."""

    load_id: str
    load_key: str
    generation: str
    state: str
    spec: Mapping[str, Any]
    source_state: Mapping[str, Any] | None

    @property
    def replaces(self) -> bool:
        """Whether its rows go into a staging table, which takes the table's place at the end."""
        return self.spec.get("write_disposition") == "replace"

    @property
    def swapped(self) -> bool:
        """Whether it has taken the table's place, or is about to: no chunk can be added."""
        return self.replaces and self.state != OPEN


def staging_name(table: str, load: str, longest: int | None) -> str:
    """The table that gathers the rows of a load with ``write_disposition="replace"``: one per load.

    :param longest: bytes of the longest name that the database keeps; None: nobody knows.
    """
    name = f"{table}__staging_{load[:12]}"
    return name if len(name.encode()) + 4 <= (longest or 63) else f"parallel_staging_{load}"


def load_id(load_key: str, table: str, schema: str | None) -> str:
    """Short stable id of a load: of one load key into one table."""
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
        mine = (self.loads.c.family == family) & (self.loads.c.table_name == table)
        found = connection.execute(self.loads.select().where(mine)).fetchall()
        return [_load(row) for row in sorted(found, key=lambda row: row.begun_at, reverse=True)]

    def by_key(self, connection: Connection, key: str, table: str) -> list[str]:
        """Ids of the loads into a table that go by a load key, or whose family does, the latest first."""
        import sqlalchemy as sa

        loads = self.loads.c
        mine = ((loads.load_key == key) | (loads.family == key)) & (loads.table_name == table)
        found = connection.execute(sa.select(loads.load_id, loads.begun_at).where(mine)).fetchall()
        return [row.load_id for row in sorted(found, key=lambda row: row.begun_at, reverse=True)]

    def rows_of(self, connection: Connection, loads: Sequence[str]) -> int:
        """How many rows the chunks of some loads have committed."""
        import sqlalchemy as sa

        rows = sa.select(sa.func.sum(self.chunks.c.rows_committed)).where(self.chunks.c.load_id.in_(list(loads)))
        return int(connection.execute(rows).scalar() or 0)

    def lock(self, connection: Connection, load: str, *, alone: bool = False) -> str | None:
        """The state of a load, which nobody changes until this transaction ends; None when it is not there.

        :param alone: nobody else may hold it meanwhile. So it is anyway on a database without locking reads.
        """
        import sqlalchemy as sa

        self._lock(connection, load)
        mine = sa.select(self.loads.c.state).where(self.loads.c.load_id == load)
        found: str | None = connection.execute(mine.with_for_update(read=not alone)).scalar()
        return found

    def _lock(self, connection: Connection, load: str) -> None:
        """Hold a load where reading cannot (SQL Server, DuckDB), by writing its row.

        SQLite needs none of it: its transactions write one at a time.
        """
        if connection.dialect.name == "sqlite" or _has_locking_reads(connection.dialect):
            return
        count = self.loads.c.attempt
        for change in (1, -1):  # DuckDB takes no notice of an UPDATE that leaves everything as it was
            connection.execute(self.loads.update().where(self.loads.c.load_id == load).values(attempt=count + change))

    def begin_load(
        self, connection: Connection, load: str, spec: LoadSpec, table: str, frozen: dict[str, Any]
    ) -> LoadRecord | None:
        """Write the load's row, or compare it with the one that is there, which is returned.

        As long as no chunk is in, a load may be begun anew in another way. From then on the state of the source stays
        what it was. A load that has been swapped in stays complete.

        :raises LoadMismatch: naming what changed.
        """
        import sqlalchemy as sa

        found = self._find_load(connection, load, held=True)  # or its state may change before it is written below
        if found is None:
            row = load_record(load, spec, table, frozen)
            try:
                connection.execute(self.loads.insert(), [row])
            except sa.exc.DBAPIError:
                connection.rollback()
                found = self._find_load(connection, load, held=True)  # another attempt was faster
                if found is None:
                    raise
            else:
                return None
        state = _state_text(spec)
        before = None
        if self._has_chunks(connection, load):
            _compare(json.loads(found.spec), frozen, spec.load_key or "", table)
            state = found.source_state
            before = _load(found)
        # Open again, even if it was complete: until this try ends well nobody can say that it is.
        labels = json.dumps(dict(spec.labels), sort_keys=True)
        seen = {
            "attempt": spec.attempt,
            "labels": labels,
            "spec": json.dumps(frozen, sort_keys=True),
            "source_state": state,
            "generation": spec.generation,
        }
        if before is None or not before.swapped:
            seen |= {"state": OPEN, "completed_at": None}
        connection.execute(self.loads.update().where(self.loads.c.load_id == load).values(**seen))
        return before

    def _has_chunks(self, connection: Connection, load: str) -> bool:
        import sqlalchemy as sa

        found = connection.execute(sa.select(self.chunks.c.chunk_id).where(self.chunks.c.load_id == load).limit(1))
        return found.fetchone() is not None

    def _find_load(self, connection: Connection, load: str, *, held: bool = False) -> Any:
        if held:
            self._lock(connection, load)
        mine = self.loads.select().where(self.loads.c.load_id == load)
        return connection.execute(mine.with_for_update() if held else mine).fetchone()

    def mark(self, connection: Connection, load: str, state: str) -> None:
        """Write down how far a load has come."""
        seen: dict[str, Any] = {"state": state}
        if state == COMPLETE:
            seen["completed_at"] = now()
        connection.execute(self.loads.update().where(self.loads.c.load_id == load).values(**seen))

    def complete_before(self, connection: Connection, age: timedelta) -> list[str]:
        """Ids of the loads that were complete so long ago."""
        import sqlalchemy as sa

        done = (self.loads.c.state == COMPLETE) & (self.loads.c.completed_at < now() - age)
        return [row.load_id for row in connection.execute(sa.select(self.loads.c.load_id).where(done)).fetchall()]

    def open_since(self, connection: Connection, age: timedelta, table: str) -> list[str]:
        """Ids of the loads into a table that were begun so long ago and are not complete."""
        import sqlalchemy as sa

        loads = self.loads.c
        old = (loads.state == OPEN) & (loads.begun_at < now() - age) & (loads.table_name == table)
        return [row.load_id for row in connection.execute(sa.select(loads.load_id).where(old)).fetchall()]


def _has_locking_reads(dialect: Any) -> bool:
    """Whether SQLAlchemy knows a SELECT ... FOR UPDATE there."""
    import sqlalchemy as sa

    read: Any = sa.select(sa.literal_column("1"))
    return str(read.with_for_update().compile(dialect=dialect)) != str(read.compile(dialect=dialect))


def _state_text(spec: LoadSpec) -> str | None:
    return None if spec.source_state is None else json.dumps(dict(spec.source_state))


def load_record(load: str, spec: LoadSpec, table: str, frozen: Mapping[str, Any]) -> dict[str, Any]:
    """A new load's row."""
    if len(table) > 255:
        raise SinkError(f"table name of {len(table)} characters: use one of at most 255")
    return {
        "load_id": load,
        "load_key": spec.load_key,
        "family": spec.family or spec.load_key,
        "generation": spec.generation,
        "table_name": table,
        "spec": json.dumps(frozen, sort_keys=True),
        "source_state": _state_text(spec),
        "labels": json.dumps(dict(spec.labels), sort_keys=True),
        "attempt": spec.attempt,
        "state": OPEN,
        "begun_at": now(),
        "completed_at": None,
    }


def _load(found: Any) -> LoadRecord:
    row = found._mapping  # public in spite of its name
    state = row["source_state"]
    return LoadRecord(
        load_id=row["load_id"],
        load_key=row["load_key"],
        generation=row["generation"] or "",
        state=row["state"],
        spec=json.loads(row["spec"]),
        source_state=None if state is None else json.loads(state),
    )


def _compare(was: Mapping[str, Any], now_is: Mapping[str, Any], load_key: str, table: str) -> None:
    changed = [name for name in now_is if was.get(name) != now_is[name]]
    if changed:
        listed = "; ".join(f"{name} was {was.get(name)!r} and is {now_is[name]!r}" for name in changed)
        raise LoadMismatch(
            f"load {load_key!r} into table {table!r} was begun differently: {listed}. Its committed chunks would not "
            "be the same chunks: put the first values back, use another load_key, or discard the load to start over"
        )
