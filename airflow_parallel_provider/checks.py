# SPDX-License-Identifier: Apache-2.0
"""Checks of what an author declares. Cheap to import: DAG files are parsed over and over."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeGuard

from airflow_parallel_provider.errors import PlanError


def key_columns(given: object, field: str = "SinkTable.primary_key") -> tuple[str, ...]:
    """``primary_key`` as a tuple.

    :param field: the argument, for errors.
    :raises PlanError: when it names no columns.
    """
    names = (given,) if isinstance(given, str) else given
    if not isinstance(names, Iterable) or isinstance(names, (bytes, Mapping)):
        raise PlanError(field, given, "give a column name or a list of column names")
    listed = tuple(names)
    for name in listed:
        if not isinstance(name, str) or not name:
            raise PlanError(field, given, "a column's name is a text that is not empty")
        if listed.count(name) > 1:
            raise PlanError(field, given, f"name {name!r} once")
    return listed


def check_declared_name(name: str, value: object) -> None:
    """Refuse what cannot be a name in a database.

    :raises PlanError: naming the field.
    """
    if not isinstance(value, str) or not value.strip():
        raise PlanError(f"SinkTable.{name}", value, "give a name: a text that is not empty")
    if "\x00" in value or any("\ud800" <= character <= "\udfff" for character in value):
        raise PlanError(f"SinkTable.{name}", value, "a name holds neither NUL nor halves of surrogate pairs")


def check_text(field: str, value: object, *, optional: bool = False) -> None:
    """Refuse what is not a text, or an empty one.

    :param field: with the name of its class.
    :param optional: None is allowed.
    :raises PlanError: naming the field.
    """
    if value is None and optional:
        return
    if not isinstance(value, str) or not value.strip():
        raise PlanError(field, value, "give a text that is not empty")


def check_whole(
    field: str, value: object, least: int = 1, most: int | None = None, *, unit: str = "", optional: bool = False
) -> None:
    """Refuse what is not a whole number within bounds.

    :param field: with the name of its class.
    :param unit: what is counted, for the error text.
    :param optional: None is allowed.
    :raises PlanError: naming the field.
    """
    if value is None and optional:
        return
    if isinstance(value, bool) or not isinstance(value, int) or value < least or (most is not None and value > most):
        bounds = f", {least:,} or more" if most is None else f" from {least:,} to {most:,}"
        raise PlanError(field, value, f"give a whole number{f' of {unit}' * bool(unit)}{bounds}{_or_none(optional)}")


def check_number(field: str, value: object, least: float, most: float) -> None:
    """Refuse what is not a number within bounds.

    :param field: with the name of its class.
    :raises PlanError: naming the field.
    """
    if not _is_number(value) or not least <= value <= most:
        raise PlanError(field, value, f"give a number from {least:g} to {most:g}")


def check_positive(field: str, value: object, *, unit: str = "seconds", optional: bool = False) -> None:
    """Refuse what is not a finite number above 0.

    :param field: with the name of its class.
    :param unit: of the number, for the error text.
    :param optional: None is allowed.
    :raises PlanError: naming the field.
    """
    if value is None and optional:
        return
    if not _is_number(value) or not 0 < value < math.inf:
        raise PlanError(field, value, f"give {unit}, more than 0{_or_none(optional)}")


def check_seconds(field: str, value: object, *, least: float = 0.0, most: float = 86_400.0) -> None:
    """Refuse what is not a finite number of seconds within bounds.

    :param field: with the name of its class.
    :param most: may be infinity: no upper bound.
    :raises PlanError: naming the field.
    """
    if not _is_number(value) or not least <= value <= most or value == math.inf:
        bounds = f"{least:g} or more" if most == math.inf else f"from {least:g} to {most:,.0f}"
        raise PlanError(field, value, f"give seconds, {bounds}")


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _or_none(optional: bool) -> str:
    return ", or leave it out" if optional else ""


def check_choice(field: str, value: object, choices: tuple[str, ...]) -> None:
    """Refuse what is not one of the choices.

    :raises PlanError: naming the field and the choices.
    """
    if value not in choices:
        raise PlanError(field, value, f"write {' or '.join(map(repr, choices))}")


def check_function(field: str, value: object, meaning: str) -> None:
    """Refuse what is neither a function nor left out.

    :raises PlanError: naming the field.
    """
    if value is not None and not callable(value):
        raise PlanError(field, value, f"give {meaning}, or leave it out")


def check_mapping(field: str, value: object) -> None:
    """Refuse what is neither a dict with texts as keys nor left out.

    :raises PlanError: naming the field.
    """
    if value is not None and (not isinstance(value, Mapping) or not all(isinstance(name, str) for name in value)):
        raise PlanError(field, value, "give a dict with texts as keys, or leave it out")


def name_of(function: Callable[..., Any] | None) -> str | None:
    """The name of a function, for an identity: never its address."""
    return None if function is None else getattr(function, "__qualname__", type(function).__qualname__)
