"""``SinkFiles``: each chunk a file, on any storage that Airflow knows, and a manifest when all of them are written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from airflow_parallel_provider.checks import check_text
from airflow_parallel_provider.engine.interfaces.records import ChunkResult, CommittedChunk, LoadSpec
from airflow_parallel_provider.engine.interfaces.sink import Sink
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
    processed are in ``_dead_letters-<load>-<chunk>.jsonl``.

    A retry of the load skips the parts that were recorded before; a load that has its manifest skips all.

    Known limitations: two attempts that run at the same time are not kept apart (each part is whole, of one attempt or
    the other). What an earlier load has written stays, unless ``write_disposition="replace"``. Readers who list the
    folder instead of reading manifests see parts of unfinished loads, too. The file of a chunk is built in memory.

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

    def describe(self) -> str:
        """Where the rows go."""
        return f"{self.format} files in {self.path}"

    def prepare(self, spec: LoadSpec) -> None:
        """Open the storage; nothing after this asks Airflow.

        :raises PlanError: if there is no such connection or storage, or Parquet cannot be written.
        """
        from airflow_parallel_provider.sinks.files.file_load import FileLoad
        from airflow_parallel_provider.sinks.files.formats import Encoder
        from airflow_parallel_provider.sinks.files.store import FileStore

        if self._load is not None:
            raise PlanError("Pipeline.sink", self, "this SinkFiles is in use by another run; give each run its own")
        if self.format == "parquet":
            _require_pyarrow()
        columns = None if self.columns is None else tuple(self.columns)
        self._load = FileLoad(FileStore.of(self.path, self.conn_id), spec, Encoder(self.format, columns))

    def open(self) -> Mapping[str, CommittedChunk]:
        """Create the folder; return the chunks whose parts exist.

        :raises LoadMismatch: if the load was begun with another chunk size or source.
        """
        return self._running().begin(self.format, None if self.columns is None else list(self.columns))

    def source_state(self) -> Mapping[str, Any] | None:
        """The state the source had at the first attempt at this load; None as long as no part exists."""
        return self._running().source_state

    def commit(self, chunk: ChunkResult) -> int:
        """Write the part of a chunk; a chunk without rows has none."""
        return self._running().write(chunk)

    def finish(self) -> None:
        """Write the manifest: the load is complete."""
        load = self._running()
        load.complete()
        if self.write_disposition == "replace":
            load.remove_others()

    def close(self) -> None:
        """Record which parts exist; the sink may then serve another run."""
        load, self._load = self._load, None
        if load is not None:
            load.record_progress()

    def _running(self) -> FileLoad:
        if self._load is None:
            raise SinkError(f"{self.describe()} is not open: call prepare and open first, or let Pipeline.run do it")
        return self._load

    def __getstate__(self) -> dict[str, Any]:
        """What a pickle or copy has: the declaration only."""
        return {**self.__dict__, "_load": None}


def _require_pyarrow() -> None:
    try:
        import pyarrow.parquet  # noqa: F401  # only whether it is installed
    except ImportError:
        cure = "pyarrow is not installed: pip install 'airflow-parallel-provider[arrow]'"
        raise PlanError("SinkFiles.format", "parquet", cure) from None
