"""Checks of what an author writes for a sink table. Cheap to import: DAG files are parsed over and over."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

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
