# SPDX-License-Identifier: Apache-2.0
"""The columns of a new table, from the author's declaration and the first rows that arrive."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from airflow_parallel_provider.errors import SchemaMismatch
from airflow_parallel_provider.rows.arrow_rows import ArrowRows
from airflow_parallel_provider.rows.fit import plain_column
from airflow_parallel_provider.rows.type_hints import hinted_columns
from airflow_parallel_provider.values.json_text import JsonNumber
from airflow_parallel_provider.values.kinds import INT64_MAX, INT64_MIN, KIND_OF_TYPE, Column, Kind, common_kind

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_parallel_provider.rows.block import Block


def infer_columns(block: Block, declared: tuple[Column, ...] | None, table: str, context: str) -> tuple[Column, ...]:
    """Columns for a new table.

    Declared columns come first, with their declared types. Columns that only the rows have follow, unless every
    declared column has a type: then the declaration is complete. A column without a declared type gets its type from
    annotations, an Arrow schema or dtypes, in this order, else from its values.

    :param declared: the author's columns; None: none are declared.
    :param table: name of the table, for error texts.
    :param context: which chunk, for error texts.
    :raises SchemaMismatch: when a column holds kinds that have no common kind.
    """
    found = {column.name: column for column in _inferred(block, table, context)}
    if declared is None:
        columns = tuple(found.values())
    else:
        complete = all(column.kind is not None for column in declared)
        named = {column.name for column in declared}
        extra = () if complete else tuple(column for name, column in found.items() if name not in named)
        columns = tuple(_with_kind(column, found) for column in declared) + extra
    if not columns:
        raise SchemaMismatch(
            f"table {table!r} cannot be created from rows without columns ({context}): return dicts with keys"
        )
    return tuple(column if column.kind is not Kind.NULL else replace(column, kind=Kind.TEXT) for column in columns)


def _with_kind(column: Column, found: dict[str, Column]) -> Column:
    if column.kind is not None:
        return column
    return found.get(column.name) or replace(column, kind=Kind.NULL)


def _inferred(block: Block, table: str, context: str) -> list[Column]:
    columns = []
    hints = hinted_columns(block.sources)
    from_arrow = isinstance(block.rows, ArrowRows)
    for number, name in enumerate(block.names):
        if from_arrow and name in hints:  # the schema is true of all values: no need for Python objects
            columns.append(hints[name])
            continue
        plain, present = plain_column(block, number)
        values = plain or list(block.column(number))
        hint = hints.get(name)
        if hint is not None:
            columns.append(_refine(hint, values))
            continue
        kinds = _kinds_in(values, present, name, table, context)
        columns.append(Column(name, _common_kind(kinds, name, table, context)))
    return columns


def _refine(hint: Column, values: Sequence[Any]) -> Column:
    """``int`` does not say how large, and ``datetime`` not whether it has a zone: the values do."""
    if hint.kind is Kind.INT and any(map(_exceeds_64_bits, values)):
        return replace(hint, kind=Kind.HUGEINT)
    if hint.kind is Kind.DATETIME and any(map(_is_aware, values)):
        return replace(hint, kind=Kind.DATETIMETZ)
    return hint


def _exceeds_64_bits(value: Any) -> bool:
    return type(value) is int and not INT64_MIN <= value <= INT64_MAX


def _is_aware(value: Any) -> bool:
    return type(value) is datetime and value.tzinfo is not None


def _kinds_in(values: Sequence[Any], present: frozenset[type], name: str, table: str, context: str) -> frozenset[Kind]:
    kinds = set()
    for kind in present:
        if kind not in KIND_OF_TYPE:
            raise SchemaMismatch(
                f"table {table!r}, column {name!r}: a value of type {kind.__module__}.{kind.__qualname__} cannot "
                f"be stored in a table ({context}): convert it to a number, text, bytes, date, dict or list in a stage"
            )
        kinds.add(KIND_OF_TYPE[kind])
    if Kind.INT in kinds and any(map(_exceeds_64_bits, values)):
        kinds.add(Kind.HUGEINT)
    if Kind.DATETIME in kinds and any(map(_is_aware, values)):
        kinds.add(Kind.DATETIMETZ)
    if JsonNumber in present and any(type(value) is JsonNumber and value.wants_decimals for value in values):
        kinds.add(Kind.DECIMAL)
    return frozenset(kinds)


def _common_kind(kinds: frozenset[Kind], name: str, table: str, context: str) -> Kind:
    kind = common_kind(kinds)
    if kind is not None:
        return kind
    present = kinds - {Kind.NULL}
    raise SchemaMismatch(
        f"table {table!r}, column {name!r} holds {' and '.join(sorted(present))} in one chunk, which have no common "
        f"type ({context}): convert them to one type in a stage, or declare it: SinkTable(columns={{{name!r}: ...}})"
    )
