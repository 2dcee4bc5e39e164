"""Definitions of the tables that a load keeps its books in: each is built once, for that takes as long as a query."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

from airflow_parallel_provider.sinks.writers.base import core_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

_KEPT = 32
"""Definitions of one kind of table that are kept: a process seldom has more than a few warehouses."""


def defined_once(columns: Callable[[], Iterable[Any]]) -> Callable[[str, str | None, Mapping[str, Any]], Any]:
    """What gives a SQLAlchemy table by its name, its schema and the options of its database: the same one every time.

    A definition knows nothing of a connection, and nobody changes one, so threads may share it.

    :param columns: makes the columns.
    """

    @lru_cache(maxsize=_KEPT)
    def defined(name: str, schema: str | None, options: tuple[tuple[str, Any], ...]) -> Any:
        return core_of(name, schema, *columns(), **dict(options))

    return lambda name, schema, options: defined(name, schema, tuple(sorted(options.items())))
