# SPDX-License-Identifier: Apache-2.0
"""Whether a table fits its declaration, and whether a database accepts its columns."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_parallel_provider.errors import SchemaMismatch
from airflow_parallel_provider.rows.arrow_rows import ArrowRows
from airflow_parallel_provider.rows.fit import WrongColumns, plain_column
from airflow_parallel_provider.sql.names import check_identifier
from airflow_parallel_provider.values.kinds import SEQUENCE_KINDS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_parallel_provider.rows.block import Block
    from airflow_parallel_provider.sinks.spec.table_spec import TableSpec
    from airflow_parallel_provider.sql.backends.base import Backend
    from airflow_parallel_provider.values.kinds import Column
    from airflow_parallel_provider.values.table_shape import TableShape


def check_shape(shape: TableShape, spec: TableSpec, *, needs_key: bool = True) -> None:
    """Check that an existing table has what its declaration names.

    :param needs_key: whether a merge needs a unique key on the table.
    :raises SchemaMismatch: if it does not fit.
    """
    columns, table = spec.declared_columns or (), shape.display_name
    addable = set()
    if spec.on_schema_change == "add_columns":
        addable = {column.name for column in columns if column.kind is not None}
    load_column = spec.load_id_column
    if load_column is not None and load_column not in shape.by_name and spec.on_schema_change != "add_columns":
        raise SchemaMismatch(
            f"table {table!r} has no column {load_column!r} for the id of the load: add it (text, 32 characters), name "
            "another one as load_column, or let the sink add it: on_schema_change='add_columns'"
        )
    newest = () if spec.newest is None or spec.on_schema_change == "add_columns" else (spec.newest,)
    for name in [*(column.name for column in columns), *spec.key, *newest]:
        if name not in shape.by_name and (name not in addable or name in spec.key):
            raise SchemaMismatch(
                f"table {table!r} has no column {name!r}, which the sink names: add it to the table, or remove it from "
                "columns, primary_key and newest"
            )
    sequence = shape.by_name.get(spec.newest or "")
    if sequence is not None and sequence.kind not in SEQUENCE_KINDS:
        raise SchemaMismatch(
            f"table {table!r}: column {spec.newest!r} ({sequence.type_name()}) cannot say which of two rows is newer: "
            "name a column of times, dates, numbers or texts as newest"
        )
    if needs_key and spec.write_disposition == "merge" and frozenset(spec.key) not in shape.unique_keys:
        raise SchemaMismatch(
            f"table {table!r} has no primary key or unique index on ({', '.join(spec.key)}), which "
            "write_disposition='merge' needs: add one, or name the table's own key in primary_key"
        )


def check_columns(columns: Sequence[Column], spec: TableSpec, backend: Backend, where: str) -> None:
    """Check the columns of a table that is to be created or extended.

    :param where: which chunk, for errors.
    :raises SchemaMismatch: if the key is not among them, or if the database cannot have one of them.
    """
    names = [column.name for column in columns]
    table = spec.display_name
    for name in spec.key:
        if name not in names:
            raise missing_key(name, table, where)
    sequence = next((column for column in columns if column.name == spec.newest), None)
    if sequence is not None and sequence.kind is not None and sequence.kind not in SEQUENCE_KINDS:
        raise SchemaMismatch(
            f"table {table!r}: column {spec.newest!r} would be of type {sequence.type_name()}, which cannot say which "
            f"of two rows is newer ({where}): return times, dates, numbers or texts in it, or name another column as "
            "newest"
        )
    for name in names:
        check_identifier(name, f"a column of table {table!r}", backend)
    folded: dict[str, str] = {}
    for name in names:
        other = folded.setdefault(name.casefold(), name)
        if other is not name and backend.folds_case:
            raise SchemaMismatch(
                f"table {table!r}: columns {other!r} and {name!r} differ only in case, which this database does "
                f"not distinguish ({where}): rename one in a stage"
            )


def missing_key(name: str, table: str, where: str) -> WrongColumns:
    """The error for rows without a column of the key."""
    return WrongColumns(
        f"table {table!r}: the rows have no column {name!r}, which is in primary_key ({where}): "
        "return it from the last stage"
    )


def require_key(block: Block, shape: TableShape, name: str, where: str) -> None:
    """Check that a column of the key has a value in every row, where the database would make a number up for None.

    SQLite does that for an ``INTEGER PRIMARY KEY``, and MySQL for ``AUTO_INCREMENT``.

    :raises SchemaMismatch: with the first row that has none.
    """
    column = shape.by_name[name]
    if not column.has_default or column.default is not None or column.computed:
        return
    number = block.names.index(name)
    if isinstance(block.rows, ArrowRows) and not (block.rows.table.column(number).null_count or column.parse_texts):
        return
    values, present = plain_column(block, number)
    empty = {None, ""} if column.parse_texts else {None}
    if present.isdisjoint(map(type, empty)):
        return
    found = enumerate(values or block.column(number))
    row = next((row for row, value in found if (value.strip() if type(value) is str else value) in empty), None)
    if row is not None:
        raise SchemaMismatch(
            f"table {shape.display_name!r}, column {name!r} cannot take None ({where}, row {row}): it is in "
            "primary_key, and the database would make up a number. Return a value for every row, or drop the item in a "
            "stage"
        )
