# SPDX-License-Identifier: Apache-2.0
"""The files of dead letters, in the folder that :class:`DeadLetterFiles` names."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow_parallel_provider.foreign.text import clean
from airflow_parallel_provider.sinks.ledger.definitions import now
from airflow_parallel_provider.values import typed_json

if TYPE_CHECKING:
    from airflow_parallel_provider.engine.interfaces.records import DeadLetter
    from airflow_parallel_provider.sinks.files.store import FileStore
    from airflow_parallel_provider.sinks.ledger.entry_table import ChunkKey


class DeadLetterFileStore:
    """Does for a folder what ``DeadLetterTable`` does for a table.

    :param item_length: characters of an item's JSON that are kept.
    """

    def __init__(self, store: FileStore, item_length: int) -> None:
        self._store = store
        self._item_length = item_length
        self._names: set[str] | None = None
        """Names of the files in the folder; None: not listed yet."""

    def insert(self, _: object, chunk: ChunkKey, dead_letters: Sequence[DeadLetter]) -> None:
        """Write the file of a chunk, or delete what an earlier attempt at the chunk has left."""
        name = f"dead_letters-{chunk.load_id}-{chunk.chunk_id}.jsonl"
        if self._names is None:
            self._store.make_folder()
            self._names = self._store.names()
        if dead_letters:
            key = {"load_key": chunk.load_key, "chunk_id": chunk.chunk_id}
            failed_at = {"failed_at": now().isoformat(timespec="milliseconds") + "Z"}
            fields = (dead_letter_fields(dead_letter, self._item_length) for dead_letter in dead_letters)
            lines = (json.dumps({**key, **each, **failed_at}) + "\n" for each in fields)
            self._store.write(name, "".join(lines).encode())
            self._names.add(name)
        elif name in self._names:
            self._store.remove([name])
            self._names.discard(name)

    def delete(self, _: object, load: str) -> int:
        """Delete the files of a load; return how many there were."""
        names = sorted(name for name in self._store.names() if name.startswith(f"dead_letters-{load}-"))
        self._store.remove(names)
        self._names = None
        return len(names)


def dead_letter_fields(dead_letter: DeadLetter, item_length: int) -> dict[str, Any]:
    """A dead letter as plain JSON, with its item as typed JSON of limited length."""
    item, complete = typed_json.dumps(dead_letter.item, item_length)
    texts = {name: clean(getattr(dead_letter, name)) for name in ("stage", "cause", "traceback")}
    fields = {"position": dead_letter.position, **texts, "attempts": dead_letter.attempts}
    return {**fields, "item": json.loads(item), "item_complete": complete}
