"""The table of dead letters: items that could not be processed, committed with the chunk they belong to."""

from __future__ import annotations

import pickle
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
from airflow_parallel_provider.values.typed_json import loads

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from sqlalchemy.engine import Connection

STAGE_LENGTH = 200

CAUSE_LENGTH = 2_000

TRACEBACK_LENGTH = 12_000
"""Characters; a TEXT of MySQL holds 65 535 bytes, and a character takes up to four."""

PICKLE_LENGTH = 1_000_000
"""Bytes."""

DeadLetterKey = tuple[str, str, int]
"""``load_id``, ``chunk_id`` and ``number`` of a letter: its place in the table."""


@dataclass(frozen=True, slots=True)
class StoredDeadLetter:
    """A dead letter as the table has it."""

    key: DeadLetterKey
    load_key: str
    """Of the load the item came from, also where a replay has written the letter."""
    position: int
    """Position of the item in that load's source."""
    stage: str
    cause: str
    attempts: int
    traceback: str
    item_text: str
    """Typed JSON of the item, cut where it was longer than ``dead_letter_length``."""
    item_complete: bool
    """Whether ``item_text`` gives the same item back."""
    item_pickle: bytes | None
    """Only where it does not, and ``dead_letter_pickle`` was on."""
    failed_at: datetime

    def replayable(self, *, allow_pickle: bool = False) -> bool:
        """Whether :meth:`item` gives the item as it was."""
        return self.item_complete or (allow_pickle and self.item_pickle is not None)

    def item(self, *, allow_pickle: bool = False) -> Any:
        """The item; of one that was not kept exactly an :class:`~airflow_parallel_provider.values.typed_json.Opaque`.

        :param allow_pickle: unpickle it where that is the only way. Runs code of whoever wrote the table.
        """
        if allow_pickle and not self.item_complete and self.item_pickle is not None:
            return pickle.loads(self.item_pickle)  # noqa: S301  # asked for, in so many words
        return loads(self.item_text)


@dataclass(frozen=True, slots=True)
class FailedAgain(DeadLetter):
    """An item that failed again when it was replayed."""

    load_key: str
    """Of the load it came from."""


class DeadLetterTable(EntryTable):
    """Statements on the table of dead letters. The caller begins and commits.

    :param item_length: characters of an item's JSON that are kept; a longer item is cut and marked as incomplete.
    """

    def __init__(self, name: str, schema: str | None, options: Mapping[str, Any], item_length: int) -> None:
        super().__init__(_dead_letters(name, schema, options), item_length)
        self.keeps_pickles = False
        """Whether items whose JSON does not give them back are pickled as well."""

    def insert(self, connection: Connection, chunk: ChunkKey, dead_letters: Sequence[DeadLetter]) -> None:
        """Write a chunk's dead letters."""
        moment = now()
        self.write(connection, chunk, (self._entry(dead_letter, chunk, moment) for dead_letter in dead_letters))

    def _entry(self, dead_letter: DeadLetter, chunk: ChunkKey, moment: datetime) -> dict[str, Any]:
        item = self.as_json("item", dead_letter.item)
        return {
            "load_key": getattr(dead_letter, "load_key", chunk.load_key),  # a replay's letter stays with its first load
            "position": dead_letter.position,
            "stage": storable(dead_letter.stage)[:STAGE_LENGTH],
            "cause": storable(dead_letter.cause)[:CAUSE_LENGTH],
            "attempts": dead_letter.attempts,
            "traceback": storable(dead_letter.traceback)[-TRACEBACK_LENGTH:],  # the end says what happened
            **item,
            "item_pickle": None if item["item_complete"] or not self.keeps_pickles else _pickle(dead_letter.item),
            "failed_at": moment,
            "resolved_at": None,
            "resolved_by": None,
        }

    def waiting(self, connection: Connection, load_key: str | None) -> dict[str, tuple[int, int]]:
        """Unresolved letters by stage: how many, and how many of them kept their item so that it can be had again."""
        import sqlalchemy as sa

        columns = self.table.c
        whole = sa.case((columns.item_complete | columns.item_pickle.is_not(None), 1), else_=0)
        query = sa.select(columns.stage, sa.func.count(), sa.func.sum(whole)).where(self._unresolved(load_key))
        found = connection.execute(query.group_by(columns.stage)).fetchall()
        return {stage: (int(count), int(replayable)) for stage, count, replayable in found}

    def page(
        self, connection: Connection, load_key: str | None, stage: str | None, after: DeadLetterKey | None, size: int
    ) -> list[StoredDeadLetter]:
        """The next unresolved letters, by load, chunk and number."""
        columns = self.table.c
        wanted = self._unresolved(load_key)
        if stage is not None:
            wanted &= columns.stage == stage
        if after is not None:
            load, chunk, number = after
            later = (columns.chunk_id > chunk) | ((columns.chunk_id == chunk) & (columns.number > number))
            wanted &= (columns.load_id > load) | ((columns.load_id == load) & later)
        query = self.table.select().where(wanted)
        query = query.order_by(columns.load_id, columns.chunk_id, columns.number).limit(size)
        return [_stored(row) for row in connection.execute(query).fetchall()]

    def _unresolved(self, load_key: str | None) -> Any:
        wanted = self.table.c.resolved_at.is_(None)
        return wanted if load_key is None else wanted & (self.table.c.load_key == load_key)

    def resolve(self, connection: Connection, keys: Sequence[DeadLetterKey], by: str) -> int:
        """Mark letters as resolved, unless they are; return how many this call has marked.

        :param by: unique among all that ever mark letters of this table.
        """
        import sqlalchemy as sa

        columns = self.table.c
        mine = (
            (columns.load_id == sa.bindparam("of_load"))
            & (columns.chunk_id == sa.bindparam("of_chunk"))
            & (columns.number == sa.bindparam("of_number"))
        )
        update = self.table.update().where(mine & columns.resolved_at.is_(None))
        update = update.values(resolved_at=now(), resolved_by=by)
        connection.execute(update, [{"of_load": load, "of_chunk": chunk, "of_number": n} for load, chunk, n in keys])
        # Counted like this because drivers do not agree on what a row count of many updates is.
        counted = connection.execute(sa.select(sa.func.count()).where(columns.resolved_by == by))
        return int(counted.scalar() or 0)


def _pickle(item: Any) -> bytes | None:
    import cloudpickle

    try:
        pickled: bytes = cloudpickle.dumps(item)
    except Exception:  # noqa: BLE001  # whatever the item's own methods raise; the letter is kept without
        return None
    return pickled if len(pickled) <= PICKLE_LENGTH else None


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
        sa.Column("failed_at", sa.DateTime, nullable=False),
        sa.Column("resolved_at", sa.DateTime, nullable=True),
        # Load and chunk of the replay whose transaction has resolved it.
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
