# SPDX-License-Identifier: Apache-2.0
"""Columns from the annotations of a class: dataclass, TypedDict, NamedTuple, attrs class or pydantic model."""

from __future__ import annotations

import inspect
import sys
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from functools import cache
from typing import Any
from uuid import UUID

from airflow_parallel_provider.errors import PlanError
from airflow_parallel_provider.values.intervals import Interval
from airflow_parallel_provider.values.json_text import JsonText
from airflow_parallel_provider.values.kinds import Column, Kind, common_kind

_KIND_OF_BASE: tuple[tuple[type, Kind], ...] = (
    (bool, Kind.BOOL),  # before int, its base
    (int, Kind.INT),
    (float, Kind.FLOAT),
    (Decimal, Kind.DECIMAL),
    (JsonText, Kind.JSON),  # before str, its base
    (str, Kind.TEXT),
    (bytes, Kind.BYTES),
    (bytearray, Kind.BYTES),
    (memoryview, Kind.BYTES),
    (datetime, Kind.DATETIME),  # before date, its base
    (date, Kind.DATE),
    (time, Kind.TIME),
    (timedelta, Kind.TIMEDELTA),
    (Interval, Kind.TIMEDELTA),
    (UUID, Kind.UUID),
    (Mapping, Kind.JSON),
    (Sequence, Kind.JSON),
)
_PYDANTIC_KINDS = {"AwareDatetime": Kind.DATETIMETZ, "NaiveDatetime": Kind.DATETIME}
"""Classes of pydantic that stand for other types, by name: pydantic need not be installed."""


def field_names(cls: type) -> tuple[str, ...] | None:
    """Names of the fields that the objects of a class have as attributes; None when the class declares none."""
    if is_dataclass(cls):
        return tuple(each.name for each in fields(cls)) or None
    attrs_fields = getattr(cls, "__attrs_attrs__", None)
    if attrs_fields is not None:
        return tuple(each.name for each in attrs_fields) or None
    model_fields = getattr(cls, "model_fields", None)  # pydantic 2
    return tuple(model_fields) or None if isinstance(model_fields, Mapping) else None


def has_extra_fields(cls: type) -> bool:
    """Whether the objects of a class may have more than its fields: a pydantic model with ``extra="allow"``."""
    config = getattr(cls, "model_config", None)
    return isinstance(config, Mapping) and config.get("extra") == "allow" and hasattr(cls, "model_fields")


def dumps_as_annotated(model: object) -> bool:
    """Whether a pydantic model dumps the types that its annotations say: a serializer may return anything."""
    decorators = getattr(model, "__pydantic_decorators__", None)
    if not isinstance(model, type) or decorators is None:
        return False
    return not (decorators.field_serializers or decorators.model_serializers)


def columns_of_declared_class(cls: type, field: str) -> tuple[Column, ...]:
    """The columns that ``columns=`` declares with a class; those whose annotation says nothing are to be inferred.

    :param field: the argument, for error texts.
    :raises PlanError: when the class has no annotated fields.
    """
    names = _annotated_names(cls)
    if not names:
        raise PlanError(
            field, cls, "give a TypedDict, a dataclass, a NamedTuple or a pydantic model, or a mapping of name to type"
        )
    columns = columns_of_class(cls)
    return tuple(columns.get(name, Column(name)) for name in names)


@cache
def columns_of_class(cls: type) -> Mapping[str, Column]:
    """A column for each field whose annotation says what the field holds.

    ``Any``, and a type that no table can hold, say nothing.
    """
    annotations = _annotations(cls)
    found = {name: _column(annotations[name]) for name in _annotated_names(cls) if name in annotations}
    return {name: replace(column, name=name) for name, column in found.items() if column is not None}


def _annotated_names(cls: type) -> tuple[str, ...]:
    names = field_names(cls)
    if names is not None:
        return names
    if typing.is_typeddict(cls) or (issubclass(cls, tuple) and hasattr(cls, "_fields")):
        return tuple(getattr(cls, "_fields", None) or inspect.get_annotations(cls))
    return ()


def _annotations(cls: type) -> Mapping[str, Any]:
    model_fields = getattr(cls, "model_fields", None)
    if isinstance(model_fields, Mapping):
        return {name: each.annotation for name, each in model_fields.items()}
    try:
        return typing.get_type_hints(cls)
    except Exception:  # noqa: BLE001  # an annotation may be any expression; the others still count
        return _resolvable_annotations(cls)


def _resolvable_annotations(cls: type) -> dict[str, Any]:
    """The annotations that can be resolved, where others name a class that only a type checker sees."""
    found: dict[str, Any] = {}
    for base in reversed(cls.__mro__):
        names = vars(sys.modules.get(base.__module__, types))
        for name, annotation in inspect.get_annotations(base).items():
            owner = types.SimpleNamespace(__annotations__={name: annotation})
            try:
                found.update(typing.get_type_hints(owner, names))
            except Exception:  # noqa: BLE001  # as above
                found.pop(name, None)
    return found


def _column(annotation: Any) -> Column | None:
    """A column without a name; None when the annotation does not say what the field holds."""
    origin = typing.get_origin(annotation)
    if origin in (typing.Union, types.UnionType):
        return _common_column(arg for arg in typing.get_args(annotation) if arg is not type(None))
    if origin is typing.Literal:
        return _common_column(type(value) for value in typing.get_args(annotation) if value is not None)
    if origin in (typing.Annotated, typing.Required, typing.NotRequired):
        return _column(typing.get_args(annotation)[0])
    bare = getattr(annotation, "__supertype__", origin or annotation)  # of a NewType
    if bare is not annotation and not isinstance(bare, type):
        return _column(bare)
    return _column_of_class(bare) if isinstance(bare, type) else None


def _column_of_class(cls: type) -> Column | None:
    if issubclass(cls, Enum):
        return _common_column(type(member.value) for member in cls)
    if cls.__module__.startswith("pydantic.") and cls.__name__ in _PYDANTIC_KINDS:
        return Column("", _PYDANTIC_KINDS[cls.__name__])
    if typing.is_typeddict(cls) or isinstance(getattr(cls, "model_fields", None), Mapping):
        return Column("", Kind.JSON)
    kind = next((kind for base, kind in _KIND_OF_BASE if issubclass(cls, base)), None)
    return None if kind is None else Column("", kind)


def _common_column(annotations: Iterable[Any]) -> Column | None:
    """One column for values of all these types; None when there is none."""
    columns = {_column(each) for each in annotations}
    if len(columns) <= 1:
        return columns.pop() if columns else None
    kind = common_kind(frozenset(column.kind for column in columns if column is not None and column.kind is not None))
    return None if None in columns or kind is None else Column("", kind)
