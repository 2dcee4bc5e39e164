# SPDX-License-Identifier: Apache-2.0
"""Schemas of Iceberg tables as Arrow schemas that carry the numbers of the columns, and back.

Iceberg finds a column in a file by its number, not by its name. A new table numbers its columns from 1, each column
before the fields in it; a column that is added later gets the next numbers that the table has never used.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pyiceberg.schema import Schema
    from pyiceberg.table import Transaction

FIELD_ID = b"PARQUET:field_id"
"""Where an Arrow field has the number that is written into a Parquet file."""


def arrow_schema(schema: Schema) -> Any:
    """An Arrow schema with field numbers, and texts and bytes of the usual kind instead of the long one."""
    import pyarrow as pa
    from pyiceberg.io.pyarrow import schema_to_pyarrow

    return pa.schema([field.with_type(_small(field.type)) for field in schema_to_pyarrow(schema)])


def iceberg_schema(schema: Any) -> Schema:
    """The Iceberg schema of an Arrow schema with field numbers."""
    from pyiceberg.io.pyarrow import pyarrow_to_schema

    return pyarrow_to_schema(schema)


def numbered(schema: Any) -> Any:
    """An Arrow schema with the numbers that the columns of a new table get."""
    return arrow_schema(_fresh(schema))


def add_columns(transaction: Transaction, fields: Sequence[Any]) -> None:
    """Add columns in a transaction, one after the other; they get the next numbers.

    :param fields: of Arrow; numbers that they carry count for nothing.
    """
    import pyarrow as pa

    for field in fields:
        found = _fresh(pa.schema([field])).fields[0]
        with transaction.update_schema() as update:
            update.add_column((field.name,), found.field_type)


def first_columns(schema: Any) -> int:
    """How many columns of a new table's parts were in the first chunk; the others were added later."""
    import pyarrow as pa

    for count in range(len(schema), 1, -1):
        fields = [schema.field(n) for n in range(count)]
        if numbered(pa.schema(fields)).equals(pa.schema(fields), check_metadata=True):
            return count
    return 1


def _fresh(schema: Any) -> Schema:
    """As an Iceberg schema, with the numbers of a new table."""
    import pyarrow as pa
    from pyiceberg.schema import assign_fresh_schema_ids

    numbers = itertools.count(1)
    fields = [_with_type(field, lambda kind: _small(kind, numbers), numbers) for field in schema]
    return assign_fresh_schema_ids(iceberg_schema(pa.schema(fields)))


def _with_type(field: Any, change: Callable[[Any], Any], numbers: Iterator[int] | None) -> Any:
    changed = field.with_type(change(field.type))
    return changed if numbers is None else changed.with_metadata({FIELD_ID: str(next(numbers))})


def _small(kind: Any, numbers: Iterator[int] | None = None) -> Any:
    """A type with texts and bytes of the usual kind, at any depth.

    :param numbers: of all fields in it; None: they keep theirs.
    """
    import pyarrow as pa
    from pyarrow import types

    def inside(field: Any) -> Any:
        return _with_type(field, lambda kind: _small(kind, numbers), numbers)

    if types.is_large_string(kind):
        return pa.string()
    if types.is_large_binary(kind):
        return pa.binary()
    if types.is_struct(kind):
        return pa.struct([inside(kind.field(n)) for n in range(kind.num_fields)])
    if types.is_map(kind):
        return pa.map_(inside(kind.key_field), inside(kind.item_field))
    if types.is_large_list(kind) or types.is_list(kind):
        return pa.list_(inside(kind.value_field))
    return kind
