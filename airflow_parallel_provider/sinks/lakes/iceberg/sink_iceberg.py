# SPDX-License-Identifier: Apache-2.0
"""``SinkIceberg``: an Iceberg table that receives all rows of a load in one commit, once."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import urlparse

from airflow_parallel_provider.checks import check_text
from airflow_parallel_provider.errors import PlanError
from airflow_parallel_provider.sinks.lakes.lake_sink import LakeSink, pairs_of

if TYPE_CHECKING:
    from airflow_parallel_provider.sinks.files.store import FileStore
    from airflow_parallel_provider.sinks.lakes.publisher import Publisher


@dataclass(unsafe_hash=True)  # only templates change, before a run
class SinkIceberg(LakeSink):
    """An Iceberg table that receives the rows of a load in one commit, when all of them are written.

    ::

        SinkIceberg("sales.orders", conn_id="iceberg", write_disposition="append")

    Each chunk becomes a Parquet file in the table's folder (one for each partition that it has rows of), which belongs
    to no snapshot yet. The end of the load publishes all of them in one commit, which carries the load's id: readers
    see none of its rows or all of them, and a load is in the table once, whatever dies and however many attempts
    overlap. A retry skips the chunks that were noted; a load whose id is in the table skips all. A table that does not
    exist is created with the rows, from the columns of the first chunk, without partitions.

    A merge takes the keys of the whole load into memory, and rewrites the files of the table that have one.

    Known limitations: nothing is seen before the load is complete. Tables of format version 3 are
    refused. Dead letters and rejected rows are files next to the data, and cannot be replayed. Each load leaves a
    property in the table (``parallel.load.<id>``, about 50 bytes), which says that it is in. SQL catalogues (SQLite,
    PostgreSQL) with local folders and S3 (moto) were run, and REST against a server of the tests; REST catalogues of a
    vendor and other storages were not. The file of a chunk is built in memory.

    :raises PlanError: for an invalid argument; names it.
    """

    own_name: ClassVar[str] = "SinkIceberg"
    format_name: ClassVar[str] = "iceberg"
    template_fields: ClassVar[tuple[str, ...]] = ("table", "conn_id", "catalog", "location")
    """What Airflow renders when the sink is in a template field of an operator."""

    table: str
    """Name of the table in the catalogue, with its namespace: ``sales.orders``."""
    _: KW_ONLY
    conn_id: str | None = None
    """Airflow connection of the catalogue: of type ``iceberg`` (REST; host, login and password, further properties in
    the extra), ``postgres`` or ``sqlite`` (a SQL catalogue in that database)."""
    catalog: str | Mapping[str, str] = field(default="default", repr=False)
    """Name of a catalogue in the settings of ``pyiceberg``, or properties of one, its ``name`` among them. With
    ``conn_id`` they are added to those of the connection, and may name no address: ``{"warehouse": "s3://lake"}``."""
    location: str | None = None
    """Folder of a new table. None: the catalogue decides. Needed where a catalogue gives another one each time it is
    asked: else a retry writes all parts again."""

    def __post_init__(self) -> None:
        """Check and normalize."""
        check_text("SinkIceberg.table", self.table)
        if not all(part.strip() for part in self.table.split(".")) or "." not in self.table:
            raise PlanError("SinkIceberg.table", self.table, "write the namespace, too: 'sales.orders'")
        check_text("SinkIceberg.location", self.location, optional=True)
        super().__post_init__()
        if isinstance(self.catalog, Mapping | tuple):
            cure = "give a name, or a mapping of texts by the names that pyiceberg has for them"
            self.catalog = pairs_of(self.catalog, "SinkIceberg.catalog", cure)
        else:
            check_text("SinkIceberg.catalog", self.catalog)

    def describe(self) -> str:
        """Where the rows go."""
        return f"Iceberg table {self.table} ({self.write_disposition})"

    @property
    def dataset(self) -> tuple[str, str]:
        """Namespace and name of the table, for lineage: the catalogue, and the name in it."""
        named = self.catalog if isinstance(self.catalog, str) else dict(self.catalog).get("name", "default")
        return f"iceberg://{self.conn_id or named}", self.table

    def _open_table(self) -> tuple[FileStore, Publisher, Any, threading.Event]:
        _require_pyiceberg()
        from pyiceberg.io.fsspec import FsspecFileIO

        from airflow_parallel_provider.sinks.files.store import FileStore
        from airflow_parallel_provider.sinks.lakes.arrow_types import ICEBERG
        from airflow_parallel_provider.sinks.lakes.iceberg.catalogs import open_catalog
        from airflow_parallel_provider.sinks.lakes.iceberg.iceberg_publisher import IcebergPublisher

        stopped = threading.Event()
        given = self.catalog if isinstance(self.catalog, str) else dict(self.catalog)
        catalog = open_catalog(given, self.conn_id)
        merges = bool(self.primary_key)
        publisher = IcebergPublisher(catalog, self.table, self.location, stopped.wait, merges=merges)
        place = publisher.data_path
        try:
            address = urlparse(place)
            system = FsspecFileIO(publisher.io_properties).get_fs(address.scheme or "file", address.hostname)
        except Exception as error:
            raise PlanError(
                "SinkIceberg.table", self.table, f"its folder {place} cannot be opened ({error})"
            ) from error
        store = FileStore(system, str(system._strip_protocol(place)).rstrip("/"), f"{self.table} ({place})")
        return store, publisher, ICEBERG, stopped


def _require_pyiceberg() -> None:
    try:
        import pyiceberg.catalog.sql
        import pyiceberg.io.fsspec
        import pyiceberg.io.pyarrow  # noqa: F401  # only whether they are installed
    except ImportError:
        cure = "pyiceberg is not installed: pip install 'airflow-parallel-provider[iceberg]'"
        raise PlanError("Pipeline.sink", "SinkIceberg", cure) from None
