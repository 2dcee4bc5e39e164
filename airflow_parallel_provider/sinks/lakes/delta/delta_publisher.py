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
from airflow_parallel_provider.sinks.lakes.delta.delta_merge import merge_parts
from airflow_parallel_provider.sinks.lakes.lake_part import EncodedFile, PartFile
from airflow_parallel_provider.sinks.lakes.parquet_files import parquet_file, statistics_of
from airflow_parallel_provider.sinks.lakes.publisher import Publication, Publisher

_APP = "airflow-parallel-provider/"
_COPIED = "/copied"
"""After the id of a load whose rows were merged: then its parts are no files of the table."""
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
    :param merges: whether rows take the place of rows with the same keys.
    """

    def __init__(
        self,
        uri: str,
        name: str,
        options: Callable[[], Mapping[str, str]],
        stopped: Callable[[float], bool],
        *,
        merges: bool = False,
    ) -> None:
        super().__init__(name, stopped, merges=merges)
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

    def names_parts(self, load: str) -> bool:
        """Whether the files of the parts belong to the table; a merge copies their rows."""
        table = self._table()
        return table is None or table.transaction_version(_APP + load + _COPIED) is None

    def version(self) -> int | None:
        """The version that was last seen."""
        return self._version

    def _attempt_in(self, table: Any, load: str) -> int | None:
        found = table.transaction_version(_APP + load)
        return None if found is None else int(found)

    def _conflicts(self) -> tuple[type[Exception], ...]:
        from deltalake.exceptions import CommitFailedError

        return (CommitFailedError,)

    def _commit(self, table: Any, publication: Publication) -> None:
        """Commit the parts. Columns that the table lacks are added before, in a commit of their own."""
        import pyarrow as pa
        from deltalake import CommitProperties, Schema, Transaction
        from deltalake.transaction import create_table_with_add_actions

        schema, merge = publication.schema, publication.merge if table is not None else None
        adds = [_add_action(part) for part in publication.files]
        app = _APP + publication.load
        marks = [app] if merge is None else [app, app + _COPIED]
        properties = CommitProperties(
            custom_metadata={"parallel.load": publication.load},
            # A merge may go through only from the newest version: any other one may have got rows with its keys.
            max_commit_retries=None if merge is None else 0,
            app_transactions=[Transaction(each, publication.attempt) for each in marks],
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
        changes = "replace" if publication.replace else "merge" if merge is not None else None
        if changes and (table.metadata().configuration or {}).get("delta.appendOnly") == "true":
            raise SinkError(f"{self.name} is append-only (delta.appendOnly): write_disposition={changes!r} cannot be")
        found = self._schema_of(table)
        new = [] if schema is None else self._missing(schema, found, publication)
        if new:
            table.alter.add_columns(list(Schema.from_arrow(pa.schema(new)).fields))
        if merge is not None:
            merge_parts(table, publication, merge, properties, self.name)
            return
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
        features = _FEATURES - {"deletionVectors"} if self._merges else _FEATURES
        asked = _what_it_asks(metadata, protocol, table.schema(), features)
        if asked:
            raise SinkError(
                f"{self.name} {asked}, which SinkDelta does not do: use a table without it, or write with SinkFiles "
                "and let the engine that owns the table insert the files"
            )
        return pa.schema(table.schema().to_arrow())


def _what_it_asks(metadata: Any, protocol: Any, schema: Any, features: frozenset[str]) -> str:
    """What a table asks of the files of a writer; empty if nothing.

    :param features: that are no matter.
    """
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
    unknown = sorted(set(protocol.writer_features or ()) - features)
    return f"has the feature {unknown[0]}" if unknown else ""


def _add_action(part: PartFile) -> Any:
    from deltalake.transaction import AddAction

    statistics = json.dumps({"numRecords": part.rows, **part.notes["statistics"]})
    return AddAction(quote(part.file), part.bytes, {}, int(time.time() * 1000), True, statistics)
