# SPDX-License-Identifier: Apache-2.0
"""Publication in an Iceberg table: one commit with all parts and the load's id, unless the load is in already.

pyiceberg tries a commit that was overtaken again by adding the same files to what is there now, so a load that another
attempt has published would be in twice. Its retries are switched off on the loaded table object; the publisher looks
again itself. The catalogue takes a commit only if the table's newest snapshot is the one that was looked at.

The id is in the summary of the snapshot, and in a property of the table, which outlives the snapshot.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from airflow_parallel_provider.errors import SchemaMismatch, SinkError
from airflow_parallel_provider.sinks.lakes.iceberg.data_files import data_file, notes_of
from airflow_parallel_provider.sinks.lakes.iceberg.field_ids import (
    FIELD_ID,
    add_columns,
    arrow_schema,
    first_columns,
    iceberg_schema,
    numbered,
)
from airflow_parallel_provider.sinks.lakes.iceberg.partitions import Partitions
from airflow_parallel_provider.sinks.lakes.iceberg.rewrites import (
    Rewritten,
    remove_files,
    require_rewritable,
    rewritten,
)
from airflow_parallel_provider.sinks.lakes.lake_part import EncodedFile, PartFile
from airflow_parallel_provider.sinks.lakes.parquet_files import parquet_file
from airflow_parallel_provider.sinks.lakes.publisher import Publication, Publisher, brief

if TYPE_CHECKING:
    from pyiceberg.catalog import Catalog
    from pyiceberg.table import Table, Transaction

_MARK = "parallel.load."
"""Beginning of the property of a load; its value is the number of the try, in hexadecimal digits."""
_SUMMARY = ("parallel.load", "parallel.try")


class IcebergPublisher(Publisher):
    """One Iceberg table.

    :param catalog: where it is.
    :param identifier: its name there.
    :param location: of a new table.
    :param stopped: waits so many seconds; returns whether the run was asked to stop.
    :param merges: whether rows take the place of rows with the same keys.
    """

    def __init__(
        self,
        catalog: Catalog,
        identifier: str,
        location: str | None,
        stopped: Callable[[float], bool],
        *,
        merges: bool = False,
    ) -> None:
        super().__init__(f"Iceberg table {identifier}", stopped, merges=merges)
        self._catalog = catalog
        self._identifier = identifier
        self._version: int | None = None
        self._known: Table | None = None
        """The table as it was last loaded."""
        self._planned = _plan(_one_column(), {})
        self._location = location
        self._location = self._find_location()
        self.data_path = f"{self._location.rstrip('/')}/data"
        """Address of the folder of the parts."""
        if self._known is not None:
            self.data_path = str(self._known.location_provider().data_path)

    @property
    def io_properties(self) -> dict[str, str]:
        """How the table's files are reached."""
        return dict(self._catalog.properties if self._known is None else self._known.io.properties)

    def _find_location(self) -> str:
        table = self._table()
        if table is not None:
            return str(table.location())
        try:
            self._make_namespace()
            return str(self._staged(_one_column()).table_metadata.location)
        except Exception as error:
            raise SinkError(
                f"{self.name}: there is no such table, and its folder cannot be determined ({brief(error)}): give "
                "SinkIceberg(location=...), or set 'warehouse' among the properties of the catalogue"
            ) from error

    def _make_namespace(self) -> None:
        namespace = self._catalog.namespace_from(self._identifier)
        try:
            self._catalog.create_namespace_if_not_exists(namespace)
        except Exception:
            if not self._catalog.namespace_exists(namespace):  # else another attempt has been faster
                raise

    def _staged(self, schema: Any) -> Transaction:
        return self._catalog.create_table_transaction(self._identifier, schema, location=self._location)

    def schema(self) -> Any:
        """See :class:`~airflow_parallel_provider.sinks.lakes.publisher.Publisher`."""
        table = self._table()
        return None if table is None else self._schema_of(table)

    def new_schema(self, schema: Any) -> Any:
        """With the numbers that the columns of a new table get."""
        if self._merges:
            require_rewritable(schema, self.name)
        return numbered(schema)

    def with_columns(self, schema: Any, fields: Sequence[Any]) -> Any:
        """With further columns, and the numbers that they get if nobody changes the table meanwhile."""
        import pyarrow as pa

        table = self._table()
        transaction = self._new_table(schema) if table is None else table.transaction()
        there = set(transaction.table_metadata.schema().column_names)
        add_columns(transaction, [field for field in [*schema, *fields] if field.name not in there])
        now = arrow_schema(transaction.table_metadata.schema())
        if self._merges:
            require_rewritable(now, self.name)
        return pa.schema([*schema, *(now.field(field.name) for field in fields)])

    def _new_table(self, schema: Any) -> Transaction:
        """A transaction that makes a table whose columns have the numbers of the parts'."""
        import pyarrow as pa

        first = first_columns(schema)
        fields = list(schema)
        self._make_namespace()
        transaction = self._staged(iceberg_schema(pa.schema(fields[:first])))
        add_columns(transaction, fields[first:])
        return transaction

    def encode(self, table: Any) -> list[EncodedFile]:
        """One file, or one for each partition that there are rows of."""
        from pyiceberg.io.pyarrow import data_file_statistics_from_parquet_metadata

        known = self._known
        properties = {} if known is None else known.properties
        if not self._planned[0].equals(table.schema, check_metadata=True):
            self._planned = _plan(table.schema, properties)
        _, plan, ids = self._planned
        partitions, spec = self._partitions(known), 0 if known is None else known.spec().spec_id
        encoded = []
        for values, rows in partitions.split(table):
            data, footer = parquet_file(rows, store_decimal_as_integer=True, **_compression(properties))
            found = data_file_statistics_from_parquet_metadata(footer, plan, ids).to_serialized_dict()
            encoded.append(EncodedFile(data, rows.num_rows, notes_of(found, spec, partitions.noted(values))))
        return encoded

    def _partitions(self, table: Table | None) -> Partitions:
        from pyiceberg.partitioning import UNPARTITIONED_PARTITION_SPEC
        from pyiceberg.schema import Schema

        if table is None:
            return Partitions(UNPARTITIONED_PARTITION_SPEC, Schema(), self.name)
        return Partitions(table.spec(), table.schema(), self.name)

    def version(self) -> int | None:
        """The number of the snapshot that was last seen."""
        return self._version

    def close(self) -> None:
        """Let go of the catalogue's connections."""
        self._catalog.close()

    def _attempt_in(self, table: Table, load: str) -> int | None:
        mark = table.properties.get(_MARK + load)
        for snapshot in () if mark is not None else table.snapshots():
            found = {} if snapshot.summary is None else snapshot.summary.additional_properties
            if found.get(_SUMMARY[0]) == load:
                mark = found[_SUMMARY[1]]
        return None if mark is None else int(mark, 16)

    def _conflicts(self) -> tuple[type[Exception], ...]:
        from pyiceberg.exceptions import CommitFailedException, TableAlreadyExistsError

        return CommitFailedException, TableAlreadyExistsError

    def _commit(self, table: Table | None, publication: Publication) -> None:
        schema = publication.schema
        if table is None:
            if schema is None:
                return  # no rows, and no table: there are no columns to make one of
            transaction = self._new_table(schema)
        else:
            missing = [] if schema is None else self._missing(schema, self._schema_of(table), publication)
            table.metadata = table.metadata.model_copy(
                update={"properties": {**table.properties, "commit.retry.num-retries": "0"}}
            )
            transaction = table.transaction()
            add_columns(transaction, missing)
        self._require_ids(schema, transaction)
        mark = f"{publication.attempt:08x}"
        transaction.set_properties({_MARK + publication.load: mark})
        summary = dict(zip(_SUMMARY, (publication.load, mark), strict=True))
        if publication.replace and table is not None:
            from pyiceberg.expressions import AlwaysTrue

            transaction.delete(AlwaysTrue(), snapshot_properties=summary)
        merge, replaced = publication.merge, list[Rewritten]()
        if merge is not None and table is not None:
            replaced = rewritten(transaction, table, merge, self.encode, schema=schema, name=self.name)
        made = [file for each in replaced for file in each.files]
        update = transaction.update_snapshot(snapshot_properties=summary)
        with update.overwrite() if replaced else update.fast_append() as snapshot:
            if replaced:
                remove_files(snapshot, replaced)
            for each in self._data_files([*made, *publication.files], table):
                snapshot.append_data_file(each)
        try:
            transaction.commit_transaction()
        except self._conflicts():
            if merge is not None:
                merge.folder.remove(made)
            raise

    def _require_ids(self, parts: Any, transaction: Transaction) -> None:
        """Check that columns have the numbers in the table that they have in the parts.

        :raises SchemaMismatch: if a column that was to be added has another one now.
        """
        there = arrow_schema(transaction.table_metadata.schema())
        for field in parts or ():
            if not there.field(field.name).equals(field, check_metadata=False) or (
                there.field(field.name).metadata != field.metadata
            ):
                raise self._changed(field, "would be another column now")

    def _data_files(self, files: Sequence[PartFile], table: Table | None) -> list[Any]:
        spec, partitions = 0 if table is None else table.spec().spec_id, self._partitions(table)
        if any(each.notes["spec"] != spec for each in files):
            raise SchemaMismatch(
                f"{self.name}: its partitions were changed since the parts of the load were written. Delete the "
                "load's _progress file to write its parts again"
            )
        return [data_file(each, self.data_path, partitions) for each in files]

    def _table(self) -> Table | None:
        from pyiceberg.exceptions import NoSuchNamespaceError, NoSuchTableError

        try:
            table = self._catalog.load_table(self._identifier)
        except (NoSuchTableError, NoSuchNamespaceError):
            return None
        except Exception as error:
            raise self._failed(error) from error
        snapshot = table.current_snapshot()
        self._known, self._version = table, None if snapshot is None else snapshot.snapshot_id
        return table

    def _schema_of(self, table: Table) -> Any:
        """The schema of a table that takes parts.

        :raises SinkError: if it asks of files what is not done here; names it and the cure.
        """
        if table.format_version > 2:
            raise SinkError(
                f"{self.name} has format version {table.format_version}, which SinkIceberg was never run with: use a "
                "table of version 2"
            )
        self._partitions(table)
        schema = arrow_schema(table.schema())
        if self._merges:
            require_rewritable(schema, self.name)
        return schema


def _plan(schema: Any, properties: Any) -> tuple[Any, Any, Any]:
    """For parts with a schema: the schema, which statistics are wanted, and the numbers of the columns in a file."""
    from pyiceberg.io.pyarrow import compute_statistics_plan, parquet_path_to_id_mapping

    found = iceberg_schema(schema)
    return schema, compute_statistics_plan(found, properties), parquet_path_to_id_mapping(found)


def _one_column() -> Any:
    import pyarrow as pa

    return pa.schema([pa.field("n", pa.int64(), metadata={FIELD_ID: "1"})])


def _compression(properties: Any) -> dict[str, Any]:
    """As the table's properties say, and Iceberg's default."""
    codec = properties.get("write.parquet.compression-codec", "zstd")
    level = properties.get("write.parquet.compression-level")
    return {
        "compression": "none" if codec == "uncompressed" else codec,
        "compression_level": None if level is None else int(level),
    }
