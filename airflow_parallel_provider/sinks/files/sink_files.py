# SPDX-License-Identifier: Apache-2.0
"""``SinkFiles``: each chunk a file, on any storage that Airflow knows, and a manifest when all of them are written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from airflow_parallel_provider.checks import check_text, check_whole
from airflow_parallel_provider.engine.interfaces.records import ChunkResult, CommittedChunk, LoadSpec
from airflow_parallel_provider.engine.interfaces.sink import Sink, SinkContext
from airflow_parallel_provider.errors import PlanError, SinkError

if TYPE_CHECKING:
    from airflow_parallel_provider.sinks.files.file_load import FileLoad

FORMATS = ("jsonl", "csv", "parquet")


@dataclass(unsafe_hash=True)  # only templates change, before a run
class SinkFiles(Sink):
    """A folder that receives the rows of a pipeline, one file per chunk.

    ::

        SinkFiles("s3://lake/orders/{{ ds }}", conn_id="aws", format="parquet")

    The parts of a load have the same names at every attempt: ``part-<load>-<chunk>.parquet``. A part appears as a whole
    or not at all (renamed into place on a local file system, one PUT elsewhere). ``_manifest-<load>.json`` is written
    last: a load is complete when it exists, and it lists the parts with their rows and bytes. Items that could not be
    processed are in ``_dead_letters-<load>-<chunk>.jsonl``, rows that a file cannot hold in
    ``_rejected-<load>-<chunk>.jsonl``.

    A retry of the load skips the parts that were recorded before; a load that has its manifest skips all.

    Known limitations: two attempts that run at the same time are not kept apart (each part is whole, of one attempt or
    the other). Task instances of a mapped task may append to one folder, but not replace it; shards of one load may.
    What an earlier load has written stays, unless ``write_disposition="replace"``. Readers who list the folder instead
    of reading manifests see parts of unfinished loads, too. The file of a chunk is built in memory.

    :raises PlanError: for an invalid argument; names it.
    """

    template_fields: ClassVar[tuple[str, ...]] = ("path", "conn_id")
    """What Airflow renders when the sink is in a template field of an operator."""

    path: str
    """Folder on any storage of ``ObjectStoragePath``; created if it does not exist."""
    _: KW_ONLY
    format: Literal["jsonl", "csv", "parquet"] = "jsonl"
    """Format of the files."""
    conn_id: str | None = None
    """Airflow connection of the storage; it may also be part of the path (``s3://conn@bucket/...``)."""
    columns: Sequence[str] | None = None
    """Columns of CSV and Parquet files, and names for rows that are tuples. None: those of the first chunk."""
    write_disposition: Literal["append", "replace"] = "append"
    """``replace``: when the load is complete, what other loads have written into the folder is deleted."""
    max_rejected: int | None = None
    """How many rows of a load may be rejected because a file cannot hold them. In a pipeline each rejected row also
    counts as one failed item for its ``tolerance``."""
    _context: SinkContext | None = field(default=None, init=False, repr=False, compare=False)
    _load: FileLoad | None = field(default=None, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Check."""
        self.path = str(self.path)
        check_text("SinkFiles.path", self.path)
        check_text("SinkFiles.conn_id", self.conn_id, optional=True)
        if self.format not in FORMATS:
            raise PlanError("SinkFiles.format", self.format, f"write {' or '.join(map(repr, FORMATS))}")
        if self.write_disposition not in ("append", "replace"):
            raise PlanError("SinkFiles.write_disposition", self.write_disposition, "write 'append' or 'replace'")
        if self.columns is not None:
            if isinstance(self.columns, str) or not all(isinstance(name, str) and name for name in self.columns):
                raise PlanError("SinkFiles.columns", self.columns, "give a list of names, or leave it out")
            self.columns = tuple(self.columns)
        if self.max_rejected is not None:
            check_whole("SinkFiles.max_rejected", self.max_rejected, 0, 2**63 - 1)

    def describe(self) -> str:
        """Where the rows go."""
        return f"{self.format} files in {self.path}"

    def bind(self, run: SinkContext) -> None:
        """Remember the run that decides how many rows may be rejected."""
        self._context = run

    def prepare(self, spec: LoadSpec) -> None:
        """Open the storage; nothing after this asks Airflow.

        :raises PlanError: if there is no such connection or storage, or Parquet cannot be written.
        """
        from airflow_parallel_provider.rows.rejection_limit import RejectionLimit
        from airflow_parallel_provider.sinks.files.file_load import FileLoad
        from airflow_parallel_provider.sinks.files.formats import Encoder
        from airflow_parallel_provider.sinks.files.store import FileStore

        if self._load is not None:
            raise PlanError("Pipeline.sink", self, "this SinkFiles is in use by another run; give each run its own")
        if self.format == "parquet":
            _require_pyarrow()
        columns = None if self.columns is None else tuple(self.columns)
        limit = RejectionLimit(self.max_rejected, self._context)
        self._load = FileLoad(FileStore.of(self.path, self.conn_id), spec, Encoder(self.format, columns), limit)

    def open(self) -> Mapping[str, CommittedChunk]:
        """Create the folder; return the chunks whose parts exist.

        :raises LoadMismatch: if the load was begun with another chunk size or source, or by another task instance of
            a mapped task; or if another one replaces the files of this folder, too.
        """
        columns = None if self.columns is None else list(self.columns)
        return self._running().begin(self.format, columns, replaces=self.write_disposition == "replace")

    def source_state(self) -> Mapping[str, Any] | None:
        """The state the source had at the first attempt at this load; None as long as no part exists."""
        return self._running().source_state

    def check_shards(self) -> None:
        """Several shards may write one load: each notes its parts in a file of its own."""

    def finish_shard(self, chunks: int) -> None:
        """Note how many chunks the source has."""
        self._running().finish_shard(chunks)

    def chunks_of_source(self) -> int | None:
        """How many chunks the source has, as its shards have found."""
        return self._running().source_chunks

    def committed_now(self) -> Mapping[str, CommittedChunk] | None:
        """The chunks that shards have noted by now, for who watches them; a shard notes its parts once a second."""
        return self._running().notes.chunks()

    def dismiss_shards(self) -> None:
        """Take the coordinator out of the load's note."""
        self._running().notes.dismiss()

    def seconds_of_load(self) -> float | None:
        """From the beginning of the load to its last part, by the notes."""
        return self._running().span.seconds

    def commit(self, chunk: ChunkResult) -> int | None:
        """Write the part of a chunk; a chunk without rows has none."""
        return self._running().write(chunk)

    def finish(self) -> None:
        """Write the manifest: the load is complete."""
        load = self._running()
        load.check_mapped(replaces=self.write_disposition == "replace")
        load.complete()
        if self.write_disposition == "replace":
            load.remove_others()

    def close(self) -> None:
        """Record which parts exist; the sink may then serve another run."""
        load, self._load, self._context = self._load, None, None
        if load is not None:
            load.record_progress()

    def _running(self) -> FileLoad:
        if self._load is None:
            raise SinkError(f"{self.describe()} is not open: call prepare and open first, or let Pipeline.run do it")
        return self._load

    def __getstate__(self) -> dict[str, Any]:
        """What a pickle or copy has: the declaration only."""
        return {**self.__dict__, "_context": None, "_load": None}


def _require_pyarrow() -> None:
    try:
        import pyarrow.parquet  # noqa: F401  # only whether it is installed
    except ImportError:
        cure = "pyarrow is not installed: pip install 'airflow-parallel-provider[arrow]'"
        raise PlanError("SinkFiles.format", "parquet", cure) from None
