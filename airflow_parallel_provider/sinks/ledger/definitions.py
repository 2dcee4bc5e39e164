"""Definitions of the tables that a load keeps its books in: each is built once, for that takes as long as a query."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from airflow_parallel_provider.sql.backends.base import core_of

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


def long_binary() -> Any:
    """Bytes of any length: what MySQL calls by that name ends at 64 KB."""
    import sqlalchemy as sa
    from sqlalchemy.dialects import mysql

    return sa.LargeBinary().with_variant(mysql.LONGBLOB(), "mysql").with_variant(mysql.LONGBLOB(), "mariadb")


CHUNK_ID_LENGTH = 64

LOAD_KEY_LENGTH = 200


def _key(name: str, length: int) -> Any:
    import sqlalchemy as sa

    return sa.Column(name, sa.String(length), primary_key=True, nullable=False)


def long_text() -> Any:
    """A text of any length: what MySQL calls by that name ends at 64 KB, and a listing of files may be longer."""
    import sqlalchemy as sa
    from sqlalchemy.dialects import mysql

    # SQLAlchemy 1.4 knows MariaDB under MySQL's name only.
    return sa.Text().with_variant(mysql.LONGTEXT(), "mysql").with_variant(mysql.LONGTEXT(), "mariadb")


def now() -> datetime:
    """UTC without a zone: what a plain timestamp column keeps the same way on every backend."""
    return datetime.now(UTC).replace(tzinfo=None)
