# SPDX-License-Identifier: Apache-2.0
"""The ledger: which chunks of which load have committed, kept in the sink's own database.

Two tables. ``<ledger>__loads`` has a row per load with the spec its chunks depend on; ``<ledger>`` has a row per chunk,
written in the same transaction as the chunk's rows. Its primary key is what makes a second attempt at a chunk fail;
where the database does not enforce it, see :mod:`~airflow_parallel_provider.sinks.ledger.keys`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from airflow_parallel_provider.engine.interfaces.records import CommittedChunk, LoadSpec
from airflow_parallel_provider.errors import UnsafeTable
from airflow_parallel_provider.sinks.ledger.definitions import (
    CHUNK_ID_LENGTH,
    LOAD_KEY_LENGTH,
    defined_once,
    key_column,
    long_text,
    now,
)
from airflow_parallel_provider.sinks.ledger.keys import probe_keys
from airflow_parallel_provider.sinks.ledger.loads import load_row
from airflow_parallel_provider.sql.backends.types import exact_datetime

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from sqlalchemy.engine import Connection


@dataclass(frozen=True, slots=True)
class ChunkReceipt(CommittedChunk):
    """What the ledger has about a committed chunk."""

    items_filtered: int = 0
    first_position: int = 0
    attempt: int = 1
    """Which attempt at the load has committed it."""
    committed_at: datetime | None = None
    """UTC, by the clock of the process that has committed it."""
    labels: Mapping[str, str] = field(default_factory=dict)
    already_committed: bool = False
    """Whether it had committed before the call that returned this; not stored."""


@dataclass(frozen=True, slots=True)
class LoadSummary:
    """What the ledger has about a whole load."""

    load_key: str
    chunks: int
    items: int
    items_filtered: int
    rows: int
    dead_letters: int
    rows_rejected: int = 0

    @classmethod
    def of(cls, load_key: str, chunks: Collection[ChunkReceipt]) -> LoadSummary:
        """The sums over all chunks."""
        parts = ("items", "items_filtered", "rows", "dead_letters", "rows_rejected")
        return cls(load_key, len(chunks), *(sum(getattr(chunk, part) for chunk in chunks) for part in parts))


class ChunkLedger:
    """Statements on the two ledger tables. The caller begins and commits; a failed insert of a load rolls back.

    :param options: of the database, for the tables.
    """

    def __init__(self, name: str, schema: str | None, options: Mapping[str, Any]) -> None:
        self.name, self.schema = name, schema
        self.chunks = _chunks(name, schema, options)
        self.loads = _loads(loads_name(name), schema, options)

    def prove_transactional(
        self,
        connection: Connection,
        begin: Callable[[Connection], None],
        is_transient: Callable[[BaseException], bool],
    ) -> bool:
        """Check that a rollback rolls back; return whether the keys of both tables are enforced.

        See :func:`~airflow_parallel_provider.sinks.ledger.keys.probe_keys`.
        """
        probe = f"probe-{uuid4().hex[:26]}"
        load = load_row(probe, LoadSpec("probe", 0, ""), "", {})
        chunk = _chunk_row(probe, ChunkReceipt("probe", 0, 0, 0, committed_at=now()), None)
        return probe_keys(connection, begin, [(self.loads, load), (self.chunks, chunk)], is_transient)

    def committed(self, connection: Connection, load: str) -> dict[str, ChunkReceipt]:
        """All committed chunks of a load."""
        found = connection.execute(self.chunks.select().where(self.chunks.c.load_id == load))
        receipts: dict[str, ChunkReceipt] = {}
        for receipt in sorted((_receipt(row) for row in found.fetchall()), key=lambda receipt: receipt.chunk_id):
            if receipts.setdefault(receipt.chunk_id, receipt) is not receipt:
                raise UnsafeTable(
                    f"ledger table {self.name!r} has chunk {receipt.chunk_id} of a load twice, so its rows may be in "
                    "the table twice: the ledger's key was not enforced when they were written. Remove the rows of "
                    "one of them with its ledger row, or discard the load with its rows, and run the task again"
                )
        return receipts

    def find(self, connection: Connection, load: str, chunk_id: str) -> ChunkReceipt | None:
        """One chunk; None if it has not committed."""
        where = (self.chunks.c.load_id == load) & (self.chunks.c.chunk_id == chunk_id)
        row = connection.execute(self.chunks.select().where(where)).fetchone()
        return None if row is None else _receipt(row)

    def claim(
        self,
        connection: Connection,
        load: str,
        receipt: ChunkReceipt,
        aggregates: str | None = None,
        execute: Callable[[Connection, Any, dict[str, Any]], object] | None = None,
    ) -> None:
        """Insert a chunk's row, as the first statement of its transaction.

        Waits for another claim on the chunk, and fails if that one commits.

        :param execute: runs an INSERT with a row, if it is combined with something else.
        """
        row = _chunk_row(load, receipt, aggregates)
        if execute is None:
            connection.execute(self.chunks.insert(), [row])
        else:
            execute(connection, self.chunks.insert(), row)

    def count(self, connection: Connection, load: str, chunks: int) -> None:
        """Let the row of a load count chunks that commit with this transaction; a negative number, if they are removed.

        So ledger rows that were deleted by hand are missed.
        """
        connection.execute(_counting(self.loads), {"of_load": load, "more": chunks})

    def counted(self, connection: Connection, load: str) -> int:
        """How many chunks of a load have committed, whatever the ledger has of them now."""
        import sqlalchemy as sa

        loads = self.loads.c
        found = connection.execute(sa.select(loads.chunks_committed).where(loads.load_id == load))
        return min((int(row.chunks_committed or 0) for row in found.fetchall()), default=0)

    def update(self, connection: Connection, load: str, receipt: ChunkReceipt, aggregates: str | None) -> None:
        """Correct a claim in its own transaction, when it is known which rows the database accepts."""
        mine = (self.chunks.c.load_id == load) & (self.chunks.c.chunk_id == receipt.chunk_id)
        values = {
            "rows_committed": receipt.rows,
            "rows_rejected": receipt.rows_rejected,
            "aggregates": aggregates,
        }
        connection.execute(self.chunks.update().where(mine).values(**values))

    def aggregate_states(self, connection: Connection, load: str) -> list[str]:
        """The aggregate states of the chunks of a load, as text."""
        import sqlalchemy as sa

        having = (self.chunks.c.load_id == load) & self.chunks.c.aggregates.is_not(None)
        return [row.aggregates for row in connection.execute(sa.select(self.chunks.c.aggregates).where(having))]

    def delete(self, connection: Connection, load: str) -> int:
        """Delete a load and its chunks; return how many chunks there were.

        The load first: this waits for a chunk of it that is being committed now, and no other chunk can follow.
        """
        connection.execute(self.loads.delete().where(self.loads.c.load_id == load))
        return int(connection.execute(self.chunks.delete().where(self.chunks.c.load_id == load)).rowcount)


@lru_cache(maxsize=32)
def _counting(loads: Any) -> Any:
    """The UPDATE that counts chunks; made once for each table, because that takes longer than to send it."""
    import sqlalchemy as sa

    counted = loads.c.chunks_committed + sa.bindparam("more", type_=sa.BigInteger)
    return loads.update().where(loads.c.load_id == sa.bindparam("of_load")).values(chunks_committed=counted)


def _chunk_row(load: str, receipt: ChunkReceipt, aggregates: str | None) -> dict[str, Any]:
    return {
        "load_id": load,
        "chunk_id": receipt.chunk_id,
        "first_position": receipt.first_position,
        "items": receipt.items,
        "items_filtered": receipt.items_filtered,
        "rows_committed": receipt.rows,
        "rows_rejected": receipt.rows_rejected,
        "dead_letters": receipt.dead_letters,
        "failed_items": receipt.failed_items,
        "attempt": receipt.attempt,
        "labels": json.dumps(dict(receipt.labels), sort_keys=True),
        "aggregates": aggregates,
        "committed_at": receipt.committed_at,
    }


@defined_once
def _chunks() -> tuple[Any, ...]:
    import sqlalchemy as sa

    return (
        key_column("load_id", 32),
        key_column("chunk_id", CHUNK_ID_LENGTH),
        sa.Column("first_position", sa.BigInteger, nullable=False),
        sa.Column("items", sa.BigInteger, nullable=False),
        sa.Column("items_filtered", sa.BigInteger, nullable=False),
        sa.Column("rows_committed", sa.BigInteger, nullable=False),
        sa.Column("rows_rejected", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("dead_letters", sa.BigInteger, nullable=False),
        sa.Column("failed_items", sa.Float(53), nullable=True),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("labels", sa.Text, nullable=False),
        sa.Column("aggregates", long_text(), nullable=True),
        sa.Column("committed_at", exact_datetime(), nullable=False),
    )


@defined_once
def _loads() -> tuple[Any, ...]:
    import sqlalchemy as sa

    return (
        key_column("load_id", 32),
        sa.Column("load_key", sa.String(LOAD_KEY_LENGTH), nullable=False),
        sa.Column("family", sa.String(LOAD_KEY_LENGTH), nullable=True),
        sa.Column("generation", sa.String(LOAD_KEY_LENGTH), nullable=True),
        sa.Column("table_name", sa.String(255), nullable=False),
        sa.Column("spec", sa.Text, nullable=False),
        sa.Column("source_state", long_text(), nullable=True),
        sa.Column("labels", sa.Text, nullable=False),
        sa.Column("attempt", sa.Integer, nullable=False),
        # None: an earlier version has begun the load.
        sa.Column("chunks_committed", sa.BigInteger, nullable=True),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("begun_at", exact_datetime(), nullable=False),
        sa.Column("completed_at", exact_datetime(), nullable=True),
        sa.Column("source_chunks", sa.BigInteger, nullable=True),
        # The run that has begun the load and coordinates its shards; empty: it has told them to stop.
        sa.Column("coordinator", sa.String(32), nullable=True),
        # JSON: ids of chunks that a shard has taken over from another one and that are not in yet.
        sa.Column("taken_over", long_text(), nullable=True),
    )


def loads_name(ledger: str) -> str:
    """Name of the table of loads that goes with a ledger table."""
    return f"{ledger}__loads"


def _receipt(found: Any) -> ChunkReceipt:
    row = found._mapping  # public in spite of its name; attributes would hit the methods of a tuple
    return ChunkReceipt(
        chunk_id=row["chunk_id"],
        items=int(row["items"]),
        rows=int(row["rows_committed"]),
        dead_letters=int(row["dead_letters"]),
        rows_rejected=int(row["rows_rejected"]),
        failed_items=None if row["failed_items"] is None else float(row["failed_items"]),
        items_filtered=int(row["items_filtered"]),
        first_position=int(row["first_position"]),
        attempt=int(row["attempt"]),
        committed_at=row["committed_at"],
        labels=json.loads(row["labels"]),
    )
