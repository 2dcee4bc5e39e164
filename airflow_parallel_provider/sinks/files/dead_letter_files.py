"""``DeadLetterFiles``: dead letters as JSON lines in a folder, instead of a table."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from airflow_parallel_provider.checks import check_text
from airflow_parallel_provider.errors import SinkError

if TYPE_CHECKING:
    from airflow_parallel_provider.engine.interfaces.records import DeadLetter
    from airflow_parallel_provider.sinks.files.store import FileStore
    from airflow_parallel_provider.sinks.ledger.entry_table import ChunkKey


@dataclass
class DeadLetterFiles:
    """A folder for the dead letters of a ``SinkTable``: one file of JSON lines for each chunk that has some.

    ::

        SinkTable("orders", conn_id="warehouse", dead_letters=DeadLetterFiles("s3://aws@lake/dead/orders"))

    A file is named after its load and chunk and appears as a whole, just before the chunk commits; a later try of the
    chunk writes the same file again, or deletes it when nothing has failed this time. So each letter is there once.

    What it does not do: commit together with the rows. After a kill the file of a chunk may be there that has not
    committed; the retry settles it. ``ReplayDeadLettersOperator`` needs a table.

    :param path: folder, on any storage of ``ObjectStoragePath``; made when it is not there.
    :param conn_id: Airflow connection of the storage; it may also stand in the path.
    :raises PlanError: for an argument that cannot be right.
    """

    path: str
    conn_id: str | None = None
    _store: FileStore | None = field(default=None, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Check."""
        self.path = str(self.path)
        check_text("DeadLetterFiles.path", self.path)
        check_text("DeadLetterFiles.conn_id", self.conn_id, optional=True)

    def __hash__(self) -> int:
        """As a part of a sink."""
        return hash((self.path, self.conn_id))

    def prepare(self) -> None:
        """Open the storage. Main thread only: it may ask Airflow for the connection.

        :raises PlanError: when there is no such connection or storage.
        """
        from airflow_parallel_provider.sinks.files.store import FileStore

        if self._store is None:
            self._store = FileStore.of(self.path, self.conn_id)

    def opened(self, item_length: int) -> DeadLetterFileStore:
        """The files, for the sink's thread."""
        if self._store is None:
            raise SinkError("DeadLetterFiles is not open: call prepare() first, or let SinkTableHook do it")
        return DeadLetterFileStore(self._store, item_length)

    def __getstate__(self) -> dict[str, Any]:
        """What travels: the declaration only."""
        return {**self.__dict__, "_store": None}


class DeadLetterFileStore:
    """Does for a folder what ``DeadLetterTable`` does for a table."""

    def __init__(self, store: FileStore, item_length: int) -> None:
        self._store = store
        self._item_length = item_length
        self._there: set[str] | None = None

    def insert(self, _: object, chunk: ChunkKey, dead_letters: Sequence[DeadLetter]) -> None:
        """Write a chunk's file, or delete what an earlier try of the chunk has left."""
        name = f"dead_letters-{chunk.load_id}-{chunk.chunk_id}.jsonl"
        if self._there is None:
            self._store.make_folder()
            self._there = self._store.names()
        if dead_letters:
            known = {"load_key": chunk.load_key, "chunk_id": chunk.chunk_id}
            lines = (
                json.dumps({**known, **dead_letter_fields(dead_letter, self._item_length)}) + "\n"
                for dead_letter in dead_letters
            )
            self._store.write(name, "".join(lines).encode())
            self._there.add(name)
        elif name in self._there:
            self._store.remove([name])
            self._there.discard(name)

    def delete(self, _: object, load: str) -> int:
        """Delete the files of a load; return how many there were."""
        mine = sorted(name for name in self._store.names() if name.startswith(f"dead_letters-{load}-"))
        self._store.remove(mine)
        self._there = None
        return len(mine)


def dead_letter_fields(dead_letter: DeadLetter, item_length: int) -> dict[str, Any]:
    """A dead letter as plain JSON, its item typed and capped."""
    from airflow_parallel_provider.sinks.ledger.definitions import now
    from airflow_parallel_provider.values import typed_json

    item, complete = typed_json.dumps(dead_letter.item, item_length)
    known = {name: getattr(dead_letter, name) for name in ("position", "stage", "cause", "attempts", "traceback")}
    failed_at = now().isoformat(timespec="milliseconds") + "Z"
    return {**known, "item": json.loads(item), "item_complete": complete, "failed_at": failed_at}
