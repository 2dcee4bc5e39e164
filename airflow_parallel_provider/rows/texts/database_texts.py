# SPDX-License-Identifier: Apache-2.0
"""Values that Python cannot hold, on their way from one database to another of the same kind."""

from __future__ import annotations

from airflow_parallel_provider.values.convert import ConversionError
from airflow_parallel_provider.values.unreadable import NOT_READ_CURE, DatabaseText, Unreadable


class NotReadError(ConversionError):
    """A value that the source could not read, and the column does not take."""

    cure = NOT_READ_CURE


def database_text(takes: str | None, value: Unreadable) -> DatabaseText:
    """What Python cannot hold, for a column that takes the texts of a type of PostgreSQL; None: it takes none."""
    if takes is None or value.source_type != takes:
        raise NotReadError(f"{value.reason}, read from {value.place}")
    return DatabaseText(value.text)
