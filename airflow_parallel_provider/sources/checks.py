"""What the declarations of all sources have in common."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar

from airflow_parallel_provider.engine.source import Source
from airflow_parallel_provider.errors import PlanError
from airflow_parallel_provider.sinks.checks import check_text

__all__ = [
    "DeclaredSource", "check_choice", "check_function", "check_mapping", "check_seconds", "check_text", "check_whole",
    "name_of",
]  # fmt: skip


class DeclaredSource(Source):
    """A source that is declared in a DAG file, and whose texts Airflow may render."""

    template_fields: ClassVar[tuple[str, ...]] = ()
    """What Airflow renders when the source is in a template field of an operator."""

    def __bool__(self) -> bool:
        # Airflow asks before it renders, and would take the length for the answer.
        return True

    def __iter__(self) -> Iterator[Any]:
        """Yield the items."""
        raise NotImplementedError


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
