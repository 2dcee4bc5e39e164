# SPDX-License-Identifier: Apache-2.0
"""The rows of a chunk by the partitions of an Iceberg table, as its spec says."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_parallel_provider.errors import SinkError

if TYPE_CHECKING:
    from pyiceberg.partitioning import PartitionField, PartitionSpec
    from pyiceberg.schema import Schema


@dataclass(frozen=True, slots=True)
class _Value:
    """One field of a spec."""

    column: str
    kind: Any
    """Iceberg's type of the column."""
    result: Any
    """Iceberg's type of the partition's value."""
    transform: Callable[[Any], Any]


class Partitions:
    """The partitions of a table.

    :param name: of the table, for people.
    :raises SinkError: if a part of the spec is not known here; names it.
    """

    def __init__(self, spec: PartitionSpec, schema: Schema, name: str) -> None:
        self._values = [_value_of(field, schema, name) for field in spec.fields]

    def split(self, table: Any) -> Iterator[tuple[list[Any], Any]]:
        """The rows of each partition, with its values, in the order in which the partitions come.

        :param table: of Arrow, with at least one row.
        """
        import pyarrow as pa

        if not self._values:
            yield [], table
            return
        numbers, found = [], []
        for value in self._values:
            each, results = _by_row(table.column(value.column), value)
            numbers.append(each)
            found.append(results)
        names = [str(n) for n in range(len(numbers))]
        keys = pa.table(numbers, names=names)
        rows = pa.table([*numbers, pa.array(range(len(table)), pa.int64())], names=[*names, "row"])
        groups = rows.group_by(names, use_threads=False).aggregate([("row", "list")])
        if len(groups) == 1:
            yield [found[n][keys.column(n)[0].as_py()] for n in range(len(found))], table
            return
        for group in range(len(groups)):
            of_partition = [found[n][groups.column(name)[group].as_py()] for n, name in enumerate(names)]
            yield of_partition, table.take(groups.column("row_list")[group].values)

    def noted(self, values: Sequence[Any]) -> list[str | None]:
        """The values of a partition as texts."""
        from pyiceberg.conversions import to_bytes

        return [
            None if value is None else base64.b64encode(to_bytes(each.result, value)).decode()
            for each, value in zip(self._values, values, strict=True)
        ]

    def values(self, noted: Sequence[str | None]) -> list[Any]:
        """The values of :meth:`noted` again."""
        from pyiceberg.conversions import from_bytes

        return [
            None if text is None else from_bytes(each.result, base64.b64decode(text))
            for each, text in zip(self._values, noted, strict=True)
        ]


def _value_of(field: PartitionField, schema: Schema, name: str) -> _Value:
    from pyiceberg.transforms import UnknownTransform

    found = schema.find_field(field.source_id)
    if isinstance(field.transform, UnknownTransform) or all(each.field_id != field.source_id for each in schema.fields):
        raise SinkError(
            f"{name} is partitioned by {field.name} ({field.transform} of {schema.find_column_name(field.source_id)}), "
            "which SinkIceberg does not do: partition it by a column that is in no struct, or write with SinkFiles and "
            "let the engine that owns the table insert the files"
        )
    kind = found.field_type
    return _Value(found.name, kind, field.transform.result_type(kind), field.transform.transform(kind))


def _by_row(column: Any, value: _Value) -> tuple[Any, list[Any]]:
    """For each row the number of its value, and the values; the transform is asked once for each value of a column."""
    import pyarrow as pa
    import pyarrow.compute as pc

    encoded = _physical(column).combine_chunks().dictionary_encode("encode")
    results: list[Any] = []
    places: dict[Any, int] = {}
    number_of = []
    for source in encoded.dictionary.to_pylist():
        result = value.transform(source)
        place = places.setdefault(result, len(results))
        if place == len(results):
            results.append(result)
        number_of.append(place)
    return pc.take(pa.array(number_of, pa.int32()), encoded.indices), results


def _physical(column: Any) -> Any:
    """Dates and times as the numbers that Iceberg has for them."""
    import pyarrow as pa
    from pyarrow import types

    if types.is_date(column.type):
        return column.cast(pa.int32())
    if types.is_timestamp(column.type) or types.is_time(column.type):
        return column.cast(pa.int64())
    if isinstance(column.type, pa.BaseExtensionType):
        return pa.chunked_array([chunk.storage for chunk in column.chunks], column.type.storage_type)
    return column
