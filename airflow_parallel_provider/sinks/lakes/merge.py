# SPDX-License-Identifier: Apache-2.0
"""Rows by their keys: which of a load stay, and which of a table they take the place of.

The keys of the whole load are in memory (about 110 bytes a row where a key is a whole number), never all of its rows,
nor those of the table.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow_parallel_provider.errors import SchemaMismatch, SinkError
from airflow_parallel_provider.sinks.lakes.lake_part import EncodedFile, LakePart

if TYPE_CHECKING:
    from airflow_parallel_provider.sinks.lakes.part_folder import PartFolder

_ROW, _NUMBER = "row", "number"


@dataclass(frozen=True)
class Merge:
    """What a publication needs to know of rows that take the place of others."""

    key: tuple[str, ...]
    """Names of the columns."""
    keys: Any
    """Those of all rows of the load, each once: an Arrow table of :func:`keys_of`."""
    folder: PartFolder
    """Of the parts."""

    @cached_property
    def _numbered(self) -> Any:
        return self.keys.append_column(_NUMBER, count_up(len(self.keys)))

    def matches(self, found: Any) -> tuple[Any, Any]:
        """Which rows of an Arrow table have a key of the load: their places in it, and the keys' numbers.

        :param found: with the columns of the key at least.
        """
        import pyarrow as pa

        found = keys_of(found, self.key)
        columns = [column.cast(field.type) for column, field in zip(found.columns, self.keys.schema, strict=True)]
        found = pa.table([*columns, count_up(len(found))], names=[*self.keys.column_names, _ROW])
        both = found.join(self._numbered, self.keys.column_names, join_type="inner")
        return both.column(_ROW), both.column(_NUMBER)

    def require_once(self, numbers: Iterable[Any], name: str) -> None:
        """Check that no key of the load was found in two rows of the table.

        :param numbers: of :meth:`matches`, of all rows of the table.
        :param name: of the table.
        :raises SinkError: if one was.
        """
        import pyarrow as pa
        import pyarrow.compute as pc

        found = pa.chunked_array([chunk for each in numbers for chunk in each.chunks], pa.int64())
        twice = len(found) - pc.count_distinct(found).as_py()
        if twice:
            raise SinkError(
                f"{name}: {twice} rows of it have the same {' and '.join(self.key)} as another one, and the load has "
                "a row for them: which one it would take the place of is not known. Delete them first, or name a "
                "primary_key that makes the rows of the table unique"
            )

    def bounds(self) -> dict[str, tuple[Any, Any]]:
        """Smallest and largest value of the columns of the key whose order is the same for all who read the table."""
        import pyarrow.compute as pc
        from pyarrow import types

        found = {}
        for name, column in zip(self.key, self.keys.columns, strict=True):
            if types.is_integer(column.type) or types.is_date(column.type):
                both = pc.min_max(column).as_py()
                found[name] = (both["min"], both["max"])
        return found


def check_key_type(name: str, kind: Any) -> None:
    """Refuse a column of a key whose values cannot be compared without doubt.

    :raises SchemaMismatch: names it.
    """
    from pyarrow import types

    compared = (
        types.is_boolean, types.is_integer, types.is_decimal, types.is_string, types.is_binary,
        types.is_fixed_size_binary, types.is_date, types.is_timestamp, types.is_time,
    )  # fmt: skip
    if not any(is_kind(_storage(kind)) for is_kind in compared):
        raise SchemaMismatch(
            f"column {name!r} of primary_key is {kind}: a key is compared, and values of this type have no safe "
            "comparison. Use a column of whole numbers, decimals, texts, bytes, dates or times, or make one in a stage"
        )


def keys_of(table: Any, key: Sequence[str]) -> Any:
    """The columns of the key, with numbers as their names, which no other column has; UUIDs as their bytes."""
    import pyarrow as pa

    columns = []
    for name in key:
        column = table.column(name)
        kind = _storage(column.type)
        if kind != column.type:
            column = pa.chunked_array([chunk.storage for chunk in column.chunks], kind)
        columns.append(column)
    return pa.table(columns, names=[str(n) for n in range(len(columns))])


def widened(table: Any, schema: Any) -> Any:
    """A table that was read from a part, with the columns that were added later, too."""
    import pyarrow as pa

    there = set(table.column_names)
    columns = [
        table.column(field.name).cast(field.type) if field.name in there else pa.nulls(len(table), field.type)
        for field in schema
    ]
    return pa.Table.from_arrays(columns, schema=schema)


def last_of_each(keys: Any) -> Any:
    """For each row whether it is the last one with its key; None: no two rows have one key."""
    import pyarrow.compute as pc

    rows = count_up(len(keys))
    groups = keys.append_column(_ROW, rows).group_by(keys.column_names, use_threads=False).aggregate([(_ROW, "max")])
    return None if len(groups) == len(keys) else pc.is_in(rows, value_set=groups.column(f"{_ROW}_max"))


def newest_rows(
    parts: Sequence[LakePart], key: tuple[str, ...], folder: PartFolder, encode: Callable[[Any], list[EncodedFile]]
) -> tuple[list[LakePart], Merge]:
    """The parts without the rows that a later chunk has a row for; those that had some are written again.

    :param parts: at least one with rows, in the order of the source. No chunk has two rows with one key.
    :param encode: makes files of a table that was read from a part.
    :raises FileNotFoundError: if a part is gone.
    """
    import pyarrow as pa

    keys = pa.concat_tables([keys_of(folder.read(file.file, key), key) for part in parts for file in part.part_files()])
    last = last_of_each(keys)
    if last is None:
        return list(parts), Merge(key, keys, folder)
    kept, start = [], 0
    for part in parts:
        files: list[dict[str, Any]] = []
        for number, file in enumerate(part.part_files()):
            mask = last.slice(start, file.rows)
            start += file.rows
            if mask.false_count:
                rows = folder.read(file.file).filter(mask)
                encoded = encode(rows) if len(rows) else []
                files += [each.as_dict() for each in folder.write(f"{part.chunk_id}-m{number}", encoded)]
            else:
                files.append(file.as_dict())
        kept.append(replace(part, files=files))
    return kept, Merge(key, keys.filter(last), folder)


def _storage(kind: Any) -> Any:
    import pyarrow as pa

    return kind.storage_type if isinstance(kind, pa.BaseExtensionType) else kind


def count_up(rows: int) -> Any:
    """The numbers from 0."""
    import pyarrow as pa
    import pyarrow.compute as pc

    return pc.subtract(pc.cumulative_sum(pa.repeat(pa.scalar(1, pa.int64()), rows)), 1)
