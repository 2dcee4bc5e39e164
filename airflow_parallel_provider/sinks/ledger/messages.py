"""The table of message ids of a queue that have committed, so that a message delivered again is skipped."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow_parallel_provider.errors import SinkError
from airflow_parallel_provider.sinks.ledger.definitions import CHUNK_ID_LENGTH, defined_once, now
from airflow_parallel_provider.values.items import digest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sqlalchemy.engine import Connection

RETENTION = timedelta(days=30)
"""How long ids are kept: longer than a broker delivers a message again."""


class MessageTable:
    """Statements on ``<ledger>__messages``. The caller begins and commits.

    Its primary key stops a second attempt that received the same messages while the first was still committing.
    """

    def __init__(self, ledger: str, schema: str | None, options: Mapping[str, Any], queue: str) -> None:
        self._queue = digest(queue)
        self.table = _messages(f"{ledger}__messages", schema, options)

    def seen_ids(self, connection: Connection) -> frozenset[str]:
        """Digests of all committed messages of the queue; deletes the old ones."""
        import sqlalchemy as sa

        columns = self.table.c
        mine = columns.queue_id == self._queue
        connection.execute(self.table.delete().where(mine & (columns.committed_at < now() - RETENTION)))
        return frozenset(row[0] for row in connection.execute(sa.select(columns.message_id).where(mine)).fetchall())

    def delete(self, connection: Connection, load: str) -> None:
        """Delete the messages of a load: they may be delivered again."""
        connection.execute(self.table.delete().where(self.table.c.load_id == load))

    def record(self, connection: Connection, load: str, chunk_id: str, message_ids: Sequence[str]) -> None:
        """Write the messages of a chunk.

        :param message_ids: their digests.
        :raises SinkError: if another attempt has committed one of them meanwhile.
        """
        import sqlalchemy as sa

        moment = now()
        rows = [
            {
                "queue_id": self._queue,
                "message_id": message_id,
                "load_id": load,
                "chunk_id": chunk_id,
                "committed_at": moment,
            }
            for message_id in message_ids
        ]
        try:
            connection.execute(self.table.insert(), rows)
        except sa.exc.IntegrityError:
            raise SinkError(
                f"chunk {chunk_id}: another attempt, or another task that reads the same queue, has committed messages "
                "of it in the meantime. Nothing is lost or doubled: run the task again"
            ) from None


@defined_once
def _messages() -> tuple[Any, ...]:
    import sqlalchemy as sa

    return (
        sa.Column("queue_id", sa.String(32), primary_key=True, nullable=False),
        sa.Column("message_id", sa.String(32), primary_key=True, nullable=False),
        sa.Column("load_id", sa.String(32), nullable=False),
        sa.Column("chunk_id", sa.String(CHUNK_ID_LENGTH), nullable=False),
        sa.Column("committed_at", sa.DateTime, nullable=False),
    )
