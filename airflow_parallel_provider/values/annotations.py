"""What the annotations of a class say about the columns of its objects."""

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
from airflow_parallel_provider.values.kinds import Column, Kind, common_kind

_BASES: tuple[tuple[type, Kind], ...] = (
    (bool, Kind.BOOL),  # before int, its base
    (int, Kind.INT),
    (float, Kind.FLOAT),
    (Decimal, Kind.DECIMAL),
    (str, Kind.TEXT),
    (bytes, Kind.BYTES),
    (bytearray, Kind.BYTES),
    (memoryview, Kind.BYTES),
    (datetime, Kind.DATETIME),  # before date, its base
    (date, Kind.DATE),
    (time, Kind.TIME),
    (timedelta, Kind.TIMEDELTA),
    (UUID, Kind.UUID),
    (Mapping, Kind.JSON),
    (Sequence, Kind.JSON),
)
_PYDANTIC = {"AwareDatetime": Kind.DATETIMETZ, "NaiveDatetime": Kind.DATETIME}
"""Classes of pydantic that stand for others, by name: it need not be installed."""


def field_names(kind: type) -> tuple[str, ...] | None:
    """Names of the fields that the objects of a class have as attributes; None when it declares none."""
    if is_dataclass(kind):
        return tuple(each.name for each in fields(kind)) or None
    attrs_fields = getattr(kind, "__attrs_attrs__", None)
    if attrs_fields is not None:
        return tuple(each.name for each in attrs_fields) or None
    model_fields = getattr(kind, "model_fields", None)  # pydantic 2
    return tuple(model_fields) or None if isinstance(model_fields, Mapping) else None


def keeps_more(kind: type) -> bool:
    """Whether the objects of a class hold more than its fields: those of a pydantic model with ``extra="allow"``."""
    config = getattr(kind, "model_config", None)
    return isinstance(config, Mapping) and config.get("extra") == "allow" and hasattr(kind, "model_fields")


def declared_class(kind: type, field: str) -> tuple[Column, ...]:
    """The columns of ``columns=`` a class: TypedDict, dataclass, NamedTuple, attrs class or pydantic model.

    :raises PlanError: when the class has no annotated fields.
    """
    names = _annotated_names(kind)
    if not names:
        raise PlanError(
            field, kind, "give a TypedDict, a dataclass, a NamedTuple or a pydantic model, or a mapping of name to type"
        )
    told = columns_of_class(kind)
    return tuple(told.get(name, Column(name)) for name in names)


@cache
def columns_of_class(kind: type) -> Mapping[str, Column]:
    """A column for each field whose annotation says what it holds.

    ``Any``, and what no table can hold, says nothing.
    """
    hints = _hints(kind)
    found = {name: _column(hints[name]) for name in _annotated_names(kind) if name in hints}
    return {name: replace(column, name=name) for name, column in found.items() if column is not None}


def _annotated_names(kind: type) -> tuple[str, ...]:
    names = field_names(kind)
    if names is not None:
        return names
    if typing.is_typeddict(kind) or (issubclass(kind, tuple) and hasattr(kind, "_fields")):
        return tuple(getattr(kind, "_fields", None) or inspect.get_annotations(kind))
    return ()


def _hints(kind: type) -> Mapping[str, Any]:
    model_fields = getattr(kind, "model_fields", None)
    if isinstance(model_fields, Mapping):
        return {name: each.annotation for name, each in model_fields.items()}
    try:
        return typing.get_type_hints(kind)
    except Exception:  # noqa: BLE001  # an annotation may be any expression; the others still say something
        return _readable_hints(kind)


def _readable_hints(kind: type) -> dict[str, Any]:
    """Those that can be made out, where some name a class that is only there for a type checker."""
    found: dict[str, Any] = {}
    for base in reversed(kind.__mro__):
        names = vars(sys.modules.get(base.__module__, types))
        for name, spelled in inspect.get_annotations(base).items():
            alone = types.SimpleNamespace(__annotations__={name: spelled})
            try:
                found.update(typing.get_type_hints(alone, names))
            except Exception:  # noqa: BLE001  # this one says nothing
                found.pop(name, None)
    return found


def _column(annotation: Any) -> Column | None:
    """A nameless column; None when the annotation does not say what it holds."""
    origin = typing.get_origin(annotation)
    if origin in (typing.Union, types.UnionType):
        return _together(arg for arg in typing.get_args(annotation) if arg is not type(None))
    if origin is typing.Literal:
        return _together(type(value) for value in typing.get_args(annotation) if value is not None)
    if origin in (typing.Annotated, typing.Required, typing.NotRequired):
        return _column(typing.get_args(annotation)[0])
    bare = getattr(annotation, "__supertype__", origin or annotation)  # of a NewType
    if bare is not annotation and not isinstance(bare, type):
        return _column(bare)
    return _of_class(bare) if isinstance(bare, type) else None


def _of_class(kind: type) -> Column | None:
    if issubclass(kind, Enum):
        return _together(type(member.value) for member in kind)
    if kind.__module__.startswith("pydantic.") and kind.__name__ in _PYDANTIC:
        return Column("", _PYDANTIC[kind.__name__])
    if typing.is_typeddict(kind) or isinstance(getattr(kind, "model_fields", None), Mapping):
        return Column("", Kind.JSON)
    known = next((known for base, known in _BASES if issubclass(kind, base)), None)
    return None if known is None else Column("", known)


def _together(annotations: Iterable[Any]) -> Column | None:
    """One column for all of them."""
    columns = {_column(each) for each in annotations}
    if len(columns) <= 1:
        return columns.pop() if columns else None
    kind = common_kind(frozenset(column.kind for column in columns if column is not None and column.kind is not None))
    return None if None in columns or kind is None else Column("", kind)


def written_as_annotated(model: object) -> bool:
    """Whether what a pydantic model dumps is what its annotations say: serialisers may make anything of a value."""
    decorators = getattr(model, "__pydantic_decorators__", None)
    if not isinstance(model, type) or decorators is None:
        return False
    return not (decorators.field_serializers or decorators.model_serializers)
