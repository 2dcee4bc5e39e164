# SPDX-License-Identifier: Apache-2.0
"""The table of dead letters: items that could not be processed, committed with the chunk they belong to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_parallel_provider.engine.interfaces.records import DeadLetter
from airflow_parallel_provider.sinks.ledger.definitions import CHUNK_ID_LENGTH, defined_once, long_binary, now
from airflow_parallel_provider.sinks.ledger.entry_table import (
    ChunkKey,
    EntryTable,
    chunk_columns,
    json_columns,
    storable,
)
from airflow_parallel_provider.sinks.ledger.item_pickle import dump_item, load_item
from airflow_parallel_provider.sql.backends.types import exact_datetime
from airflow_parallel_provider.values import typed_json

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from sqlalchemy.engine import Connection

STAGE_LENGTH = 200

CAUSE_LENGTH = 2_000

TRACEBACK_LENGTH = 12_000
"""Characters; a TEXT of MySQL holds 65 535 bytes, and a character takes up to four."""

DeadLetterKey = tuple[str, str, int]
"""``load_id``, ``chunk_id`` and ``number`` of a dead letter: its key in the table."""


@dataclass(frozen=True, slots=True)
class StoredDeadLetter:
    """A dead letter as the table has it."""

    key: DeadLetterKey
    load_key: str
    """Of the load the item came from, also if a replay has written the dead letter."""
    position: int
    """Position of the item in that load's source."""
    stage: str
    cause: str
    attempts: int
    traceback: str
    item_text: str
    """Typed JSON of the item, truncated if it was longer than ``dead_letter_length``."""
    item_complete: bool
    """Whether ``item_text`` gives back the same item."""
    item_pickle: bytes | None
    """Only if it does not, and ``dead_letter_pickle`` was on."""
    failed_at: datetime

    def replayable(self, *, allow_pickle: bool = False) -> bool:
        """Whether :meth:`item` gives back the same item."""
        return self.item_complete or (allow_pickle and self.item_pickle is not None)

    def item(self, *, allow_pickle: bool = False) -> Any:
        """The item; if it was not kept exactly, an :class:`~airflow_parallel_provider.values.typed_json.Opaque`.

        :param allow_pickle: unpickle it if that is the only way. This runs code from the table.
        """
        if allow_pickle and not self.item_complete and self.item_pickle is not None:
            return load_item(self.item_pickle)
        return typed_json.loads(self.item_text)


@dataclass(frozen=True, slots=True)
class FailedAgain(DeadLetter):
    """The dead letter of an item that failed again when it was replayed."""

    load_key: str
    """Of the load the item came from."""


