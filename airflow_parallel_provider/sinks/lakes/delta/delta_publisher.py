# SPDX-License-Identifier: Apache-2.0
"""Publication in a Delta table: one commit with all parts and the load's id, under optimistic concurrency.

The id is an application transaction of the table (``txn``), which outlives compaction, checkpoints and old versions.
delta-rs does not compare it with what is committed, so the publisher looks, and commits *from the table object that it
has looked at*: if another commit has been faster, and carries the same id, this one fails; then it looks again.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import quote

from airflow_parallel_provider.errors import SinkError
from airflow_parallel_provider.sinks.lakes.lake_part import EncodedFile, PartFile
from airflow_parallel_provider.sinks.lakes.parquet_files import parquet_file, statistics_of
from airflow_parallel_provider.sinks.lakes.publisher import Overtaken, Publication, Publisher

_APP = "airflow-parallel-provider/"
_FEATURES = frozenset(
    {
        "appendOnly", "invariants", "checkConstraints", "changeDataFeed", "generatedColumns", "timestampNtz",
        "deletionVectors", "v2Checkpoint", "vacuumProtocolCheck",
    }
)  # fmt: skip
"""Features of a table that ask nothing of added files, or whose use in the table is looked at."""


class DeltaPublisher(Publisher):
    """One Delta table.

    :param uri: address of its folder.
    :param name: for people.
    :param options: returns the storage options of ``deltalake``; called before each look, as credentials may expire.
    :param stopped: waits so many seconds; returns whether the run was asked to stop.
    """

    def __init__(
        self, uri: str, name: str, options: Callable[[], Mapping[str, str]], stopped: Callable[[float], bool]
    ) -> None:
        super().__init__(name, stopped)
        self._uri = uri
        self._options = options
        self._version: int | None = None

    def schema(self) -> Any:
        """See :class:`~airflow_parallel_provider.sinks.lakes.publisher.Publisher`."""
        table = self._table()
        return None if table is None else self._schema_of(table)

    def new_schema(self, schema: Any) -> Any:
        """The same."""
        return schema

    def with_columns(self, schema: Any, fields: Sequence[Any]) -> Any:
        """The same with further columns."""
        import pyarrow as pa

        return pa.schema([*schema, *fields])

    def encode(self, table: Any) -> list[EncodedFile]:
        """One file."""
        data, footer = parquet_file(table)
        return [EncodedFile(data, table.num_rows, {"statistics": statistics_of(footer, table.schema)})]

    def published(self, load: str) -> int | None:
        """The number of the try that has published a load."""
        table = self._table()
        return None if table is None else _attempt_in(table, load)

    def version(self) -> int | None:
        """The version that was last seen."""
        return self._version

    def _try_to_publish(self, publication: Publication) -> int:
        from deltalake.exceptions import CommitFailedError, DeltaError

        table = self._table()
        found = None if table is None else _attempt_in(table, publication.load)
        if found is not None:
            return found
        try:
            self._commit(table, publication)
        except CommitFailedError as error:
            raise Overtaken(str(error)) from error
        except DeltaError as error:
            if table is not None or self._table() is None:
                raise self._failed(error) from error
            raise Overtaken("another attempt has created the table") from error
        self._table()
        return publication.attempt

    def _commit(self, table: Any, publication: Publication) -> None:
        """Commit the parts. Columns that the table lacks are added before, in a commit of their own."""
        import pyarrow as pa
        from deltalake import CommitProperties, Schema, Transaction
        from deltalake.transaction import create_table_with_add_actions

        schema = publication.schema
        adds = [_add_action(part) for part in publication.files]
        properties = CommitProperties(
            custom_metadata={"parallel.load": publication.load},
            app_transactions=[Transaction(_APP + publication.load, publication.attempt)],
        )
        if table is None:
            if schema is None:
                return  # no rows, and no table: there are no columns to make one of
            create_table_with_add_actions(
                self._uri,
                Schema.from_arrow(schema),
                adds,
                mode="error",
                storage_options=dict(self._options()),
                commit_properties=properties,
            )
            return
        if publication.replace and (table.metadata().configuration or {}).get("delta.appendOnly") == "true":
            raise SinkError(f"{self.name} is append-only (delta.appendOnly): write_disposition='replace' cannot be")
        found = self._schema_of(table)
        new = [] if schema is None else self._missing(schema, found, publication)
        if new:
            table.alter.add_columns(list(Schema.from_arrow(pa.schema(new)).fields))
        mode = "overwrite" if publication.replace else "append"
        table.create_write_transaction(adds, mode, table.schema(), commit_properties=properties)

    def _table(self) -> Any:
        from deltalake import DeltaTable
        from deltalake.exceptions import DeltaError, TableNotFoundError

        try:
            table = DeltaTable(self._uri, storage_options=dict(self._options()))
        except TableNotFoundError:
            return None
        except (DeltaError, OSError) as error:
            raise self._failed(error) from error
        self._version = table.version()
        return table

    def _schema_of(self, table: Any) -> Any:
        """The schema of a table that takes parts.

        :raises SinkError: if it asks of files what is not done here; names it and the cure.
        """
        import pyarrow as pa

        metadata, protocol = table.metadata(), table.protocol()
        asked = _what_it_asks(metadata, protocol, table.schema())
        if asked:
            raise SinkError(
                f"{self.name} {asked}, which SinkDelta does not do: use a table without it, or write with SinkFiles "
                "and let the engine that owns the table insert the files"
            )
        return pa.schema(table.schema().to_arrow())


def _what_it_asks(metadata: Any, protocol: Any, schema: Any) -> str:
    """What a table asks of the files of a writer; empty if nothing."""
    configuration = metadata.configuration or {}
    if metadata.partition_columns:
        return f"is partitioned by {', '.join(metadata.partition_columns)}"
    if configuration.get("delta.columnMapping.mode", "none") != "none":
        return "maps the names of its columns (delta.columnMapping.mode)"
    constraints = [name for name in configuration if name.startswith("delta.constraints.")]
    if constraints:
        return f"checks its rows ({constraints[0]})"
    for each in schema.fields:
        found = [name for name in each.metadata or {} if name.startswith(("delta.invariants", "delta.generation"))]
        found += [name for name in each.metadata or {} if name.startswith("delta.identity")]
        if found:
            return f"computes or checks column {each.name!r} ({found[0]})"
    unknown = sorted(set(protocol.writer_features or ()) - _FEATURES)
    return f"has the feature {unknown[0]}" if unknown else ""


def _attempt_in(table: Any, load: str) -> int | None:
    found = table.transaction_version(_APP + load)
    return None if found is None else int(found)


def _add_action(part: PartFile) -> Any:
    from deltalake.transaction import AddAction

    statistics = json.dumps({"numRecords": part.rows, **part.notes["statistics"]})
    return AddAction(quote(part.file), part.bytes, {}, int(time.time() * 1000), True, statistics)
