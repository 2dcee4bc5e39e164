# SPDX-License-Identifier: Apache-2.0
"""Arrow types and those of lake tables: what is kept as it is, what is widened or written as text, what is refused.

======================================  ==================================  ==========================================
Arrow                                   Delta                               Iceberg
======================================  ==================================  ==========================================
bool, int32, int64, float, double       the same                            the same
int8, int16                             the same                            int
uint8, uint16, uint32                   the next larger signed integer      the next larger signed integer, int at least
uint64                                  long; a value beyond it is refused  as Delta
half float                              float                               float
decimal up to 38 digits                 the same; more digits are refused   as Delta
string, binary in their forms           string, binary                      as Delta
binary of a fixed size                  binary                              fixed
dictionary                              the type of the values              as Delta
date32, date64                          date                                date
timestamp with a zone                   timestamp (UTC): the same instant   timestamptz, the same
timestamp without a zone                timestamp_ntz                       timestamp
timestamp in nanoseconds                microseconds; a value that would    as Delta
                                        be cut is refused
time                                    text, ``HH:MM:SS.ffffff``           time, in microseconds
uuid                                    text                                uuid
list, struct, map                       the same, by the types in them      as Delta
a column of None                        string in a new table, else what the table has
duration, interval, union, run-end      refused
======================================  ==================================  ==========================================
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from airflow_parallel_provider.errors import SchemaMismatch
from airflow_parallel_provider.sinks.files.exact_casts import NotExact, exact_cast, is_binary

_DIGITS = 38


@dataclass(frozen=True, slots=True)
class TypeRules:
    """What one table format does with Arrow types."""

    format: str
    """For people."""
    least_bits: int
    """Of an integer."""
    has_times: bool
    """Whether it has a type for times of day; else they are texts."""
    has_fixed: bool
    """Whether it has a type for bytes of a fixed size, and one for UUIDs."""

    def adapt(self, table: Any, where: str) -> Any:
        """An Arrow table with types that the format has, and the same values.

        :param where: which chunk, for errors.
        :raises SchemaMismatch: names the column.
        """
        import pyarrow as pa

        columns, fields = [], []
        for field, column in zip(table.schema, table.columns, strict=True):
            try:
                kind = self.type_of(field.type)
                columns.append(column if kind == field.type else _cast(column, kind))
            except (NotExact, pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
                reason = str(error) if isinstance(error, NotExact) else "a value does not fit"
                raise SchemaMismatch(
                    f"{where}: column {field.name!r} ({field.type}) cannot be written to {self.format} "
                    f"unchanged ({reason}): convert it in a stage"
                ) from None
            fields.append(pa.field(field.name, kind))
        return pa.Table.from_arrays(columns, schema=pa.schema(fields))

    def type_of(self, kind: Any) -> Any:  # noqa: C901, PLR0911, PLR0912  # one line for each line of the table above
        """The Arrow type that the format keeps values of another one in.

        :raises NotExact: if there is none.
        """
        import pyarrow as pa
        from pyarrow import types

        if types.is_boolean(kind) or types.is_float32(kind) or types.is_float64(kind):
            return kind
        if types.is_integer(kind):
            bits = kind.bit_width * (1 if types.is_signed_integer(kind) else 2)
            return {8: pa.int8(), 16: pa.int16(), 32: pa.int32()}.get(max(bits, self.least_bits), pa.int64())
        if types.is_float16(kind):
            return pa.float32()
        if types.is_decimal(kind):
            if kind.precision > _DIGITS:
                raise NotExact(f"more than {_DIGITS} digits")
            return pa.decimal128(kind.precision, kind.scale)
        if types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind) or types.is_null(kind):
            return pa.string()
        if types.is_fixed_size_binary(kind) and self.has_fixed:
            return kind
        if is_binary(kind):
            return pa.binary()
        if _is_uuid(kind):
            return kind if self.has_fixed else pa.string()
        if types.is_dictionary(kind):
            return self.type_of(kind.value_type)
        if types.is_date(kind):
            return pa.date32()
        if types.is_timestamp(kind):
            return pa.timestamp("us", None if kind.tz is None else "UTC")
        if types.is_time(kind):
            return pa.time64("us") if self.has_times else pa.string()
        if types.is_map(kind):
            return pa.map_(self._inside(kind.key_type), self._inside(kind.item_type))
        if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
            return pa.list_(self._inside(kind.value_type))
        if types.is_struct(kind):
            return pa.struct([pa.field(field.name, self._inside(field.type)) for field in kind])
        raise NotExact(f"{self.format.removesuffix(' table').split()[-1]} has no such type")

    def _inside(self, kind: Any) -> Any:
        from pyarrow import types

        if types.is_time(kind) and not self.has_times:
            raise NotExact("a time inside a list, map or struct")
        if _is_uuid(kind) and not self.has_fixed:
            raise NotExact("a UUID inside a list, map or struct")
        return self.type_of(kind)


DELTA = TypeRules("a Delta table", least_bits=8, has_times=False, has_fixed=False)
ICEBERG = TypeRules("an Iceberg table", least_bits=32, has_times=True, has_fixed=True)


def _cast(column: Any, kind: Any) -> Any:
    import pyarrow as pa
    from pyarrow import types

    found = column.type
    if types.is_time(found) and types.is_string(kind):
        times = column.cast(pa.time64("us"), safe=True).to_pylist()
        texts = [None if value is None else value.isoformat("microseconds") for value in times]
        return pa.chunked_array([pa.array(texts, pa.string())])
    if _is_uuid(found):
        return pa.chunked_array([pa.array([None if each is None else str(each) for each in column.to_pylist()], kind)])
    if types.is_dictionary(found):
        column = column.cast(found.value_type)
        return column if column.type == kind else _cast(column, kind)
    return column.cast(kind, safe=True)


def fitted(table: Any, schema: Any, where: str) -> Any:
    """A table of :meth:`TypeRules.adapt` with the types that the lake table has.

    :param schema: of the lake table, as Arrow; its columns are those of the table, in this order.
    :raises SchemaMismatch: names the column.
    """
    import pyarrow as pa

    columns = []
    for field, column in zip(schema, table.columns, strict=True):
        try:
            columns.append(_fitted_column(column, field.type))
        except (NotExact, pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            reason = str(error) if isinstance(error, NotExact) else "a value does not fit"
            raise SchemaMismatch(
                f"{where}: column {field.name!r} is {field.type} in the table and {column.type} in the rows, and "
                f"cannot become it unchanged ({reason}): convert it in a stage"
            ) from None
        if not field.nullable and columns[-1].null_count:
            raise SchemaMismatch(f"{where}: column {field.name!r} takes no NULL, and the rows have one or lack it")
        if columns[-1].null_count < len(columns[-1]) and _has_null_inside(columns[-1]):
            raise SchemaMismatch(f"{where}: column {field.name!r} ({field.type}) takes no NULL in its values")
    return pa.Table.from_arrays(columns, schema=schema)


def _has_null_inside(column: Any) -> bool:
    """Whether a list or map has a NULL that its type does not allow. Arrow looks only into structs.

    A map with a NULL as its key cannot be made.
    """
    import pyarrow as pa
    import pyarrow.compute as pc
    from pyarrow import types

    kind = column.type
    if types.is_struct(kind):
        return any(_has_null_inside(pc.struct_field(column.drop_null(), [n])) for n in range(kind.num_fields))
    if types.is_map(kind):
        chunks = [chunk.drop_null() for chunk in column.chunks]
        found = pa.chunked_array([pa.concat_arrays([each]).items for each in chunks], kind.item_type)
        field = kind.item_field
    elif types.is_list(kind):
        found, field = pc.list_flatten(column), kind.value_field
    else:
        return False
    return bool(not field.nullable and found.null_count) or _has_null_inside(found)


def _fitted_column(column: Any, kind: Any) -> Any:
    import pyarrow as pa
    from pyarrow import types

    if not (_is_uuid(kind) and types.is_string(column.type)):
        return exact_cast(column, kind)
    return pa.chunked_array([pa.array([_uuid_bytes(each) for each in column.to_pylist()], kind)])


def _uuid_bytes(text: str | None) -> bytes | None:
    """The bytes of a UUID that was made a text; texts that are written otherwise are texts."""
    if text is None:
        return None
    try:
        found = UUID(text)
    except ValueError:
        raise NotExact("a text that is no UUID") from None
    if str(found) != text:
        raise NotExact("a UUID that is written in another way")
    return found.bytes


def _is_uuid(kind: Any) -> bool:
    return getattr(kind, "extension_name", None) == "arrow.uuid"