class DeadLetterTable(EntryTable):
    """Statements on the table of dead letters. The caller begins and commits.

    :param item_length: characters of an item's JSON that are kept; a longer item is truncated and marked as incomplete.
    :param keeps_pickles: whether items whose JSON does not give back the same item are pickled as well.
    """

    def __init__(
        self,
        name: str,
        schema: str | None,
        options: Mapping[str, Any],
        item_length: int,
        *,
        keeps_pickles: bool = False,
    ) -> None:
        super().__init__(_dead_letters(name, schema, options), item_length)
        self._keeps_pickles = keeps_pickles

    def insert(self, connection: Connection, chunk: ChunkKey, dead_letters: Sequence[DeadLetter]) -> None:
        """Write the dead letters of a chunk."""
        moment = now()
        self.write(connection, chunk, (self._entry(dead_letter, chunk, moment) for dead_letter in dead_letters))

    def _entry(self, dead_letter: DeadLetter, chunk: ChunkKey, moment: datetime) -> dict[str, Any]:
        item = self.as_json("item", dead_letter.item)
        return {
            "load_key": getattr(dead_letter, "load_key", chunk.load_key),  # that of a replay stays with its first load
            "position": dead_letter.position,
            "stage": storable(dead_letter.stage)[:STAGE_LENGTH],
            "cause": storable(dead_letter.cause)[:CAUSE_LENGTH],
            "attempts": dead_letter.attempts,
            "traceback": storable(dead_letter.traceback)[-TRACEBACK_LENGTH:],  # the end shows the error
            **item,
            "item_pickle": None if item["item_complete"] or not self._keeps_pickles else dump_item(dead_letter.item),
            "failed_at": moment,
            "resolved_at": None,
            "resolved_by": None,
        }

    def waiting(self, connection: Connection, load_key: str | None) -> dict[str, tuple[int, int]]:
        """Unresolved dead letters by stage: how many, and how many of them can give back their item."""
        import sqlalchemy as sa

        columns = self.table.c
        replayable = sa.case((columns.item_complete | columns.item_pickle.is_not(None), 1), else_=0)
        query = sa.select(columns.stage, sa.func.count(), sa.func.sum(replayable)).where(self._unresolved(load_key))
        found = connection.execute(query.group_by(columns.stage)).fetchall()
        return {stage: (int(count), int(whole)) for stage, count, whole in found}

    def page(
        self, connection: Connection, load_key: str | None, stage: str | None, after: DeadLetterKey | None, size: int
    ) -> list[StoredDeadLetter]:
        """The next unresolved dead letters, by load, chunk and number."""
        columns = self.table.c
        condition = self._unresolved(load_key)
        if stage is not None:
            condition &= columns.stage == stage
        if after is not None:
            load, chunk, number = after
            later = (columns.chunk_id > chunk) | ((columns.chunk_id == chunk) & (columns.number > number))
            condition &= (columns.load_id > load) | ((columns.load_id == load) & later)
        query = self.table.select().where(condition)
        query = query.order_by(columns.load_id, columns.chunk_id, columns.number).limit(size)
        return [_stored(row) for row in connection.execute(query).fetchall()]

    def _unresolved(self, load_key: str | None) -> Any:
        condition = self.table.c.resolved_at.is_(None)
        return condition if load_key is None else condition & (self.table.c.load_key == load_key)

    def resolve(self, connection: Connection, keys: Sequence[DeadLetterKey], by: str) -> int:
        """Mark dead letters as resolved, unless they are; return how many this call has marked.

        :param by: unique among all that ever mark dead letters of this table.
        """
        import sqlalchemy as sa

        if not keys:
            return 0
        columns = self.table.c
        this_one = (
            (columns.load_id == sa.bindparam("of_load"))
            & (columns.chunk_id == sa.bindparam("of_chunk"))
            & (columns.number == sa.bindparam("of_number"))
        )
        update = self.table.update().where(this_one & columns.resolved_at.is_(None))
        update = update.values(resolved_at=now(), resolved_by=by)
        connection.execute(update, [{"of_load": load, "of_chunk": chunk, "of_number": n} for load, chunk, n in keys])
        # Counted like this because drivers disagree on the row count of several updates.
        counted = connection.execute(sa.select(sa.func.count()).where(columns.resolved_by == by))
        return int(counted.scalar() or 0)


@defined_once
def _dead_letters() -> tuple[Any, ...]:
    import sqlalchemy as sa

    return (
        *chunk_columns(),
        sa.Column("position", sa.BigInteger, nullable=False),
        sa.Column("stage", sa.String(STAGE_LENGTH), nullable=False),
        sa.Column("cause", sa.Text, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("traceback", sa.Text, nullable=False),
        *json_columns("item", sa.Text),
        sa.Column("item_pickle", long_binary(), nullable=True),
        sa.Column("failed_at", exact_datetime(), nullable=False),
        sa.Column("resolved_at", exact_datetime(), nullable=True),
        # Load and chunk of the replay that has resolved it.
        sa.Column("resolved_by", sa.String(32 + 1 + CHUNK_ID_LENGTH), nullable=True),
    )


def _stored(found: Any) -> StoredDeadLetter:
    row = found._mapping  # public in spite of its name; attributes would hit the methods of a tuple
    return StoredDeadLetter(
        key=(row["load_id"], row["chunk_id"], int(row["number"])),
        load_key=row["load_key"],
        position=int(row["position"]),
        stage=row["stage"],
        cause=row["cause"],
        attempts=int(row["attempts"]),
        traceback=row["traceback"],
        item_text=row["item"],
        item_complete=bool(row["item_complete"]),
        item_pickle=None if row["item_pickle"] is None else bytes(row["item_pickle"]),
        failed_at=row["failed_at"],
    )
