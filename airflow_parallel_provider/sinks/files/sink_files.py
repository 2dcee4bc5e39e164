"""``SinkFiles``: each chunk a file, on any storage that Airflow knows, and a manifest when all of them are there."""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, asdict, dataclass, field
from typing import Any, ClassVar, Literal
from uuid import uuid4

from airflow_parallel_provider.checks import check_text
from airflow_parallel_provider.engine.interfaces.records import ChunkResult, CommittedChunk, LoadSpec
from airflow_parallel_provider.engine.interfaces.sink import Sink
from airflow_parallel_provider.errors import LoadMismatch, PlanError, SinkError
from airflow_parallel_provider.sinks.files.formats import SUFFIX, Encoder
from airflow_parallel_provider.sinks.files.store import FileStore, is_half
from airflow_parallel_provider.values import typed_json

PROGRESS_EVERY = 1.0
"""Seconds between two notes of which parts are there. Parts written since the last one are written again by a retry,
under the same names."""

_ITEM_LENGTH = 32_000

_OURS = re.compile(
    rf"\.?(part-[0-9a-f]{{16}}-.+\.({'|'.join(SUFFIX.values())})"
    r"|_dead_letters-[0-9a-f]{16}-.+\.jsonl|_(manifest|progress)-[0-9a-f]{16}\.json)(\.[0-9a-f]{8}\.tmp)?"
)
"""Names that loads give their files. Others may write parts, too: Spark's are ``part-00000-...``."""


