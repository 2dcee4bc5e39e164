"""The table of dead letters: items that could not be processed, committed with the chunk they belong to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_parallel_provider.sinks.ledger import CHUNK_ID_LENGTH, LOAD_KEY_LENGTH, now
from airflow_parallel_provider.sinks.typed_json import dumps

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sqlalchemy.engine import Connection

    from airflow_parallel_provider.engine.sink import DeadLetter

STAGE_LENGTH = 200
CAUSE_LENGTH = 2_000
TRACEBACK_LENGTH = 12_000
"""Characters; a TEXT of MySQL holds 65 535 bytes, and a character takes up to four."""


class DeadLetterTable:
    """Statements on the table of dead letters. The caller begins and commits.

    :param item_length: characters of an item's JSON that are kept; a longer item is cut and marked as incomplete.
    """

    def __init__(self, name: str, schema: str | None, options: Mapping[str, Any], item_length: int) -> None:
        import sqlalchemy as sa

        self.item_length = item_length
        quoted = sa.sql.quoted_name(name, quote=True)
        self.table = sa.Table(
            quoted,
            sa.MetaData(),
            sa.Column("load_id", sa.String(32), primary_key=True, nullable=False),
            sa.Column("chunk_id", sa.String(CHUNK_ID_LENGTH), primary_key=True, nullable=False),
            # One item may fail more than once: a stage that yields several results of it hands on several.
            sa.Column("number", sa.Integer, primary_key=True, nullable=False, autoincrement=False),
            sa.Column("load_key", sa.String(LOAD_KEY_LENGTH), nullable=False),
            sa.Column("position", sa.BigInteger, nullable=False),
            sa.Column("stage", sa.String(STAGE_LENGTH), nullable=False),
            sa.Column("cause", sa.Text, nullable=False),
            sa.Column("attempts", sa.Integer, nullable=False),
            sa.Column("traceback", sa.Text, nullable=False),
            sa.Column("item", sa.Text, nullable=False),
            sa.Column("item_complete", sa.Boolean(create_constraint=False), nullable=False),
            sa.Column("failed_at", sa.DateTime, nullable=False),
            sa.Column("resolved_at", sa.DateTime, nullable=True),
            schema=None if schema is None else sa.sql.quoted_name(schema, quote=True),
            **options,
        )

    def insert(
        self, connection: Connection, load: str, load_key: str, chunk_id: str, letters: Sequence[DeadLetter]
    ) -> None:
        """Write a chunk's dead letters."""
        moment = now()
        rows = []
        for number, letter in enumerate(letters):
            item, complete = dumps(letter.item, self.item_length)
            rows.append(
                {
                    "load_id": load,
                    "chunk_id": chunk_id,
                    "number": number,
                    "load_key": load_key,
                    "position": letter.position,
                    "stage": storable(letter.stage)[:STAGE_LENGTH],
                    "cause": storable(letter.cause)[:CAUSE_LENGTH],
                    "attempts": letter.attempts,
                    "traceback": storable(letter.traceback)[-TRACEBACK_LENGTH:],  # the end says what happened
                    "item": item,
                    "item_complete": complete,
                    "failed_at": moment,
                    "resolved_at": None,
                }
            )
        if rows:
            connection.execute(self.table.insert(), rows)

    def forget(self, connection: Connection, load: str) -> int:
        """Remove the dead letters of a load; return how many there were."""
        return int(connection.execute(self.table.delete().where(self.table.c.load_id == load)).rowcount)


def storable(text: str) -> str:
    """A text every database takes: PostgreSQL refuses NUL, all of them refuse half a surrogate pair."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8").replace("\x00", "\\x00")
