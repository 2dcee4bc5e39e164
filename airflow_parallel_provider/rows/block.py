# SPDX-License-Identifier: Apache-2.0
"""Rows of any shape as one block: column names and tuples.

Every row passes here. So C code (``map``, ``itemgetter``) checks and converts the common shapes (all dicts with the
same keys, all tuples); only mixtures are converted row by row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, groupby
from operator import attrgetter, countOf, itemgetter
from typing import Any

from airflow_parallel_provider.errors import SchemaMismatch
from airflow_parallel_provider.rows.arrow_rows import ArrowRows, concat
from airflow_parallel_provider.rows.frames import arrow_of
from airflow_parallel_provider.rows.texts.arrow_texts import lines_of
from airflow_parallel_provider.rows.texts.line_rows import LineRows
from airflow_parallel_provider.values.annotations import field_names, has_extra_fields
from airflow_parallel_provider.values.items import FileRow
from airflow_parallel_provider.values.plain import own_pairs, own_parts

_TABLE_LIBRARIES = frozenset({"pandas", "polars", "pyarrow"})


@dataclass(frozen=True, slots=True)
class Block:
    """Rows with the same columns."""

    names: tuple[str, ...]
    rows: list[tuple[Any, ...]] | ArrowRows | LineRows
    sources: tuple[Any, ...] = field(default=(), compare=False, repr=False)
    """Classes, Arrow tables and data frames that the rows come from: they say more about columns than values do."""
    unchecked: bool = False
    """It is not checked yet that all rows are tuples, and as long as the first one."""

    def column(self, number: int) -> Iterator[Any]:
        """The values of one column.

        Not ``zip(*rows)``, which creates an iterator object per row: so many that the garbage collector starts, and
        visits all rows that exist. That took longer than sending them to SQLite.
        """
        return map(itemgetter(number), self.rows)

    def slice(self, start: int, stop: int) -> Block:
        """Some of the rows, as a block.

        :raises NonUniformRows: when the block is unchecked and some of these rows differ from its first row.
        """
        rows, width = self.rows[start:stop], len(self.names)
        if self.unchecked and not (countOf(map(type, rows), tuple) == countOf(map(len, rows), width) == len(rows)):
            raise NonUniformRows
        return Block(self.names, rows)

    def with_columns(self, columns: Mapping[int, Iterable[Any]]) -> list[tuple[Any, ...]]:
        """The rows with some columns replaced."""
        if not columns:
            return self.rows if isinstance(self.rows, list) else list(self.rows)
        return list(zip(*(columns.get(n) or self.column(n) for n in range(len(self.names))), strict=True))


class NonUniformRows(Exception):
    """The rows of an unchecked block are not all tuples of one length: they need :func:`to_block`."""


NumberedRow = tuple[Any, int]
"""A row, and its number in the chunk; of a row of a data frame or an Arrow table the number of that."""


def unchecked_block(rows: Sequence[Any], names: tuple[str, ...] | None, more_than: int) -> Block | None:
    """A block of tuples of which only the first is checked now, the others when they are sent; None for other rows.

    :param more_than: with no more rows than this, the check later saves nothing.
    """
    if names is None or type(rows) is not list or len(rows) <= more_than:
        return None
    first = rows[0]
    return Block(names, rows, unchecked=True) if type(first) is tuple and len(first) == len(names) else None


def to_block(rows: Sequence[Any], declared: tuple[str, ...] | None = None, *, arrow: bool = False) -> Block:
    """The rows of a chunk as a block.

    :param rows: dicts, tuples or lists (these need ``declared``), named tuples, dataclass, attrs or pydantic objects,
        pandas or polars frames, Arrow tables or batches; also mixed. A row has None for a key that only others have.
    :param declared: column names for rows that have none.
    :param arrow: whether data frames become Arrow tables, because the backend can take those as they are.
    :raises SchemaMismatch: for a row that has no columns, or not as many as declared.
    """
    if len(rows) > 1 and countOf(map(type, rows), type(rows[0])) == len(rows):
        return _block_of(type(rows[0]), rows if isinstance(rows, list) else list(rows), declared, 0, arrow=arrow)
    blocks = []
    start = 0
    for kind, group in groupby(rows, type):
        alike = list(group)
        blocks.append(_block_of(kind, alike, declared, start, arrow=arrow))
        start += len(alike)
    if len(blocks) == 1:
        return blocks[0]
    return _merge([block for block in blocks if block.rows])


def enumerate_rows(rows: Sequence[Any]) -> Iterator[NumberedRow]:
    """Each row with its number in the chunk; for a data frame or an Arrow table its rows, as dicts, with its number."""
    tables = {kind for kind in set(map(type, rows)) if _is_table(kind)}
    for at, row in enumerate(rows):
        if type(row) in tables:
            yield from ((each, at) for each in _rows_of_table(row))
        else:
            yield row, at


def _rows_of_table(table: Any) -> Iterator[dict[str, Any]]:
    block = _from_table(table, type(table), arrow=False)
    lines = lines_of(table)
    if lines is None:
        yield from (dict(zip(block.names, values, strict=True)) for values in block.rows)
        return
    for values, line in zip(block.rows, lines, strict=True):
        row = FileRow(zip(block.names, values, strict=True))
        row.line = line
        yield row


def _is_table(kind: type) -> bool:
    return kind.__module__.partition(".")[0] in _TABLE_LIBRARIES and not issubclass(kind, Mapping)


def _block_of(kind: type, rows: list[Any], declared: tuple[str, ...] | None, start: int, *, arrow: bool) -> Block:
    if kind is dict or kind is FileRow:
        return _from_dicts(rows)
    if _is_table(kind):
        return _merge([_from_table(table, kind, arrow=arrow) for table in rows])
    if has_extra_fields(kind):
        return replace(_from_dicts(list(map(dict, rows))), sources=(kind,))
    names = field_names(kind)
    if names is not None:
        return Block(names, list(map(_attribute_getter(names), rows)), (kind,))
    if issubclass(kind, (tuple, list)):
        base = tuple if issubclass(kind, tuple) else list
        if kind.__len__ is not base.__len__ or kind.__iter__ is not base.__iter__:  # they may lie, and lose values
            rows = [tuple(own_parts(row)) for row in rows]
        return _from_sequences(rows, getattr(kind, "_fields", declared), start)
    if issubclass(kind, Mapping):
        return _from_dicts(list(map(own_pairs, rows)))
    raise SchemaMismatch(
        f"row {start} of the chunk is of type {kind.__qualname__}, which has no columns: "
        "return a dict, a dataclass object, or a tuple (with columns=[...]) from the last stage"
    )


def _from_dicts(rows: list[dict[Any, Any]]) -> Block:
    names = tuple(rows[0])
    if names and countOf(map(len, rows), len(names)) == len(rows):
        try:
            return Block(_checked_names(names), list(map(_item_getter(names), rows)))
        except KeyError:
            pass  # equally many keys, but not the same ones
    union = tuple(dict.fromkeys(chain.from_iterable(rows)))
    return Block(_checked_names(union), [tuple(map(row.get, union)) for row in rows])


def _checked_names(names: Iterable[Any]) -> tuple[str, ...]:
    checked = tuple(names)
    for name in checked:
        if type(name) is not str:
            if isinstance(name, str):
                return tuple(str.__str__(n) if isinstance(n, str) else n for n in checked)
            raise SchemaMismatch(
                f"a row has a key of type {type(name).__qualname__}: column names are texts, make it a str in a stage"
            )
    return checked


def _item_getter(names: Sequence[Any]) -> Callable[[Any], tuple[Any, ...]]:
    if len(names) == 1:
        only = names[0]
        return lambda row: (row[only],)
    return itemgetter(*names)


def _attribute_getter(names: Sequence[str]) -> Callable[[Any], tuple[Any, ...]]:
    if len(names) == 1:
        only = attrgetter(names[0])
        return lambda row: (only(row),)
    return attrgetter(*names)


def _from_sequences(rows: list[Any], names: tuple[str, ...] | None, start: int) -> Block:
    if names is None:
        raise SchemaMismatch(
            f"row {start} of the chunk is a {type(rows[0]).__qualname__} of {len(rows[0])} values without names: "
            "name them with columns=[...] of the sink, or return dicts"
        )
    width = len(names)
    if countOf(map(len, rows), width) != len(rows):
        number, row = next((n, row) for n, row in enumerate(rows, start) if len(row) != width)
        raise SchemaMismatch(
            f"row {number} of the chunk has {len(row)} values, but there are {width} columns ({', '.join(names)}): "
            "return one value per column, None where there is none"
        )
    kind = type(rows[0])
    return Block(names, rows if kind is tuple else list(map(tuple, rows)), (kind,) if hasattr(kind, "_fields") else ())


def _from_table(table: Any, kind: type, *, arrow: bool) -> Block:
    root = kind.__module__.partition(".")[0]
    library = root if arrow else None
    if root == "pandas":
        if not hasattr(table, "columns"):
            raise SchemaMismatch(
                f"a row of type {kind.__qualname__} is not a table: return a DataFrame (series.to_frame()) or dicts"
            )
        return _from_frame(table, _unique(_checked_names(table.columns)), lambda: _rows_of_pandas(table), library)
    if root == "polars" and hasattr(table, "rows"):
        return _from_frame(table, _checked_names(table.columns), table.rows, library)
    if (root == "pyarrow" and hasattr(table, "column_names")) or hasattr(table, "schema"):
        names = _unique(table.schema.names)
        return Block(names, ArrowRows(table) if names else [], (table,))
    raise SchemaMismatch(
        f"a row of type {kind.__qualname__} is not a table: return a DataFrame, an Arrow table or dicts"
    )


def _from_frame(
    frame: Any, names: tuple[str, ...], to_rows: Callable[[], list[tuple[Any, ...]]], library: str | None
) -> Block:
    """The rows of a data frame.

    :param to_rows: converts the frame to tuples.
    :param library: ``pandas`` or ``polars``, to convert the frame to Arrow where that is possible; None: never.
    """
    table = arrow_of(frame, library) if library and names else None
    return Block(names, to_rows() if table is None else ArrowRows(table, to_rows), (frame,))


def _rows_of_pandas(frame: Any) -> list[tuple[Any, ...]]:
    columns = []
    for number in range(len(frame.columns)):
        series = frame.iloc[:, number]
        values = series.tolist()
        if series.hasnans:  # pandas marks a missing value with NaN, NaT or NA, also in integer columns
            values = [None if missing else value for value, missing in zip(values, series.isna().tolist(), strict=True)]
        columns.append(values)
    return list(zip(*columns, strict=True))


def _unique(names: Iterable[str]) -> tuple[str, ...]:
    listed = tuple(names)
    if len(set(listed)) != len(listed):
        twice = next(name for name in listed if listed.count(name) > 1)
        raise SchemaMismatch(f"the table has two columns {twice!r}: rename one of them in a stage")
    return listed


def _merge(blocks: list[Block]) -> Block:
    if not blocks:
        return Block((), [])
    sources = tuple(chain.from_iterable(block.sources for block in blocks))
    if all(block.names == blocks[0].names for block in blocks):
        whole = concat([block.rows for block in blocks])
        if whole is not None:
            return Block(blocks[0].names, whole, sources[:1])
        return Block(blocks[0].names, list(chain.from_iterable(block.rows for block in blocks)), sources)
    union = tuple(dict.fromkeys(chain.from_iterable(block.names for block in blocks)))
    rows: list[tuple[Any, ...]] = []
    for block in blocks:
        numbers = {name: number for number, name in enumerate(block.names)}
        order = [numbers.get(name, -1) for name in union]
        rows.extend(tuple(row[i] if i >= 0 else None for i in order) for row in block.rows)
    return Block(union, rows, sources)
