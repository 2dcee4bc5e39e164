"""Checks of what an author declares. Cheap to import: DAG files are parsed over and over."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from airflow_parallel_provider.errors import PlanError


def key_columns(given: object) -> tuple[str, ...]:
    """``primary_key`` as a tuple.

    :raises PlanError: when it names no columns.
    """
    names = (given,) if isinstance(given, str) else given
    if not isinstance(names, Iterable) or isinstance(names, (bytes, Mapping)):
        raise PlanError("SinkTable.primary_key", given, "give a column name or a list of column names")
    listed = tuple(names)
    for name in listed:
        if not isinstance(name, str) or not name:
            raise PlanError("SinkTable.primary_key", given, "a column's name is a text that is not empty")
        if listed.count(name) > 1:
            raise PlanError("SinkTable.primary_key", given, f"name {name!r} once")
    return listed


def check_name(name: str, value: object) -> None:
    """Refuse what can be the name of nothing.

    :raises PlanError: naming the field.
    """
    if not isinstance(value, str) or not value.strip():
        raise PlanError(f"SinkTable.{name}", value, "give a name: a text that is not empty")
    if "\x00" in value or any("\ud800" <= letter <= "\udfff" for letter in value):
        raise PlanError(f"SinkTable.{name}", value, "a name holds neither NUL nor halves of surrogate pairs")


def check_text(field: str, value: object, *, optional: bool = False) -> None:
    """Refuse what is not a text with something in it.

    :param field: with the name of its class.
    :param optional: None is right, too.
    :raises PlanError: naming the field.
    """
    if value is None and optional:
        return
    if not isinstance(value, str) or not value.strip():
        raise PlanError(field, value, "give a text that is not empty")


def check_number(name: str, value: object, least: float, most: float) -> None:
    """Refuse what is no number, or is out of its range.

    :raises PlanError: naming the field.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not least <= value <= most:
        raise PlanError(f"SinkTable.{name}", value, f"give a number from {least:g} to {most:g}")


def check_count(name: str, value: object, least: int, most: int) -> None:
    """Refuse what is no whole number, or is out of its range.

    :raises PlanError: naming the field.
    """
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise PlanError(f"SinkTable.{name}", value, f"give a whole number from {least:g} to {most:g}")


def check_whole(field: str, value: object, least: int, most: int) -> None:
    """Refuse what is not a whole number within bounds.

    :raises PlanError: naming the field.
    """
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise PlanError(field, value, f"give a whole number from {least:,} to {most:,}")


def check_seconds(field: str, value: object, *, least: float = 0.0) -> None:
    """Refuse what is not a number of seconds.

    :raises PlanError: naming the field.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not least <= value <= 86_400:
        raise PlanError(field, value, f"give seconds, from {least:g} to 86 400")


def check_choice(field: str, value: object, choices: tuple[str, ...]) -> None:
    """Refuse what is not one of the words.

    :raises PlanError: naming the field and the words.
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
    """What a function is called, for an identity: never its address."""
    return None if function is None else getattr(function, "__qualname__", type(function).__qualname__)
