# SPDX-License-Identifier: Apache-2.0
"""Which names of tables and columns a database accepts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_parallel_provider.errors import SchemaMismatch

if TYPE_CHECKING:
    from airflow_parallel_provider.sql.backends.base import Backend


def check_identifier(name: str, what: str, backend: Backend) -> None:
    """Refuse a name that the database does not accept, or would cut off.

    :param what: the object that has the name, for error texts.
    :raises SchemaMismatch: naming the cure.
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
            f"{what} has the name {name!r}, but names in this database cannot contain {refused[0]!r}: rename it"
        )
    longest = backend.longest_name
    if longest is not None and length > longest:
        raise SchemaMismatch(
            f"{what} has the name {name!r} of {length} bytes, but this database keeps only {longest}: shorten it"
        )
