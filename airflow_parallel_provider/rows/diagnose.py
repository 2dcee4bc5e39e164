# SPDX-License-Identifier: Apache-2.0
"""Which value made the database refuse a chunk. Runs only after a refusal, so good chunks pay nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_parallel_provider.rows.fit import plain_column
from airflow_parallel_provider.values.convert import integer_range
from airflow_parallel_provider.values.json_text import JsonText
from airflow_parallel_provider.values.kinds import Kind

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_parallel_provider.rows.block import Block
    from airflow_parallel_provider.values.table_shape import TableColumn, TableShape


def diagnose(block: Block, shape: TableShape, context: str, *, takes_nul: bool) -> str | None:
    """Name the first column and row that cannot be stored, why, and the cure; None when no value looks wrong.

    The text never holds a value.

    :param context: which chunk, for the text.
    :param takes_nul: whether the database can store a NUL character in a text.
    """
    for number, name in enumerate(block.names):
        column = shape.by_name.get(name)
        if column is None:
            continue
        values, _ = plain_column(block, number)
        for row, value in enumerate(values or block.column(number)):
            problem = _problem(value, column, takes_nul=takes_nul)
            if problem is not None:
                found, cure = problem
                target = f"table {shape.display_name!r}, column {name!r} ({column.type_name()})"
                return f"{target} cannot take {found} ({context}, row {row}): {cure}"
    return None


def _problem(value: Any, column: TableColumn, *, takes_nul: bool) -> tuple[str, str] | None:
    """What is wrong with a value, and the cure."""
    if value is None:
        if column.nullable or column.has_default:
            return None
        return "None (it is NOT NULL)", "return a value for every row, or drop the item in a stage"
    if isinstance(value, int):
        return _problem_of_int(value, column)
    if isinstance(value, str) and column.kind is Kind.JSON:
        value = _value_of_json(value)
    if isinstance(value, str):
        return _problem_of_text(value, column, takes_nul=takes_nul)
    if isinstance(value, bytes):
        too_long = column.length is not None and len(value) > column.length
        return (
            (f"more than {column.length} bytes", "widen the column, or cut the value in a stage") if too_long else None
        )
    problems = (_problem_of_characters(text, takes_nul=takes_nul) for text in _texts_within(value))
    return next(filter(None, problems), None)


def _value_of_json(text: str) -> Any:
    """The value of JSON, in which escapes stand for characters that a database may refuse."""
    try:
        return JsonText(text).value
    except (ValueError, RecursionError):
        return text


def _texts_within(value: Any) -> Iterator[str]:
    """Each text of a JSON value, keys too. Without recursion: the value may be nested more deeply than Python calls."""
    left = [value]
    while left:
        each = left.pop()
        if isinstance(each, str):
            yield each
        elif isinstance(each, dict):
            left += [*each.values(), *each]
        elif isinstance(each, (list, tuple)):
            left += each


def _problem_of_int(value: int, column: TableColumn) -> tuple[str, str] | None:
    least, most = integer_range(column.bits, unsigned=column.unsigned)
    if column.kind is not Kind.INT or least <= value <= most:
        return None
    widen = "widen the column"
    if not column.declared:
        widen = f"declare it: columns={{{column.name!r}: 'hugeint'}}, or {widen}"
    return f"an integer beyond {column.bits} bit", widen


def _problem_of_text(value: str, column: TableColumn, *, takes_nul: bool) -> tuple[str, str] | None:
    problem = _problem_of_characters(value, takes_nul=takes_nul)
    if problem is not None:
        return problem
    if column.kind is Kind.TEXT and column.length is not None and len(value) > column.length:
        return f"a text of more than {column.length} characters", "widen the column, or cut the text in a stage"
    return None


def _problem_of_characters(text: str, *, takes_nul: bool) -> tuple[str, str] | None:
    if not takes_nul and "\x00" in text:
        return "a text with a NUL character", "remove it in a stage"
    try:
        text.encode()
    except UnicodeEncodeError:
        return "a text that is not valid Unicode (half a surrogate pair)", "decode it with errors='replace' in a stage"
    return None
