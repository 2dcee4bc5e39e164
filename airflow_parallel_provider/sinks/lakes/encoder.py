# SPDX-License-Identifier: Apache-2.0
"""The rows of a chunk as an Arrow table with the columns and types of a lake table."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from airflow_parallel_provider.errors import SchemaMismatch
from airflow_parallel_provider.rows.block import Block, to_block
from airflow_parallel_provider.rows.fit import WrongColumns
from airflow_parallel_provider.sinks.files import parquet_values
from airflow_parallel_provider.sinks.files.arrow_tables import are_arrow, joined
from airflow_parallel_provider.sinks.lakes.arrow_types import TypeRules, fitted
from airflow_parallel_provider.sinks.lakes.merge import check_key_type
from airflow_parallel_provider.values.json_text import JsonNumber

if TYPE_CHECKING:
    from airflow_parallel_provider.sinks.lakes.publisher import Publisher


class LakeEncoder:
    """Turns rows into Arrow tables, with the columns and types of the lake table; of a new one, of the first chunk.

    :param columns: names for rows that are tuples, and the columns of a new table; None: those of the first chunk.
    :param rules: of the table format.
    :param publisher: knows the schema of the table.
    :param add_columns: whether columns that the table does not have become columns of the parts.
    :param key: names of the columns of a merge's key; empty: it is none.
    """

    def __init__(
        self,
        columns: tuple[str, ...] | None,
        rules: TypeRules,
        publisher: Publisher,
        *,
        add_columns: bool = False,
        key: tuple[str, ...] = (),
    ) -> None:
        self._declared = columns
        self._rules = rules
        self._publisher = publisher
        self._add_columns = add_columns
        self._key = key
        self._needed = key
        """Columns that rows may not lack: a merge puts whole rows in the place of those of the table."""
        self.schema: Any = None
        """Of the parts, as Arrow; None as long as it is not known."""

    def state(self) -> dict[str, Any]:
        """What later attempts must keep to, as JSON."""
        schema = None if self.schema is None else base64.b64encode(self.schema.serialize().to_pybytes()).decode()
        return {"schema": schema}

    def restore(self, state: dict[str, Any]) -> None:
        """Keep to what an earlier attempt has written."""
        if state.get("schema") is not None:
            import pyarrow as pa

            self.schema = pa.ipc.read_schema(pa.py_buffer(base64.b64decode(state["schema"])))

    def meet(self, schema: Any) -> None:
        """Keep to the columns of the table, unless an earlier attempt has kept to them already.

        :param schema: of the table, as Arrow; None: there is none.
        :raises SchemaMismatch: if the table does not have the columns of the key.
        """
        if self.schema is None:
            self.schema = schema
        if self._key and schema is not None:
            self._needed = tuple(schema.names)
            self._check_key(schema)

    def _check_key(self, schema: Any) -> None:
        for name in self._key:
            if name not in schema.names:
                raise SchemaMismatch(
                    f"column {name!r} of primary_key is not in the table ({', '.join(schema.names)}): name others"
                )
            check_key_type(name, schema.field(name).type)

    def table(self, rows: Sequence[Any], where: str) -> Any:
        """The rows as an Arrow table with the columns and types of the parts; None if there are none.

        :param where: which chunk, for errors.
        :raises SchemaMismatch: if they do not fit; names the column.
        """
        if are_arrow(rows):
            found = joined(rows, where)
            names, length = found.column_names, found.num_rows
        else:
            found = to_block(rows, self._declared)
            names, length = found.names, len(found.rows)
        if not length:  # an empty frame says nothing about the columns
            return None
        read = found.column if are_arrow(rows) else partial(self._array, found, where)
        columns = {name: read(name) for name in names}
        wanted = self._names(columns, where)
        return self._typed([columns.get(name) for name in wanted], wanted, length, where)

    def _names(self, found: dict[str, Any], where: str) -> tuple[str, ...]:
        """The columns of the parts, in their order.

        :param found: those of a chunk. It may have others only if these are added, or are NULL throughout.
        """
        if self.schema is not None:
            names = tuple(self.schema.names)
        else:
            if self._declared is None:
                if not found:
                    raise WrongColumns(f"{where}: the rows have no columns at all: return dicts with keys")
                self._declared = tuple(found)
            names = self._declared
        lacking = [name for name in self._needed if name not in found]
        if lacking:
            raise WrongColumns(
                f"{where}: the rows have no column {lacking[0]!r}: a merge puts whole rows in the place of those of "
                "the table, and would empty it. Return all columns of the table from the last stage"
            )
        extra = [name for name in found if name not in names]
        if extra and self._add_columns:
            return (*names, *(name for name in extra if found[name].null_count < len(found[name])))
        if extra:
            raise WrongColumns(
                f"{where}: column {extra[0]!r} is not in the table ({', '.join(names)}): leave it out in a stage, add "
                "it to the table first, or set on_schema_change='add_columns'"
            )
        return names

    def _array(self, block: Block, where: str, name: str) -> Any:
        import pyarrow as pa

        values = list(block.column(block.names.index(name)))
        if all(value is None for value in values):
            return pa.chunked_array([pa.nulls(len(values))])
        place = f"{where}: column {name!r}"
        known = self.schema is not None and name in self.schema.names
        if known and any(type(value) is JsonNumber for value in values):
            values = parquet_values.numbers(values, self.schema.field(name).type, place)
        return pa.chunked_array([parquet_values.array(values, place, None)])

    def _typed(self, columns: Sequence[Any], names: Sequence[str], length: int, where: str) -> Any:
        import pyarrow as pa

        filled = [pa.chunked_array([pa.nulls(length)]) if column is None else column for column in columns]
        table = self._rules.adapt(pa.Table.from_arrays(filled, names=list(names)), where)
        if self.schema is None:
            self.schema = self._publisher.new_schema(table.schema)
            self._check_key(self.schema)
        if len(names) > len(self.schema):
            new = [table.schema.field(name) for name in names[len(self.schema) :]]
            self.schema = self._publisher.with_columns(self.schema, new)
        found = fitted(table, self.schema, where)
        for name in self._key:
            if found.column(name).null_count:
                raise SchemaMismatch(f"{where}: column {name!r} of primary_key is NULL in a row: NULL equals no key")
        return found
