# SPDX-License-Identifier: Apache-2.0
"""What several runs that write one load into one folder tell each other, by files: nothing is locked.

::

    _progress-<load>.json          the load as it was begun; gone when it is complete
    _progress-<load>-<run>.json    of each shard: the parts that it has written
    _columns-<load>.json           columns and types of all parts: those of the first chunk that any shard encodes
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import uuid4

from airflow_parallel_provider.errors import LoadMismatch, SchemaMismatch, SinkError
from airflow_parallel_provider.sinks.files.written_part import NotedPart
from airflow_parallel_provider.sinks.ledger.load_lock import dismissed
from airflow_parallel_provider.sinks.ledger.loads import SHARDED

if TYPE_CHECKING:
    from airflow_parallel_provider.engine.interfaces.records import CommittedChunk, LoadSpec
    from airflow_parallel_provider.sinks.files.store import FileStore
    from airflow_parallel_provider.sinks.files.written_part import ColumnState

_Encoded = TypeVar("_Encoded")


class SharedNotes:
    """The notes of one load.

    :param load: its id.
    :param load_key: its name, for error texts.
    :param load_spec: of the run that reads and writes them.
    """

    def __init__(self, store: FileStore, load: str, load_key: str, load_spec: LoadSpec) -> None:
        self._store = store
        self._coordinator = load_spec.coordinator
        self._watches = load_spec.part == "finish"
        self._load_key = load_key
        self._beginning = f"_progress-{load}-"
        self._begun_name = f"_progress-{load}.json"
        self._columns_name = f"_columns-{load}.json"
        self.own_name = f"_progress-{load}-{uuid4().hex[:8]}.json"
        """Where this run notes its parts; no other run writes it."""
        self._agreed = False

    def read(self, name: str) -> dict[str, Any] | None:
        """A note; None if there is none.

        :raises SinkError: if it is no JSON.
        """
        text = self._store.read(name)
        if text is None:
            return None
        try:
            found: dict[str, Any] = json.loads(text)
        except ValueError as error:
            raise SinkError(
                f"{name} in {self._store.display_name} is no JSON ({error}), so it is not known which parts of the "
                "load exist: delete it, and all of them are written again"
            ) from None
        return found

    def of_shards(self, begun: Mapping[str, Any], names: set[str]) -> list[dict[str, Any]]:
        """The notes of all shards of the load as it was begun; those of an earlier beginning do not count."""
        own = sorted(name for name in names if name.startswith(self._beginning))
        notes = [note for name in own if (note := self.read(name)) is not None]
        return [note for note in notes if _same_beginning(note, begun)]

    def chunks(self) -> dict[str, CommittedChunk] | None:
        """The chunks that are noted by now, for a run that watches shards; None: not known."""
        begun = self.read(self._begun_name) if self._watches else None
        if begun is None:  # complete, or discarded
            return None
        found: dict[str, CommittedChunk] = {}
        notes = self.of_shards(begun, set(self._store.names()))
        for note in (begun, *sorted(notes, key=lambda note: note.get("written_at") or "")):
            found.update(NotedPart.of(note))
        return found

    def columns(self) -> dict[str, Any] | None:
        """The columns that all parts have; None as long as no chunk has been encoded."""
        return self.read(self._columns_name)

    def encode(self, columns: ColumnState, encode: Callable[[], _Encoded]) -> _Encoded:
        """Encode a chunk with the columns that all parts of the load have.

        :param columns: of the encoder. Where they are not known yet, those of the chunk become those of the load,
            unless another shard is faster: then the chunk is encoded again.
        """
        if self._agreed:
            return encode()
        found = self.columns()
        if found is None:
            encoded = encode()
            state = columns.state()
            if not any(state.values()):  # JSON lines have no columns in common; a chunk may have no rows
                return encoded
            found = json.loads(self._store.create(self._columns_name, json.dumps(state).encode()))
            if found == state:
                self._agreed = True
                return encoded
        columns.restore(found)
        self._agreed = True
        return encode()

    def require_same(self, before: Mapping[str, Any], terms: Mapping[str, Any]) -> None:
        """Check that an attempt is on the terms on which the load was begun.

        :raises LoadMismatch: if it is not; names what has changed.
        """
        changed = [
            f"{name} was {before.get(name)!r} and is {terms[name]!r}"
            for name in terms
            if before.get(name) != terms[name]
        ]
        if changed:
            raise LoadMismatch(
                f"load {self._load_key!r} into {self._store.display_name} was begun differently: {'; '.join(changed)}. "
                "Restore the first values, use another load_key, or delete its files to start over"
            )

    def require_columns(self, columns: Mapping[str, Any], notes: list[dict[str, Any]]) -> None:
        """Check that the parts of all shards have the same columns: a storage may not know which shard was first.

        :raises SchemaMismatch: if they have not.
        """
        if any(any(note["columns"].values()) and note["columns"] != columns for note in notes):
            raise SchemaMismatch(
                f"load {self._load_key!r} into {self._store.display_name}: two shards that began at the same time have "
                "written other columns or types: declare the columns, return Arrow tables with a schema from the last "
                "stage, and use another load_key"
            )

    def may_write(self, begun: Mapping[str, Any], is_complete: Callable[[], bool]) -> bool:
        """Whether the load is still open as it was begun; False if it is complete: every chunk is in.

        :raises LoadMismatch: if it was begun anew, or discarded.
        """
        now = self.read(self._begun_name)
        if now is not None and _same_beginning(now, begun):
            if self._coordinator not in (None, now["coordinator"]):
                raise LoadMismatch(dismissed(self._load_key))
            return True
        if now is None and is_complete():
            return False
        raise self.not_begun()

    def dismiss(self) -> None:
        """Take the coordinator out of the load as it was begun."""
        begun = self.read(self._begun_name)
        if begun is not None:
            self._store.write(self._begun_name, json.dumps({**begun, "coordinator": ""}, indent=1).encode())

    def not_begun(self) -> LoadMismatch:
        """The error of a shard whose load does not exist."""
        return LoadMismatch(
            f"load {self._load_key!r} into {self._store.display_name} has not been begun for shards, or was begun anew "
            "or discarded since: call Pipeline.begin() first (in Airflow, clear the task 'plan' with those after it)"
        )

    def source_chunks(self, notes: list[dict[str, Any]]) -> int | None:
        """How many chunks the source has, as the shards have noted; None: none of them has read it to its end.

        :raises LoadMismatch: if they have found different numbers.
        """
        found = sorted({note["source_chunks"] for note in notes} - {None})
        if len(found) > 1:
            raise LoadMismatch(
                f"the source has {found[0]} chunks for one shard, and {found[1]} for another one: it gives other items "
                "each time it is read, so the chunks of the shards do not fit together. Freeze the items first (write "
                "them to files or a table), and use another load_key"
            )
        return found[0] if found else None

    def remove(self) -> None:
        """Delete the notes: the load is complete. The beginning first, so that no shard takes the load for open."""
        names = self._store.names()
        rest = sorted(name for name in names if name.startswith(self._beginning))
        self._store.remove([self._begun_name, *rest, self._columns_name])


def _same_beginning(note: Mapping[str, Any], begun: Mapping[str, Any]) -> bool:
    same: bool = (note["begun_with"].get(SHARDED), note.get("generation")) == (
        begun["begun_with"][SHARDED],
        begun.get("generation"),
    )
    return same
