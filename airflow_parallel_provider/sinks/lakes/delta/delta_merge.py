# SPDX-License-Identifier: Apache-2.0
"""A merge of all parts of a load into a Delta table, in one commit: the library's own ``MERGE``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_parallel_provider.sinks.lakes.merge import widened

if TYPE_CHECKING:
    from airflow_parallel_provider.sinks.lakes.merge import Merge
    from airflow_parallel_provider.sinks.lakes.publisher import Publication

_ROWS = 1_000_000
"""How many rows of the table are compared at once."""


def merge_parts(table: Any, publication: Publication, merge: Merge, properties: Any, name: str) -> None:
    """Merge the parts into a table.

    :param table: a ``DeltaTable``; the commit fails if it is not the newest version.
    :param properties: of the commit, without retries of its own.
    :param name: of the table, for errors.
    :raises SinkError: if two rows of the table have one key of the load.
    """
    import pyarrow as pa

    _require_once(table, merge, name)
    schema = publication.schema
    batches = (
        batch for file in publication.files for batch in widened(merge.folder.read(file.file), schema).to_batches()
    )
    names = {_quoted(field.name): f"source.{_quoted(field.name)}" for field in schema}
    # ``when_matched_update_all`` of the library fails for a column with a grave accent in its name.
    (
        table.merge(
            pa.RecordBatchReader.from_batches(schema, batches),
            _condition(merge),
            source_alias="source",
            target_alias="target",
            commit_properties=properties,
        )
        .when_matched_update(names)
        .when_not_matched_insert(names)
        .execute()
    )


def _condition(merge: Merge) -> str:
    """When two rows are the same, and which files of the table may have one."""
    same = [f"target.{_quoted(name)} = source.{_quoted(name)}" for name in merge.key]
    whole = {name: each for name, each in merge.bounds().items() if isinstance(each[0], int)}
    within = [f"target.{_quoted(name)} BETWEEN {low} AND {high}" for name, (low, high) in whole.items()]
    return " AND ".join([*same, *within])


def _require_once(table: Any, merge: Merge, name: str) -> None:
    """The library would put one row of the load in the place of both."""
    import pyarrow as pa
    import pyarrow.compute as pc

    within = [(pc.field(column) >= low) & (pc.field(column) <= high) for column, (low, high) in merge.bounds().items()]
    condition = None
    for each in within:
        condition = each if condition is None else condition & each
    found = table.to_pyarrow_dataset().scanner(columns=list(merge.key), filter=condition)
    numbers, waiting, rows = [], [], 0
    for batch in found.to_batches():
        waiting.append(batch)
        rows += len(batch)
        if rows >= _ROWS:
            numbers.append(merge.matches(pa.Table.from_batches(waiting))[1])
            waiting, rows = [], 0
    if rows:
        numbers.append(merge.matches(pa.Table.from_batches(waiting))[1])
    merge.require_once(numbers, name)


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
