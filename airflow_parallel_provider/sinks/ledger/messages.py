# SPDX-License-Identifier: Apache-2.0
"""The table of message ids of a queue that have committed, so that a message delivered again is skipped."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from airflow_parallel_provider.errors import SinkError
from airflow_parallel_provider.sinks.ledger.definitions import CHUNK_ID_LENGTH, defined_once, now
from airflow_parallel_provider.sinks.ledger.keys import probe_keys
from airflow_parallel_provider.sql.backends.types import exact_datetime
from airflow_parallel_provider.values.items import digest

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime

    from sqlalchemy.engine import Connection

RETENTION = timedelta(days=30)
"""How long ids are kept: longer than a broker delivers a message again."""
_LOCK = "lock"
"""In place of a message id (a digest of 32 characters): the row that chunks of a queue lock."""
_LOOKED_FOR = 500
"""Ids in one query; Oracle takes 1000."""


class MessageTable:
    """Statements on ``<ledger>__messages``. The caller begins and commits.

    Its primary key stops a second attempt that received the same messages while the first was still committing. Where
    the database does not enforce it, each chunk locks a row of the queue and looks, before it writes its messages.
    """

    def __init__(self, ledger: str, schema: str | None, options: Mapping[str, Any], queue: str) -> None:
        self._queue = digest(queue)
        self.table = _messages(f"{ledger}__messages", schema, options)
        self._keys_hold = True

    def prepare(
        self,
        connection: Connection,
        begin: Callable[[Connection], None],
        is_transient: Callable[[BaseException], bool],
    ) -> None:
        """Find out whether the key is enforced; if not, write the row that chunks lock. Not inside a transaction."""
        import sqlalchemy as sa

        probe = self._row(f"probe-{uuid4().hex[:26]}", "probe", "probe", now())
        self._keys_hold = probe_keys(connection, begin, [(self.table, probe)], is_transient)
        if self._keys_hold:
            return
        begin(connection)
        if not connection.execute(sa.select(sa.func.count()).where(self._is_lock)).scalar():
            # That of another attempt at the same moment does no harm.
            connection.execute(self.table.insert(), [self._row(_LOCK, _LOCK, _LOCK, now())])
        connection.commit()

    @property
    def _is_lock(self) -> Any:
        return (self.table.c.queue_id == self._queue) & (self.table.c.message_id == _LOCK)

    def _row(self, message_id: str, load: str, chunk_id: str, moment: datetime) -> dict[str, Any]:
        return {
            "queue_id": self._queue,
            "message_id": message_id,
            "load_id": load,
            "chunk_id": chunk_id,
            "committed_at": moment,
        }

    def seen_ids(self, connection: Connection) -> frozenset[str]:
        """Digests of all committed messages of the queue; deletes the old ones."""
        import sqlalchemy as sa

        columns = self.table.c
        mine = (columns.queue_id == self._queue) & (columns.message_id != _LOCK)
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
        if not self._keys_hold:
            self._lock_and_look(connection, chunk_id, message_ids)
        rows = [self._row(message_id, load, chunk_id, moment) for message_id in message_ids]
        try:
            connection.execute(self.table.insert(), rows)
        except sa.exc.IntegrityError:
            raise _committed_elsewhere(chunk_id) from None

    def _lock_and_look(self, connection: Connection, chunk_id: str, message_ids: Sequence[str]) -> None:
        import sqlalchemy as sa

        columns = self.table.c
        lock = self.table.update().where(self._is_lock).values(chunk_id=uuid4().hex)  # a new value: DuckDB compares
        if connection.execute(lock).rowcount == 0:
            raise SinkError(
                f"chunk {chunk_id}: the row of the queue in table {str(self.table.name)!r} is gone. Run the task again"
            )
        for start in range(0, len(message_ids), _LOOKED_FOR):
            ids = list(message_ids[start : start + _LOOKED_FOR])
            query = sa.select(columns.message_id).where((columns.queue_id == self._queue) & columns.message_id.in_(ids))
            if connection.execute(query.limit(1)).fetchone() is not None:
                raise _committed_elsewhere(chunk_id)


def _committed_elsewhere(chunk_id: str) -> SinkError:
    return SinkError(
        f"chunk {chunk_id}: another attempt, or another task that reads the same queue, has committed messages "
        "of it in the meantime. Nothing is lost or doubled: run the task again"
    )


@defined_once
def _messages() -> tuple[Any, ...]:
    import sqlalchemy as sa

    return (
        sa.Column("queue_id", sa.String(32), primary_key=True, nullable=False),
        sa.Column("message_id", sa.String(32), primary_key=True, nullable=False),
        sa.Column("load_id", sa.String(32), nullable=False),
        sa.Column("chunk_id", sa.String(CHUNK_ID_LENGTH), nullable=False),
        sa.Column("committed_at", exact_datetime(), nullable=False),
    )
