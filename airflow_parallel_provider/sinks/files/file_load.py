"""One load into a folder: a part for each chunk, a record of the parts while it runs, a manifest at the end."""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from airflow_parallel_provider.engine.interfaces.records import ChunkResult, CommittedChunk, LoadSpec
from airflow_parallel_provider.errors import LoadMismatch, SinkError
from airflow_parallel_provider.sinks.files.dead_letter_store import dead_letter_fields
from airflow_parallel_provider.sinks.files.formats import SUFFIX, Encoder
from airflow_parallel_provider.sinks.files.store import is_temporary

if TYPE_CHECKING:
    from airflow_parallel_provider.sinks.files.store import FileStore

PROGRESS_EVERY = 1.0
"""Seconds between two records of which parts exist. A retry writes the parts since the last record again, under the
same names."""

_ITEM_LENGTH = 32_000
"""Characters of a failed item's JSON that are kept."""

_OURS = re.compile(
    rf"\.?(part-[0-9a-f]{{16}}-.+\.({'|'.join(SUFFIX.values())})"
    r"|_dead_letters-[0-9a-f]{16}-.+\.jsonl|_(manifest|progress)-[0-9a-f]{16}\.json)(\.[0-9a-f]{8}\.tmp)?"
)
"""Names of the files of loads. Other programs may write parts, too: those of Spark are ``part-00000-...``."""


@dataclass(frozen=True)
class _Part(CommittedChunk):
    """A chunk whose part has been written."""

    file: str | None = None
    """None: it has no rows."""
    bytes: int = 0


class FileLoad:
    """Writes the chunks of one load into a folder."""

    def __init__(self, store: FileStore, load_spec: LoadSpec, encoder: Encoder) -> None:
        self._store = store
        self._load_spec = load_spec
        self._load_key = load_spec.load_key or f"run-{uuid4().hex}"
        key = self._load_key.encode("utf-8", "surrogatepass")
        self._load = hashlib.blake2b(key, digest_size=8).hexdigest()
        self._manifest, self._progress = f"_manifest-{self._load}.json", f"_progress-{self._load}.json"
        self.source_state: Mapping[str, Any] | None = None
        """The state the source had at the first attempt; None as long as no part exists."""
        self._encoder = encoder
        self._terms: dict[str, Any] = {}
        self._parts: dict[str, _Part] = {}
        self._old_dead_letters: set[str] = set()
        self._old_temporaries: list[str] = []
        self._recorded_at = time.monotonic()
        self._changed = False

    def begin(self, file_format: str, columns: list[str] | None) -> Mapping[str, CommittedChunk]:
        """Create the folder; return the chunks whose parts exist.

        :raises LoadMismatch: if the load was begun on other terms.
        """
        spec = self._load_spec
        self._terms = {
            "chunk_size": spec.chunk_size,
            "source": spec.source,
            "format": file_format,
            "columns": columns,
        }
        self._store.make_folder()
        names = self._store.names()
        self._old_dead_letters = {name for name in names if name.startswith(f"_dead_letters-{self._load}-")}
        self._old_temporaries = [name for name in names if f"-{self._load}" in name and is_temporary(name)]
        name = self._manifest if self._manifest in names else self._progress
        text = self._store.read(name)
        if text is not None:
            try:
                record = json.loads(text)
            except ValueError as error:
                raise SinkError(
                    f"{name} in {self._store.display_name} is no JSON ({error}), so it is not known which parts of the "
                    "load exist: delete it, and all of them are written again"
                ) from None
            self._resume(record, names)
        return dict(self._parts)

    def _resume(self, record: dict[str, Any], names: set[str]) -> None:
        # A part that was deleted meanwhile is written again.
        parts = [_Part(**part) for part in record["parts"] if part["file"] is None or part["file"] in names]
        if not parts:
            return
        before, terms = record["begun_with"], self._terms
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
        self._parts = {part.chunk_id: part for part in parts}
        self.source_state = record["source_state"]
        self._encoder.restore(record["columns"])

    def write(self, chunk: ChunkResult) -> int:
        """Write the part of a chunk and its dead letters; return how many rows it has."""
        encoded, rows = self._encoder.encode(chunk.rows, f"chunk {chunk.chunk_id}") if chunk.rows else (b"", 0)
        file = f"part-{self._load}-{chunk.chunk_id}.{self._encoder.suffix}" if rows else None
        dead_letters = f"_dead_letters-{self._load}-{chunk.chunk_id}.jsonl"
        if chunk.dead_letters:
            lines = (json.dumps(dead_letter_fields(each, _ITEM_LENGTH)) + "\n" for each in chunk.dead_letters)
            self._store.write(dead_letters, "".join(lines).encode())
        elif dead_letters in self._old_dead_letters:  # of an earlier attempt; no item has failed this time
            self._store.remove([dead_letters])
        if file is not None:
            self._store.write(file, encoded)
        failed = len(chunk.dead_letters)
        part = _Part(chunk.chunk_id, chunk.items, rows, dead_letters=failed, file=file, bytes=len(encoded))
        self._parts[chunk.chunk_id] = part
        self._changed = True
        if time.monotonic() - self._recorded_at >= PROGRESS_EVERY:
            self.record_progress()
        return rows

    def record_progress(self) -> None:
        """Write down which parts exist, if there are new ones."""
        if self._changed:
            self._store.write(self._progress, self._record("open"))
            self._changed = False
        self._recorded_at = time.monotonic()

    def complete(self) -> None:
        """Write the manifest and clean up."""
        self._store.write(self._manifest, self._record("complete"))
        self._changed = False
        # Only those found at the beginning: another attempt that still runs has long since renamed them.
        self._store.remove([self._progress, *self._old_temporaries])

    def remove_others(self) -> None:
        """Delete what other loads have written; manifests first, so that none of them names a deleted part."""
        others = [name for name in self._store.names() if _OURS.fullmatch(name) and f"-{self._load}" not in name]
        self._store.remove(sorted(others, key=lambda name: (not name.startswith("_manifest-"), name)))

    def _record(self, state: str) -> bytes:
        source_state = self.source_state if self.source_state is not None else self._load_spec.source_state
        parts = sorted(self._parts.values(), key=lambda part: part.chunk_id)
        record = {
            "load_key": self._load_key,
            "state": state,
            "rows": sum(part.rows for part in parts),
            "labels": dict(self._load_spec.labels),
            "begun_with": self._terms,
            "source_state": source_state,
            "columns": self._encoder.state(),
            "parts": [asdict(part) for part in parts],
        }
        return json.dumps(record, indent=1).encode()
