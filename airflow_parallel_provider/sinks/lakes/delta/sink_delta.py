# SPDX-License-Identifier: Apache-2.0
"""``SinkDelta``: a Delta table that receives all rows of a load in one version, once."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from airflow_parallel_provider.checks import check_text
from airflow_parallel_provider.errors import PlanError
from airflow_parallel_provider.sinks.lakes.lake_sink import LakeSink, pairs_of

if TYPE_CHECKING:
    from airflow_parallel_provider.sinks.files.store import FileStore
    from airflow_parallel_provider.sinks.lakes.publisher import Publisher


@dataclass(unsafe_hash=True)  # only templates change, before a run
class SinkDelta(LakeSink):
    """A Delta table that receives the rows of a load in one commit, when all of them are written.

    ::

        SinkDelta("s3://lake/orders", conn_id="aws", write_disposition="append")

    Each chunk becomes a Parquet file in the table's folder, which belongs to no version yet. The end of the load
    publishes all of them in one commit, which carries the load's id: readers see none of its rows or all of them, and
    a load is in the table once, whatever dies and however many attempts overlap. A retry skips the chunks that were
    noted; a load whose id is in the table skips all. A table that does not exist is created from the first chunk.

    A merge takes the keys of the whole load into memory, and the library rewrites the files of the table that have one.

    Known limitations: nothing is seen before the load is complete. Columns that are added are a commit of their own,
    before that of the rows. Partitioned tables, tables that check or compute columns, and tables with
    column mapping are refused. Some types become others, and some are refused: docs/sinks/delta.md has the list. Dead
    letters and rejected rows are files next to the table, and cannot be replayed. Local folders and S3 (moto) were run;
    Azure and Google's storage were not. The file of a chunk is built in memory.

    :raises PlanError: for an invalid argument; names it.
    """

    own_name: ClassVar[str] = "SinkDelta"
    format_name: ClassVar[str] = "delta"
    template_fields: ClassVar[tuple[str, ...]] = ("path", "conn_id")
    """What Airflow renders when the sink is in a template field of an operator."""

    path: str
    """Folder of the table on any storage of ``ObjectStoragePath``; created if it does not exist."""
    _: KW_ONLY
    conn_id: str | None = None
    """Airflow connection of the storage; it may also be part of the path (``s3://conn@bucket/...``)."""
    storage_options: Mapping[str, str] | None = None
    """Options of ``deltalake`` for the storage. None: from the connection, for S3 and Azure."""

    def __post_init__(self) -> None:
        """Check and normalize."""
        self.path = str(self.path)
        check_text("SinkDelta.path", self.path)
        super().__post_init__()
        if self.storage_options is not None:
            cure = "give texts by the names that deltalake has for them"
            self.storage_options = pairs_of(self.storage_options, "SinkDelta.storage_options", cure)

    def describe(self) -> str:
        """Where the rows go."""
        return f"Delta table {self.path} ({self.write_disposition})"

    @property
    def dataset(self) -> tuple[str, str]:
        """Namespace and name of the table, as OpenLineage's naming rules prescribe."""
        scheme, separator, rest = self.path.partition("://")
        if not separator or scheme == "file":
            return "file", rest or self.path
        bucket, _, key = rest.rpartition("@")[2].partition("/")
        return f"{'s3' if scheme == 's3a' else scheme}://{bucket}", key.rstrip("/") or "/"

    def _open_table(self) -> tuple[FileStore, Publisher, Any, threading.Event]:
        _require_deltalake()
        from airflow_parallel_provider.sinks.files.store import FileStore
        from airflow_parallel_provider.sinks.lakes.arrow_types import DELTA
        from airflow_parallel_provider.sinks.lakes.delta.delta_publisher import DeltaPublisher
        from airflow_parallel_provider.sinks.lakes.delta.storage_options import storage_options, table_uri

        store, stopped = FileStore.of(self.path, self.conn_id, field="SinkDelta.path"), threading.Event()
        given = None if self.storage_options is None else dict(self.storage_options)

        def options() -> Mapping[str, str]:
            return storage_options(store) if given is None else given

        publisher = DeltaPublisher(
            table_uri(store, self.path),
            f"Delta table {self.path}",
            options,
            stopped.wait,
            merges=bool(self.primary_key),
        )
        return store, publisher, DELTA, stopped


def _require_deltalake() -> None:
    try:
        import deltalake  # noqa: F401  # only whether they are installed
        import pyarrow.parquet  # noqa: F401
    except ImportError:
        cure = "deltalake is not installed: pip install 'airflow-parallel-provider[delta]'"
        raise PlanError("Pipeline.sink", "SinkDelta", cure) from None
