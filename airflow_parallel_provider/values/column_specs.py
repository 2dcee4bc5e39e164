# SPDX-License-Identifier: Apache-2.0
"""Column types as an author writes them in ``columns=``."""

from __future__ import annotations

import re
import types
import typing
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from airflow_parallel_provider.errors import PlanError
from airflow_parallel_provider.values.intervals import DayTime
from airflow_parallel_provider.values.json_text import JsonNumber
from airflow_parallel_provider.values.kinds import KIND_OF_TYPE, Column, Kind
from airflow_parallel_provider.values.unreadable import Unreadable

_ALIASES = {
    "boolean": Kind.BOOL, "integer": Kind.INT, "bigint": Kind.INT, "double": Kind.FLOAT, "real": Kind.FLOAT,
    "numeric": Kind.DECIMAL, "str": Kind.TEXT, "string": Kind.TEXT, "varchar": Kind.TEXT, "blob": Kind.BYTES,
    "binary": Kind.BYTES, "timestamp": Kind.DATETIME, "timestamptz": Kind.DATETIMETZ, "interval": Kind.TIMEDELTA,
    "dict": Kind.JSON, "list": Kind.JSON,
}  # fmt: skip

_TYPE_NAMES = [kind.value for kind in Kind if kind not in (Kind.NULL, Kind.OTHER)]

_STORABLE_TYPES = [kind.__name__ for kind in KIND_OF_TYPE if kind not in (type(None), JsonNumber, DayTime, Unreadable)]

_TYPE_TEXT = re.compile(r"([a-z]+)\s*(?:\(\s*(\d+)\s*(?:,\s*(\d+)\s*)?\))?")


def declared_columns(given: object, field: str) -> tuple[Column, ...] | None:
    """Read ``columns=``: a mapping of name to type, names alone, or a class whose fields are annotated.

    A type is a Python type (``int``, ``float | None``, ``Decimal``, ``datetime``, ``dict`` ...) or its name
    (``"int"``, ``"datetimetz"``, ``"decimal(18,4)"``, ``"text(20)"``).

    :param field: the argument, for error texts.
    :raises PlanError: when it is none of those.
    """
    if given is None:
        return None
    if isinstance(given, type):
        from airflow_parallel_provider.values.annotations import columns_of_declared_class

        return columns_of_declared_class(given, field)
    if isinstance(given, str) or not isinstance(given, Iterable):
        raise PlanError(field, given, "give a mapping of column name to type, a class, or a list of column names")
    columns: list[Column]
    if isinstance(given, Mapping):
        columns = [_declared_column(name, given_type, field) for name, given_type in given.items()]
    else:
        columns = [item if isinstance(item, Column) else _declared_column(item, None, field) for item in given]
    if not columns:
        raise PlanError(field, given, "name at least one column, or leave it out to take the columns from the rows")
    seen: set[str] = set()
    for column in columns:
        if column.name in seen:
            raise PlanError(field, column.name, "this column is named twice; name it once")
        seen.add(column.name)
    return tuple(columns)


def _declared_column(name: object, given_type: object, field: str) -> Column:
    if not isinstance(name, str) or not name:
        raise PlanError(field, name, "a column's name is a text that is not empty")
    if given_type is None:
        return Column(name)
    try:
        return replace(parse_type(given_type), name=name)
    except ValueError as error:
        raise PlanError(f"{field}[{name!r}]", given_type, str(error)) from None


def parse_type(given_type: object) -> Column:
    """A column without a name, of a type as an author writes it: a Python type or its name.

    :raises ValueError: its text is the cure.
    """
    if isinstance(given_type, str):
        return _parse_text(given_type)
    bare = _without_none(given_type)
    if isinstance(bare, type) and bare is not type(None) and bare in KIND_OF_TYPE:
        return Column("", KIND_OF_TYPE[bare])
    raise ValueError(f"write one of the types {', '.join(_STORABLE_TYPES)}"
                     f", or a name such as 'datetimetz' or 'decimal(18,4)'")  # fmt: skip


def _without_none(annotation: Any) -> Any:
    """``X | None`` -> ``X``, ``dict[str, int]`` -> ``dict``."""
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        rest = [arg for arg in typing.get_args(annotation) if arg is not type(None)]
        annotation = rest[0] if len(rest) == 1 else annotation
    return typing.get_origin(annotation) or annotation


def _parse_text(text: str) -> Column:
    match = _TYPE_TEXT.fullmatch(text.strip().lower())
    name = match.group(1) if match else ""
    kind = _ALIASES.get(name) or (Kind(name) if name in _TYPE_NAMES else None)
    if match is None or kind is None:
        raise ValueError(f"write one of {', '.join(_TYPE_NAMES)}; decimal(18,4) and text(20) take numbers")
    first, second = (int(number) if number else None for number in match.group(2, 3))
    if first is None:
        return Column("", kind)
    if kind is Kind.DECIMAL and first > 0 and (second or 0) <= first:
        return Column("", kind, precision=first, scale=second or 0)
    if kind in (Kind.TEXT, Kind.BYTES) and first > 0 and second is None:
        return Column("", kind, length=first)
    raise ValueError("only decimal(digits,digits after the point), text(length) and bytes(length) take numbers")