@dataclass(unsafe_hash=True)  # only templates change, before a run
class SinkFiles(Sink):
    """A folder that receives the rows of a pipeline, one file per chunk.

    ::

        SinkFiles("s3://lake/orders/{{ ds }}", conn_id="aws", format="parquet")

    The parts of a load have names that are the same at every try: ``part-<load>-<chunk>.parquet``. A part appears as a
    whole or not at all (renamed into place on a local file system, one PUT elsewhere). ``_manifest-<load>.json`` is
    written last: a load is complete when it is there, and it lists the parts with their rows and bytes. Items that
    could not be processed are in ``_dead_letters-<load>-<chunk>.jsonl``.

    A retry of the load skips the parts that were noted before; a load whose manifest is there skips all.

    What it does not do: keep two tries that run at the same time apart (each part is whole, of one try or the other),
    or delete what an earlier load has written, unless ``write_disposition="replace"``. Readers who list the folder
    instead of reading manifests see parts of unfinished loads, too.

    Known limitation: the file of a chunk is made in memory.

    :raises PlanError: for an argument that cannot be right, naming it.
    """

    template_fields: ClassVar[tuple[str, ...]] = ("path", "conn_id")
    """What Airflow renders when the sink is in a template field of an operator."""

    path: str
    """Folder, on any storage of ``ObjectStoragePath``; made when it is not there."""
    _: KW_ONLY
    format: Literal["jsonl", "csv", "parquet"] = "jsonl"
    conn_id: str | None = None
    """Airflow connection of the storage; it may also stand in the path (``s3://conn@bucket/...``)."""
    columns: Sequence[str] | None = None
    """Columns of CSV and Parquet files, and names for rows that are tuples; None: those of the first chunk."""
    write_disposition: Literal["append", "replace"] = "append"
    """``replace``: when the load is complete, what other loads have written into the folder is deleted."""
    _run: _Run | None = field(default=None, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Check."""
        self.path = str(self.path)
        check_text("SinkFiles.path", self.path)
        check_text("SinkFiles.conn_id", self.conn_id, optional=True)
        if self.format not in SUFFIX:
            raise PlanError("SinkFiles.format", self.format, f"write {' or '.join(map(repr, SUFFIX))}")
        if self.write_disposition not in ("append", "replace"):
            raise PlanError("SinkFiles.write_disposition", self.write_disposition, "write 'append' or 'replace'")
        if self.columns is not None:
            if isinstance(self.columns, str) or not all(isinstance(name, str) and name for name in self.columns):
                raise PlanError("SinkFiles.columns", self.columns, "give a list of names, or leave it out")
            self.columns = tuple(self.columns)

    def describe(self) -> str:
        """Where the rows go."""
        return f"{self.format} files in {self.path}"

    def prepare(self, spec: LoadSpec) -> None:
        """Open the storage; the last time Airflow is talked to.

        :raises PlanError: when there is no such connection or storage, or Parquet cannot be written.
        """
        if self._run is not None:
            raise PlanError("Pipeline.sink", self, "this SinkFiles is in use by another run; give each run its own")
        if self.format == "parquet":
            _need_pyarrow()
        load_key = spec.load_key or f"run-{uuid4().hex}"
        columns = None if self.columns is None else tuple(self.columns)
        store = FileStore.of(self.path, self.conn_id)
        self._run = _Run(store, spec, load_key, SUFFIX[self.format], Encoder(self.format, columns))

    def open(self) -> Mapping[str, CommittedChunk]:
        """Make the folder; return the chunks whose parts are there.

        :raises LoadMismatch: when the load was begun with another chunk size or source.
        """
        run = self._running()
        frozen = {"chunk_size": run.spec.chunk_size, "source": run.spec.source, "format": self.format}
        return run.begin({**frozen, "columns": None if self.columns is None else list(self.columns)})

    def source_state(self) -> Mapping[str, Any] | None:
        """What the source froze at the first try of this load; None as long as no part is there."""
        return self._running().kept_state

    def commit(self, chunk: ChunkResult) -> int:
        """Write a chunk's part; one without rows has none."""
        return self._running().write(chunk)

    def finish(self) -> None:
        """Write the manifest: the load is complete."""
        run = self._running()
        run.complete()
        if self.write_disposition == "replace":
            run.remove_others()

    def close(self) -> None:
        """Note what is there; the sink may then serve another run."""
        run, self._run = self._run, None
        if run is not None:
            run.note_progress()

    def _running(self) -> _Run:
        if self._run is None:
            raise SinkError(f"{self.describe()} is not open: call prepare and open first, or let Pipeline.run do it")
        return self._run

    def __getstate__(self) -> dict[str, Any]:
        """What travels: the declaration only."""
        return {**self.__dict__, "_run": None}


@dataclass(frozen=True)
class _Part(CommittedChunk):
    """A chunk that is there."""

    file: str | None = None
    """None: it has no rows."""
    bytes: int = 0


class _Run:
    """What a sink holds while it serves a run."""

    def __init__(self, store: FileStore, spec: LoadSpec, load_key: str, suffix: str, encoder: Encoder) -> None:
        self.store = store
        self.spec = spec
        self.load_key = load_key
        self.load = hashlib.blake2b(load_key.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()
        self.manifest, self.progress = f"_manifest-{self.load}.json", f"_progress-{self.load}.json"
        self.kept_state: Mapping[str, Any] | None = None
        self._suffix = suffix
        self._encoder = encoder
        self._frozen: dict[str, Any] = {}
        self._parts: dict[str, _Part] = {}
        self._letters: set[str] = set()
        self._halves: list[str] = []
        self._noted_at = time.monotonic()
        self._changed = False

    def begin(self, frozen: dict[str, Any]) -> Mapping[str, CommittedChunk]:
        self._frozen = frozen
        self.store.make_folder()
        there = self.store.names()
        self._letters = {name for name in there if name.startswith(f"_dead_letters-{self.load}-")}
        self._halves = [name for name in there if f"-{self.load}" in name and is_half(name)]
        name = self.manifest if self.manifest in there else self.progress
        text = self.store.read(name)
        if text is not None:
            try:
                book = json.loads(text)
            except ValueError as error:
                raise SinkError(
                    f"{name} in {self.store.shown} is no JSON ({error}), so it is not known which parts of the load "
                    "are there: delete it, and all of them are written again"
                ) from None
            self._go_on(book, there)
        return dict(self._parts)

    def _go_on(self, book: dict[str, Any], there: set[str]) -> None:
        # A part that somebody has deleted is written again.
        parts = [_Part(**part) for part in book["parts"] if part["file"] is None or part["file"] in there]
        if not parts:
            return
        was, now = book["begun_with"], self._frozen
        changed = [f"{name} was {was.get(name)!r} and is {now[name]!r}" for name in now if was.get(name) != now[name]]
        if changed:
            raise LoadMismatch(
                f"load {self.load_key!r} into {self.store.shown} was begun differently: {'; '.join(changed)}. Put the "
                "first values back, use another load_key, or delete its files to start over"
            )
        self._parts = {part.chunk_id: part for part in parts}
        self.kept_state = book["source_state"]
        self._encoder.restore(book["columns"])

    def write(self, chunk: ChunkResult) -> int:
        where = f"chunk {chunk.chunk_id}"
        content, rows = self._encoder.encode(chunk.rows, where) if chunk.rows else (b"", 0)
        file = f"part-{self.load}-{chunk.chunk_id}.{self._suffix}" if rows else None
        dead_letters = f"_dead_letters-{self.load}-{chunk.chunk_id}.jsonl"
        if chunk.dead_letters:
            self.store.write(dead_letters, "".join(map(_letter_line, chunk.dead_letters)).encode())
        elif dead_letters in self._letters:  # of an earlier try, which nothing has noted; this time nothing has failed
            self.store.remove([dead_letters])
        if file is not None:
            self.store.write(file, content)
        dead = len(chunk.dead_letters)
        part = _Part(chunk.chunk_id, chunk.items, rows, dead_letters=dead, file=file, bytes=len(content))
        self._parts[chunk.chunk_id] = part
        self._changed = True
        if time.monotonic() - self._noted_at >= PROGRESS_EVERY:
            self.note_progress()
        return rows

    def note_progress(self) -> None:
        """Write down which parts are there, if any came since."""
        if self._changed:
            self.store.write(self.progress, self._book("open"))
            self._changed = False
        self._noted_at = time.monotonic()

    def complete(self) -> None:
        self.store.write(self.manifest, self._book("complete"))
        self._changed = False
        # Those seen at the beginning: another try that is still at work has long since moved them to their places.
        self.store.remove([self.progress, *self._halves])

    def remove_others(self) -> None:
        """Delete what other loads have written; manifests first, so that none of them names what is gone."""
        others = [name for name in self.store.names() if _OURS.fullmatch(name) and f"-{self.load}" not in name]
        self.store.remove(sorted(others, key=lambda name: (not name.startswith("_manifest-"), name)))

    def _book(self, state: str) -> bytes:
        state_of_source = self.kept_state if self.kept_state is not None else self.spec.source_state
        parts = sorted(self._parts.values(), key=lambda part: part.chunk_id)
        book = {
            "load_key": self.load_key,
            "state": state,
            "rows": sum(part.rows for part in parts),
            "labels": dict(self.spec.labels),
            "begun_with": self._frozen,
            "source_state": state_of_source,
            "columns": self._encoder.state(),
            "parts": [asdict(part) for part in parts],
        }
        return json.dumps(book, indent=1).encode()


def _letter_line(dead_letter: Any) -> str:
    item, complete = typed_json.dumps(dead_letter.item, _ITEM_LENGTH)
    known = {name: getattr(dead_letter, name) for name in ("position", "stage", "cause", "attempts", "traceback")}
    return json.dumps({**known, "item": json.loads(item), "item_complete": complete}) + "\n"


def _need_pyarrow() -> None:
    try:
        import pyarrow.parquet  # noqa: F401  # only whether it is there
    except ImportError:
        cure = "pyarrow is not installed: pip install 'airflow-parallel-provider[arrow]'"
        raise PlanError("SinkFiles.format", "parquet", cure) from None
