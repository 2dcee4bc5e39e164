# SPDX-License-Identifier: Apache-2.0
"""The files of an Iceberg table that have rows with the keys of a load, written again without them.

``Table.upsert`` of ``pyiceberg`` compares rows one by one in Python, does not see that two files of the table have the
same key, and after a conflict adds the same rows to what is there then. Here the load's own parts become files of the
table as they are, and the files that have rows of the same keys are replaced, all in one snapshot.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from airflow_parallel_provider.errors import SchemaMismatch
from airflow_parallel_provider.sinks.lakes.lake_part import EncodedFile, PartFile
from airflow_parallel_provider.sinks.lakes.merge import count_up

if TYPE_CHECKING:
    from pyiceberg.table import FileScanTask, Table, Transaction

    from airflow_parallel_provider.sinks.lakes.merge import Merge

_Found = TypeVar("_Found")

_BYTES = 32 * 1024 * 1024
"""How large files are together that are read at once, as they are stored. A larger one is read alone."""


@dataclass(frozen=True, slots=True)
class Rewritten:
    """Files of the table, and those with their rows that stay."""

    old: list[Any]
    files: list[PartFile]


@dataclass(frozen=True, slots=True)
class _Hit:
    """A file of the table that has rows with keys of the load."""

    task: FileScanTask
    stays: Any
    """For each of its rows whether it has none."""


def rewritten(
    transaction: Transaction,
    table: Table,
    merge: Merge,
    encode: Callable[[Any], list[EncodedFile]],
    *,
    schema: Any,
    name: str,
) -> list[Rewritten]:
    """Write the files again that have rows with keys of the load; small ones become one.

    :param encode: makes files of an Arrow table.
    :param schema: of the parts, as Arrow.
    :param name: of the table, for errors.
    :raises SinkError: if two rows of the table have one key of the load.
    """
    import pyarrow as pa

    columns = transaction.table_metadata.schema()
    hits, numbers = list[_Hit](), list[Any]()
    for tasks in _groups(table.scan(row_filter=_within(merge)).plan_files(), lambda task: task):
        found = _read(transaction, table, tasks, columns.select(*merge.key))
        rows, of_keys = merge.matches(found)
        if len(rows):
            numbers.append(of_keys)
            hits += _hits(tasks, rows, len(found))
    merge.require_once(numbers, name)
    replaced: list[Rewritten] = []
    try:
        for group in _groups(hits, lambda hit: hit.task):
            whole = _read(transaction, table, [hit.task for hit in group], columns)
            stays = pa.chunked_array([hit.stays for hit in group])
            kept = whole.select(schema.names).filter(stays).cast(schema)
            files = merge.folder.write_merged(len(replaced), encode(kept)) if len(kept) else []
            replaced.append(Rewritten([hit.task.file for hit in group], files))
    except BaseException:
        merge.folder.remove([file for each in replaced for file in each.files])
        raise
    return replaced


def _groups(found: Iterable[_Found], task_of: Callable[[_Found], FileScanTask]) -> Iterator[list[_Found]]:
    """What is read at once. A file that rows were deleted from is read alone: how many are left is not known."""
    group: list[_Found] = []
    size = 0
    for each in found:
        task = task_of(each)
        size += task.file.file_size_in_bytes
        if group and (size > _BYTES or task.delete_files or task_of(group[-1]).delete_files):
            yield group
            group, size = [], task.file.file_size_in_bytes
        group.append(each)
    if group:
        yield group


def _hits(tasks: Sequence[FileScanTask], rows: Any, count: int) -> Iterator[_Hit]:
    """The files that have some of the rows, which are numbered through all of them."""
    import pyarrow.compute as pc

    stays = pc.invert(pc.is_in(count_up(count), value_set=rows.combine_chunks()))
    counts = [count] if len(tasks) == 1 else [task.file.record_count for task in tasks]
    start = 0
    for task, length in zip(tasks, counts, strict=True):
        own = stays.slice(start, length)
        start += length
        if own.false_count:
            yield _Hit(task, own)
    if start != count:
        raise ValueError(f"{len(tasks)} files have {count} rows, and {start} by the manifests")


def remove_files(snapshot: Any, replaced: list[Rewritten]) -> None:
    """Take files out of a table, in a snapshot of ``UpdateSnapshot.overwrite``."""
    from pyiceberg.expressions import AlwaysTrue

    snapshot.delete_by_predicate(AlwaysTrue())  # it looks for them in all manifests then
    for old in [old for each in replaced for old in each.old]:
        snapshot.delete_data_file(old)


def require_rewritable(schema: Any, name: str) -> None:
    """Refuse columns whose values are not the same after they were read and written again.

    :raises SchemaMismatch: names the column.
    """
    for field in schema:
        if _is_lossy(field.type):
            raise SchemaMismatch(
                f"{name}: column {field.name!r} is {field.type}. A merge writes rows of the table again, and pyiceberg "
                "reads a NULL in the place of a list or map of structs as an empty one: append or replace, or let the "
                "engine that owns the table merge"
            )


def _is_lossy(kind: Any, *, repeated: bool = False) -> bool:
    from pyarrow import types

    if types.is_struct(kind):
        return repeated or any(_is_lossy(field.type) for field in kind)
    if types.is_map(kind):
        return _is_lossy(kind.key_type, repeated=True) or _is_lossy(kind.item_type, repeated=True)
    if types.is_list(kind) or types.is_large_list(kind):
        return _is_lossy(kind.value_type, repeated=True)
    return False


def _within(merge: Merge) -> Any:
    """Which files may have a key of the load."""
    from pyiceberg.expressions import AlwaysTrue, And, GreaterThanOrEqual, LessThanOrEqual

    condition: Any = AlwaysTrue()
    for column, (low, high) in merge.bounds().items():
        condition = And(condition, GreaterThanOrEqual(column, low), LessThanOrEqual(column, high))  # type: ignore[call-arg,arg-type]
    return condition


def _read(transaction: Transaction, table: Table, tasks: Sequence[FileScanTask], columns: Any) -> Any:
    """The rows of files in their order, without those that the table has deleted from them."""
    from pyiceberg.expressions import AlwaysTrue
    from pyiceberg.io.pyarrow import ArrowScan

    return ArrowScan(transaction.table_metadata, table.io, columns, AlwaysTrue()).to_table(tasks)
