# SPDX-License-Identifier: Apache-2.0
"""What is written beside the part of a chunk: its dead letters and its rejected rows."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

from airflow_parallel_provider.foreign.text import clean
from airflow_parallel_provider.rows.reject import position_of
from airflow_parallel_provider.sinks.files.dead_letter_store import dead_letter_fields
from airflow_parallel_provider.values import typed_json

if TYPE_CHECKING:
    from airflow_parallel_provider.engine.interfaces.records import ChunkResult
    from airflow_parallel_provider.rows.reject import RejectedRow
    from airflow_parallel_provider.rows.rejection_limit import RejectionLimit
    from airflow_parallel_provider.sinks.files.store import FileStore

_ITEM_LENGTH = 32_000
"""Characters of the JSON of a failed item or a rejected row that are kept."""


def write_entries(
    store: FileStore, load: str, chunk: ChunkResult, rejected: Sequence[RejectedRow], old: Collection[str]
) -> None:
    """Write the dead letters and the rejected rows of a chunk; delete those of an earlier attempt at it.

    :param load: id of the load.
    :param old: names of the files that earlier attempts have left.
    """
    positions = _positions(chunk) if rejected else ()
    entries = {
        "dead_letters": [dead_letter_fields(each, _ITEM_LENGTH) for each in chunk.dead_letters],
        "rejected": [_rejected_fields(each, positions) for each in rejected],
    }
    for kind, lines in entries.items():
        name = f"_{kind}-{load}-{chunk.chunk_id}.jsonl"
        if lines:
            store.write(name, "".join(json.dumps(line) + "\n" for line in lines).encode())
        elif name in old:
            store.remove([name])


def report_rejected(limit: RejectionLimit, chunk: ChunkResult, rejected: Sequence[RejectedRow]) -> None:
    """Report the rejected rows of a chunk whose part is written."""
    if rejected:
        limit.record(rejected, _positions(chunk))


def _positions(chunk: ChunkResult) -> Sequence[int]:
    return () if chunk.positions is None else chunk.positions()


def _rejected_fields(row: RejectedRow, positions: Sequence[int]) -> dict[str, Any]:
    """A rejected row as plain JSON, with its values as typed JSON of limited length."""
    text, complete = typed_json.dumps(row.row, _ITEM_LENGTH)
    where = {"position": position_of(row, positions), "reason": clean(row.reason)}
    return {**where, "row": json.loads(text), "row_complete": complete}
