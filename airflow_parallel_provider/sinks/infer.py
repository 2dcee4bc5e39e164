"""The columns of a table that is not there yet, from what the author declared and the first rows that arrive."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from airflow_parallel_provider.errors import SchemaMismatch
from airflow_parallel_provider.sinks.fit import plain_column
from airflow_parallel_provider.sinks.kinds import INT64_MAX, INT64_MIN, KIND_OF_TYPE, Column, Kind

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_parallel_provider.sinks.rows import Block

_NUMBERS = frozenset({Kind.INT, Kind.HUGEINT, Kind.FLOAT, Kind.DECIMAL})
_TIMES = frozenset({Kind.DATE, Kind.DATETIME, Kind.DATETIMETZ})
_COMMON: tuple[tuple[Kind, frozenset[Kind]], ...] = (
    (Kind.INT, frozenset({Kind.BOOL, Kind.INT})),
    (Kind.HUGEINT, frozenset({Kind.BOOL, Kind.INT, Kind.HUGEINT})),
    (Kind.FLOAT, frozenset({Kind.INT, Kind.FLOAT})),
    (Kind.DECIMAL, _NUMBERS),
    (Kind.DATETIME, frozenset({Kind.DATE, Kind.DATETIME})),
    (Kind.DATETIMETZ, _TIMES),
    # Not bool: as text it could be 'True', 'true', 't' or '1'.
    (Kind.TEXT, _NUMBERS | _TIMES | {Kind.TEXT, Kind.UUID, Kind.TIME}),
)
"""Kinds found together in one column -> the first kind in this list that takes them all."""
_WITH_JSON = frozenset({Kind.JSON, Kind.TEXT, Kind.INT, Kind.HUGEINT, Kind.FLOAT, Kind.BOOL})


def infer_columns(block: Block, declared: tuple[Column, ...] | None, table: str, where: str) -> tuple[Column, ...]:
    """Columns for a new table.

    Declared columns come first and keep their declared type; columns that only the rows have follow, unless every
    declared column has a type: then the declaration is complete.

    :raises SchemaMismatch: when a column holds kinds that have no common one.
    """
    found = {column.name: column for column in _observed(block, table, where)}
    if declared is None:
        columns = tuple(found.values())
    else:
        complete = all(column.kind is not None for column in declared)
        named = {column.name for column in declared}
        extra = () if complete else tuple(column for name, column in found.items() if name not in named)
        columns = tuple(_settle(column, found) for column in declared) + extra
    if not columns:
        raise SchemaMismatch(
            f"table {table!r} cannot be made from rows without columns ({where}): return dicts with keys"
        )
    return tuple(column if column.kind is not Kind.NULL else replace(column, kind=Kind.TEXT) for column in columns)


def _settle(column: Column, found: dict[str, Column]) -> Column:
    if column.kind is not None:
        return column
    return replace(column, kind=found[column.name].kind if column.name in found else Kind.NULL)


def _observed(block: Block, table: str, where: str) -> list[Column]:
    columns = []
    for number, name in enumerate(block.names):
        values, present = plain_column(block, number)
        kinds = _kinds_in(values or list(block.column(number)), present, name, table, where)
        columns.append(Column(name, _common(kinds, name, table, where)))
    return columns


def _kinds_in(values: Sequence[Any], present: frozenset[type], name: str, table: str, where: str) -> frozenset[Kind]:
    kinds = set()
    for kind in present:
        if kind not in KIND_OF_TYPE:
            raise SchemaMismatch(
                f"table {table!r}, column {name!r}: a value of type {kind.__module__}.{kind.__qualname__} has no place "
                f"in a table ({where}): turn it into a number, text, bytes, date, dict or list in a stage"
            )
        kinds.add(KIND_OF_TYPE[kind])
    if Kind.INT in kinds and any(type(v) is int and not INT64_MIN <= v <= INT64_MAX for v in values):
        kinds.add(Kind.HUGEINT)
    if Kind.DATETIME in kinds and any(type(v) is datetime and v.tzinfo is not None for v in values):
        kinds.add(Kind.DATETIMETZ)
    return frozenset(kinds)


def _common(kinds: frozenset[Kind], name: str, table: str, where: str) -> Kind:
    some = kinds - {Kind.NULL}
    if len(some) <= 1:
        return next(iter(some), Kind.NULL)
    if Kind.JSON in some and some <= _WITH_JSON:
        return Kind.JSON
    for kind, takes in _COMMON:
        if some <= takes:
            return kind
    raise SchemaMismatch(
        f"table {table!r}, column {name!r} holds {' and '.join(sorted(some))} in one chunk, which have no common type "
        f"({where}): make them one type in a stage, or declare it: SinkTable(columns={{{name!r}: ...}})"
    )
