"""Names of tables and columns that a database takes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_parallel_provider.errors import SchemaMismatch

if TYPE_CHECKING:
    from airflow_parallel_provider.sql.backends.base import Backend


def check_name(name: str, what: str, backend: Backend) -> None:
    """Refuse a name that the database cannot have, or would cut.

    :raises SchemaMismatch: saying what to do.
    """
    try:
        length = len(name.encode())
    except UnicodeEncodeError:
        raise SchemaMismatch(
            f"{what} has the name {name!r}, which is not valid Unicode: rename it in a stage"
        ) from None
    if not name or "\x00" in name:
        raise SchemaMismatch(f"{what} has the name {name!r}, which is empty or holds a NUL: rename it in a stage")
    refused = backend.refused_in_names and backend.refused_in_names.search(name)
    if refused:
        raise SchemaMismatch(
            f"{what} has the name {name!r}, but this database takes no {refused[0]!r} there: rename it"
        )
    longest = backend.longest_name
    if longest is not None and length > longest:
        raise SchemaMismatch(f"{what} has the name {name!r} of {length} bytes, but only {longest} are kept: shorten it")
