# SPDX-License-Identifier: Apache-2.0
"""The table of rejected rows: each commits with the chunk it belongs to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_parallel_provider.rows.reject import RejectedRow, position_of
from airflow_parallel_provider.sinks.ledger.definitions import defined_once, long_text, now
from airflow_parallel_provider.sinks.ledger.entry_table import (
    ChunkKey,
    EntryTable,
    chunk_columns,
    json_columns,
    storable,
)
from airflow_parallel_provider.sql.backends.types import exact_datetime

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sqlalchemy.engine import Connection


REASON_LENGTH = 4_000


class RejectedTable(EntryTable):
    """Statements on the table of rejected rows. The caller begins and commits.

    :param row_length: characters of a row's JSON that are kept; a longer one is truncated and marked as incomplete.
    """

    def __init__(self, name: str, schema: str | None, options: Mapping[str, Any], row_length: int) -> None:
        super().__init__(_rejected(name, schema, options), row_length)

    def insert(
        self, connection: Connection, chunk: ChunkKey, rejects: Sequence[RejectedRow], positions: Sequence[int]
    ) -> None:
        """Write the rejected rows of a chunk."""
        moment = now()
        entries = (
            {
                "position": position_of(reject, positions),
                "refused_by": reject.rejected_by,
                "reason": storable(reject.reason)[:REASON_LENGTH],
                **self.as_json("raw", reject.row),
                "rejected_at": moment,
            }
            for reject in rejects
        )
        self.write(connection, chunk, entries)


@defined_once
def _rejected() -> tuple[Any, ...]:
    import sqlalchemy as sa

    return (
        *chunk_columns(),
        sa.Column("position", sa.BigInteger, nullable=True),
        sa.Column("refused_by", sa.String(16), nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        *json_columns("raw", long_text()),
        sa.Column("rejected_at", exact_datetime(), nullable=False),
    )
