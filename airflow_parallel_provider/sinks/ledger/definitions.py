# SPDX-License-Identifier: Apache-2.0
"""Definitions of the control tables. Each is built once, because that takes as long as a query."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from airflow_parallel_provider.sql.backends.core_tables import core_table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

_CACHED = 32
"""How many definitions of one kind of table are cached: a process seldom has more than a few warehouses."""


def defined_once(columns: Callable[[], Iterable[Any]]) -> Callable[[str, str | None, Mapping[str, Any]], Any]:
    """A function of name, schema and options of the database that returns the same SQLAlchemy table every time.

    A definition knows no connection and is never changed, so threads may share it.

    :param columns: creates the columns.
    """

    @lru_cache(maxsize=_CACHED)
    def defined(name: str, schema: str | None, options: tuple[tuple[str, Any], ...]) -> Any:
        return core_table(name, schema, *columns(), **dict(options))

    return lambda name, schema, options: defined(name, schema, tuple(sorted(options.items())))


def long_binary() -> Any:
    """Bytes of any length: a BLOB of MySQL holds 64 KB."""
    import sqlalchemy as sa
    from sqlalchemy.dialects import mysql

    return sa.LargeBinary().with_variant(mysql.LONGBLOB(), "mysql").with_variant(mysql.LONGBLOB(), "mariadb")


CHUNK_ID_LENGTH = 64

LOAD_KEY_LENGTH = 200


def key_column(name: str, length: int) -> Any:
    """A text column that is part of the primary key."""
    import sqlalchemy as sa

    return sa.Column(name, sa.String(length), primary_key=True, nullable=False)


def long_text() -> Any:
    """A text of any length: a TEXT of MySQL holds 64 KB, and the state of a source with many files may be longer."""
    import sqlalchemy as sa
    from sqlalchemy.dialects import mysql

    # SQLAlchemy 1.4 knows MariaDB only under the name of MySQL.
    return sa.Text().with_variant(mysql.LONGTEXT(), "mysql").with_variant(mysql.LONGTEXT(), "mariadb")


def now() -> datetime:
    """UTC without a time zone: every backend stores that in a plain timestamp column unchanged."""
    return datetime.now(UTC).replace(tzinfo=None)


def staging_name(table: str, load: str, longest: int | None) -> str:
    """The table that collects the rows of a load with ``write_disposition="replace"``: one per load.

    :param longest: bytes of the longest name that the database supports; None: unknown.
    """
    name = f"{table}__staging_{load[:12]}"
    return name if len(name.encode()) + 4 <= (longest or 63) else f"parallel_staging_{load}"


def load_id(load_key: str, table: str, schema: str | None) -> str:
    """Short stable id of a load: of one load key, into one table."""
    text = json.dumps([load_key, schema or "", table])
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
