"""The columns of a table that is not there yet, from what the author declared and the first rows that arrive."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from airflow_parallel_provider.errors import SchemaMismatch
from airflow_parallel_provider.rows.arrow_rows import ArrowRows
from airflow_parallel_provider.rows.fit import plain_column
from airflow_parallel_provider.rows.type_hints import hinted_columns
from airflow_parallel_provider.values.kinds import INT64_MAX, INT64_MIN, KIND_OF_TYPE, Column, Kind, common_kind

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_parallel_provider.rows.block import Block


def infer_columns(block: Block, declared: tuple[Column, ...] | None, table: str, where: str) -> tuple[Column, ...]:
    """Columns for a new table.

    Declared columns come first and keep their declared type; columns that only the rows have follow, unless every
    declared column has a type: then the declaration is complete. A column without a declared type has the one that
    annotations, an Arrow schema or dtypes give it, in this order; else that of its values.

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
    return found.get(column.name) or replace(column, kind=Kind.NULL)


def _observed(block: Block, table: str, where: str) -> list[Column]:
    columns = []
    told = hinted_columns(block.sources)
    whole = isinstance(block.rows, ArrowRows)
    for number, name in enumerate(block.names):
        if whole and name in told:  # the schema holds for all values: no need to make Python objects of them
            columns.append(told[name])
            continue
        plain, present = plain_column(block, number)
        values = plain or list(block.column(number))
        known = told.get(name)
        if known is not None:
            columns.append(_refined(known, values))
            continue
        kinds = _kinds_in(values, present, name, table, where)
        columns.append(Column(name, _common(kinds, name, table, where)))
    return columns


def _refined(told: Column, values: Sequence[Any]) -> Column:
    """``int`` does not say how large, ``datetime`` not whether with a zone: that is for the values to say."""
    if told.kind is Kind.INT and any(map(_is_huge, values)):
        return replace(told, kind=Kind.HUGEINT)
    if told.kind is Kind.DATETIME and any(map(_is_aware, values)):
        return replace(told, kind=Kind.DATETIMETZ)
    return told


def _is_huge(value: Any) -> bool:
    return type(value) is int and not INT64_MIN <= value <= INT64_MAX


def _is_aware(value: Any) -> bool:
    return type(value) is datetime and value.tzinfo is not None


def _kinds_in(values: Sequence[Any], present: frozenset[type], name: str, table: str, where: str) -> frozenset[Kind]:
    kinds = set()
    for kind in present:
        if kind not in KIND_OF_TYPE:
            raise SchemaMismatch(
                f"table {table!r}, column {name!r}: a value of type {kind.__module__}.{kind.__qualname__} has no place "
                f"in a table ({where}): turn it into a number, text, bytes, date, dict or list in a stage"
            )
        kinds.add(KIND_OF_TYPE[kind])
    if Kind.INT in kinds and any(map(_is_huge, values)):
        kinds.add(Kind.HUGEINT)
    if Kind.DATETIME in kinds and any(map(_is_aware, values)):
        kinds.add(Kind.DATETIMETZ)
    return frozenset(kinds)


def _common(kinds: frozenset[Kind], name: str, table: str, where: str) -> Kind:
    kind = common_kind(kinds)
    if kind is not None:
        return kind
    some = kinds - {Kind.NULL}
    raise SchemaMismatch(
        f"table {table!r}, column {name!r} holds {' and '.join(sorted(some))} in one chunk, which have no common type "
        f"({where}): make them one type in a stage, or declare it: SinkTable(columns={{{name!r}: ...}})"
    )
