# SPDX-License-Identifier: Apache-2.0
"""The order of a merge across attempts: a chunk that was left out is committed before those that come after it.

A run commits the chunks of a merge in source order, so that the later of two rows with one key stays. An earlier
attempt may have had another order: its author has said ``ordered=False``, or an old version has begun the load. Then
chunks behind one that failed are in already. They are merged again, after it.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_parallel_provider.sinks.ledger.chunks import ChunkReceipt
    from airflow_parallel_provider.sinks.ledger.control_tables import ControlTables
    from airflow_parallel_provider.sql.database import Database

log = logging.getLogger(__name__)


def forget_chunks_after_gap(
    database: Database, control_tables: ControlTables, load: str, committed: Mapping[str, ChunkReceipt]
) -> None:
    """Delete from the control tables those chunks that have committed before one that has not.

    Their rows stay: the chunks are merged again, and then have the last word.
    """
    late = _after_gap(committed)
    if not late:
        return
    with database.transaction() as connection:
        control_tables.delete_chunks(connection, load, late)
        control_tables.ledger.count(connection, load, -len(late))
    log.warning(
        "%d chunks of the load had committed before an earlier one (the first is %s). They are merged again, so that "
        "the later of two rows with one key stays",
        len(late),
        late[0],
    )


def _after_gap(committed: Mapping[str, ChunkReceipt]) -> list[str]:
    """Ids of the chunks that are not part of an unbroken run from the first item on, in source order."""
    position = 0
    receipts = sorted(committed.values(), key=lambda receipt: receipt.first_position)
    for at, receipt in enumerate(receipts):
        if receipt.first_position != position:
            return [late.chunk_id for late in receipts[at:]]
        position += receipt.items
    return []
