# SPDX-License-Identifier: Apache-2.0
"""One load into a folder: a part for each chunk, a record of the parts while it runs, a manifest at the end.

Several runs may write one load, each a shard of its chunks; :mod:`.shared_notes` has what they tell each other.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import uuid4

from airflow_parallel_provider.engine.interfaces.records import ChunkResult, CommittedChunk, LoadSpec
from airflow_parallel_provider.errors import LoadMismatch
from airflow_parallel_provider.rows.rejection_limit import RejectionLimit
from airflow_parallel_provider.sinks.files.chunk_entries import report_rejected, write_entries
from airflow_parallel_provider.sinks.files.formats import SUFFIX, Encoder
from airflow_parallel_provider.sinks.files.row_isolation import encode_good_rows
from airflow_parallel_provider.sinks.files.shared_notes import SharedNotes
from airflow_parallel_provider.sinks.files.store import is_temporary
from airflow_parallel_provider.sinks.files.written_part import ColumnState, LoadSpan, WrittenPart
from airflow_parallel_provider.sinks.ledger.loads import SHARDED, frozen_digest
from airflow_parallel_provider.sinks.ledger.mapped_tasks import MappedTask

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_parallel_provider.sinks.files.store import FileStore

_Encoded = TypeVar("_Encoded")

PROGRESS_EVERY = 1.0
"""Seconds between two records of which parts exist. A retry writes the parts since the last record again, under the
same names."""

_RECORD = re.compile(r"_(manifest|progress)-[0-9a-f]{16}(-[0-9a-f]{8})?\.json")
"""Names of the records of loads; the manifest of a lake table names the try, too."""

_OURS = re.compile(
    rf"\.?(part-[0-9a-f]{{16}}-.+\.({'|'.join(SUFFIX.values())})"
    r"|_(dead_letters|rejected)-[0-9a-f]{16}-.+\.jsonl|_progress-[0-9a-f]{16}-[0-9a-f]{8}\.json"
    r"|_(manifest|progress|columns)-[0-9a-f]{16}\.json)(\.[0-9a-f]{8}\.tmp)?"
)
"""Names of the files of loads. Other programs may write parts, too: those of Spark are ``part-00000-...``."""


class FileLoad:
    """Writes the chunks of one load into a folder.

    :param columns: what knows the columns of the parts; :meth:`write` needs an ``Encoder``.
    :param limit: of rejected rows.
    """

    # The steps of one load share its state, and LakeLoad has its own way of some of them.

    part_class: type[WrittenPart] = WrittenPart

    def __init__(
        self, store: FileStore, load_spec: LoadSpec, columns: ColumnState, limit: RejectionLimit | None = None
    ) -> None:
        self._store = store
        self._load_spec = load_spec
        self._load_key = load_spec.load_key or f"run-{uuid4().hex}"
        key = self._load_key.encode("utf-8", "surrogatepass")
        self._load = hashlib.blake2b(key, digest_size=8).hexdigest()
        self._manifest, self._progress = f"_manifest-{self._load}.json", f"_progress-{self._load}.json"
        self.source_state: Mapping[str, Any] | None = None
        """The state the source had at the first attempt; None as long as no part exists."""
        self._columns = columns
        self._limit = limit or RejectionLimit(None, None)
        self._terms: dict[str, Any] = {}
        self._parts: dict[str, WrittenPart] = {}
        self._own_parts: dict[str, WrittenPart] = {}  # that this run has written
        self._is_shard, self._shared = load_spec.part == "shard", load_spec.part != "whole"
        self.notes = SharedNotes(store, self._load, self._load_key, load_spec)
        self._begun: dict[str, Any] = {}
        """Of a shard: the load as it was begun."""
        self.source_chunks: int | None = None
        """How many chunks the source has, as the shards have found; None: not known."""
        self._found = 0
        """How many parts were noted, those that are gone counted."""
        self._old_entries: set[str] = set()
        """Names of files of dead letters and rejected rows that earlier attempts have left."""
        self._old_temporaries: list[str] = []
        self._recorded_at = float("-inf") if self._is_shard else time.monotonic()
        self._changed = False
        self._labels = dict(load_spec.labels)
        self.span, self._coordinator = LoadSpan(), load_spec.coordinator
        # All shards have one load: they are not checked against each other.
        self._task = None if load_spec.part in ("shard", "finish") else MappedTask.of(load_spec.labels)

    def begin(self, file_format: str, columns: list[str] | None, *, replaces: bool) -> Mapping[str, CommittedChunk]:
        """Create the folder; return the chunks whose parts exist.

        :param replaces: whether this load removes at its end what other loads have written.
        :raises LoadMismatch: if the load was begun on other terms, or see :meth:`check_mapped`.
        """
        spec = self._load_spec
        self._terms = {
            "chunk_size": spec.chunk_size,
            "source": spec.source,
            "format": file_format,
            "columns": columns,
            SHARDED: frozen_digest(spec) if spec.part == "plan" else None,
            **self._own_terms(),
        }
        self._store.make_folder()
        names = self._store.names()
        beginnings = (f"_dead_letters-{self._load}-", f"_rejected-{self._load}-")
        self._old_entries = {name for name in names if name.startswith(beginnings)}
        self._old_temporaries = [name for name in names if f"-{self._load}" in name and is_temporary(name)]
        self._check_owner()
        record = self.notes.read(self._manifest if self._manifest in names else self._progress)
        if spec.part in ("shard", "finish"):
            self._join(record, complete=self._manifest in names)
        if record is not None:
            self._resume(record, names)
        if spec.part == "plan":
            self._begin_shared(names)
        if self._task is not None:
            if self._manifest not in names:  # the others see at once that this load has begun
                self._store.write(self._progress, self._record("open", self._parts))
            self.check_mapped(replaces=replaces)
        self._limit.count = sum(part.rows_rejected for part in self._parts.values())
        return dict(self._parts)

    def _own_terms(self) -> dict[str, Any]:
        """Further terms that all attempts at a load must have in common, as JSON."""
        return {}

    def _join(self, record: dict[str, Any] | None, *, complete: bool) -> None:
        """Take the terms of a load that was begun for shards.

        :raises LoadMismatch: if none was.
        """
        if record is None or record["begun_with"].get(SHARDED) is None:
            raise self.notes.not_begun()
        if not complete and record["generation"] != self._load_spec.generation:
            raise self.notes.not_begun()
        self._begun, self._labels, self.source_state = record, record["labels"], record["source_state"]
        if self._is_shard:
            self._terms[SHARDED] = record["begun_with"][SHARDED]
            self.notes.require_same(record["begun_with"], self._terms)
        else:
            self._terms = record["begun_with"]

    def _begin_shared(self, names: set[str]) -> None:
        """Write down that the load has begun, with what the source has found; not if all of it is in."""
        if self._manifest in names and len(self._parts) == self._found:
            return
        if not self._parts:  # nothing of it may bind the shards
            self.notes.remove()
        self._store.write(self._progress, self._record("open", self._parts))
        self._store.remove([self._manifest])  # a part of it is gone

    def check_mapped(self, *, replaces: bool) -> None:
        """Of a mapped task: check that no other task instance has this load, or replaces what this one writes.

        :raises LoadMismatch: if one does.
        """
        self._check_owner()
        if self._task is None or not replaces:
            return
        for name in sorted(self._store.names()):
            if _RECORD.fullmatch(name) and f"-{self._load}" not in name:
                record = self.notes.read(name)
                other = None if record is None else self._task.other(record["labels"])
                if record is None or other is None:
                    continue
                if record["state"] != "open" or other.run_start == self._task.run_start:
                    place = f"folder {self._store.display_name}"
                    raise LoadMismatch(self._task.shared_target(place, other, record["load_key"]))

    def _check_owner(self) -> None:
        for name in (self._manifest, self._progress) if self._task is not None else ():
            record = self.notes.read(name)
            other = None if record is None or self._task is None else self._task.other(record["labels"])
            if self._task is not None and other is not None:
                raise LoadMismatch(self._task.shared_load(self._load_key, other))

    def _resume(self, record: dict[str, Any], names: set[str]) -> None:
        sharded = record["begun_with"].get(SHARDED) is not None
        notes = self.notes.of_shards(record, names) if sharded and record["state"] == "open" else []
        found = {part["chunk_id"]: part for note in [record, *notes] for part in note["parts"]}
        self._found = len(found)
        # A part that was deleted meanwhile is written again.
        parts = [
            self.part_class(**part) for part in found.values() if part["file"] is None or self._is_there(part, names)
        ]
        self.source_chunks = self.notes.source_chunks([{"source_chunks": None, **record}, *notes])
        self.span = LoadSpan.of([record, *notes])
        if not parts:
            return
        if self._load_spec.part == "plan" and sharded:
            self._terms[SHARDED] = record["begun_with"][SHARDED]  # its shards go on with the source as it was
        self.notes.require_same(record["begun_with"], self._terms)
        self._parts = {part.chunk_id: part for part in parts}
        self.source_state = record["source_state"]
        columns = self.notes.columns() if sharded and record["state"] == "open" else record["columns"]
        if columns is not None:
            self._columns.restore(columns)
            self.notes.require_columns(columns, notes)

    def _is_there(self, part: Mapping[str, Any], names: set[str]) -> bool:
        return part["file"] in names

    def write(self, chunk: ChunkResult) -> int | None:
        """Write the part of a chunk, its dead letters and its rejected rows; return how many rows the part has.

        :return: None if the load is complete.
        :raises SchemaMismatch: if rows cannot be written, and none of them may be rejected.
        :raises RowsRejected: if more rows are refused than the load may have.
        """
        if not self._may_write():
            return None
        encoder, where = self._columns, f"chunk {chunk.chunk_id}"
        assert isinstance(encoder, Encoder), "a subclass that has another one has a write of its own"
        encoded, rejected = self._encoded(
            lambda: encode_good_rows(encoder, Encoder.encode, chunk.rows, where, self._limit)
        )
        data, rows = encoded or (b"", 0)
        file = f"part-{self._load}-{chunk.chunk_id}.{encoder.suffix}" if rows else None
        write_entries(self._store, self._load, chunk, rejected, self._old_entries)
        if file is not None:
            self._store.write(file, data)
        self._add(
            WrittenPart(
                chunk.chunk_id,
                chunk.items,
                rows,
                dead_letters=len(chunk.dead_letters),
                rows_rejected=len(rejected),
                failed_items=chunk.failed_items,
                items_filtered=chunk.items_filtered,
                file=file,
                bytes=len(data),
            )
        )
        report_rejected(self._limit, chunk, rejected)
        return rows

    def _may_write(self) -> bool:
        """Whether the load is open; False: it is complete.

        :raises LoadMismatch: of a shard: if its load was begun anew.
        """
        return not self._is_shard or self.notes.may_write(self._begun, self._is_complete)

    def _is_complete(self) -> bool:
        return self._manifest in self._store.names()

    def _encoded(self, encode: Callable[[], _Encoded]) -> _Encoded:
        """Encode a chunk with the columns of the load."""
        return self.notes.encode(self._columns, encode) if self._is_shard else encode()

    def _add(self, part: WrittenPart) -> None:
        """Note a part that is written."""
        self._parts[part.chunk_id] = self._own_parts[part.chunk_id] = part
        self.span.written()
        self._changed = True
        if time.monotonic() - self._recorded_at >= PROGRESS_EVERY:
            self.record_progress()

    def record_progress(self) -> None:
        """Write down which parts exist, if there are new ones."""
        if self._changed and self._is_shard:
            if self._may_write():
                self._store.write(self.notes.own_name, self._record("open", self._own_parts))
        elif self._changed:
            self._store.write(self._progress, self._record("open", self._parts))
        self._changed = False
        self._recorded_at = time.monotonic()

    def finish_shard(self, chunks: int) -> None:
        """Note how many chunks the source has: the shard has read it to its end.

        :raises LoadMismatch: if another shard has found another number.
        """
        if not self._may_write():
            return
        self.source_chunks, self._changed = chunks, True
        self.record_progress()
        self.notes.source_chunks(self.notes.of_shards(self._begun, self._store.names()))

    def complete(self) -> None:
        """Write the manifest and clean up.

        :raises RowsRejected: if the shards of the load have rejected too many rows together.
        """
        self._enforce_whole()
        self._store.write(self._manifest, self._record("complete", self._parts))
        self._changed = False
        self._remove_notes()

    def _enforce_whole(self) -> None:
        if self._load_spec.part == "finish":
            self._limit.enforce_whole(sum(part.rows_rejected for part in self._parts.values()))

    def _remove_notes(self) -> None:
        # Only those found at the beginning: another attempt that still runs has long since renamed them.
        self._store.remove([self._progress, *self._old_temporaries])
        if self._shared:
            self.notes.remove()

    def remove_others(self) -> None:
        """Delete what other loads have written; manifests first, so that none of them names a deleted part."""
        others = [name for name in self._store.names() if _OURS.fullmatch(name) and f"-{self._load}" not in name]
        self._store.remove(sorted(others, key=lambda name: (not name.startswith("_manifest-"), name)))

    def _record(self, state: str, parts_by_chunk: Mapping[str, WrittenPart]) -> bytes:
        parts = sorted(parts_by_chunk.values(), key=lambda part: part.chunk_id)
        record = {
            "load_key": self._load_key,
            "state": state,
            "rows": sum(part.rows for part in parts),
            "labels": self._labels,
            "written_by": dict(self._load_spec.labels),
            "generation": self._load_spec.generation,
            "coordinator": self._coordinator,
            "begun_with": self._terms,
            "source_state": self._load_spec.source_state if self.source_state is None else self.source_state,
            "source_chunks": self.source_chunks,
            "columns": self._columns.state(),
            **self.span.as_dict(),
        }
        lines = ",\n".join(part.as_json for part in parts)  # Python's encoder for indented JSON takes ten times as long
        return f'{json.dumps(record)[:-1]}, "parts": [\n{lines}\n]}}'.encode()
