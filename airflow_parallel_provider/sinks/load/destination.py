# SPDX-License-Identifier: Apache-2.0
"""Where a load writes: the declaration and what was opened for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow_parallel_provider.sinks.files.store import FileStore
    from airflow_parallel_provider.sinks.spec.table_spec import TableSpec
    from airflow_parallel_provider.sql.database import Database


@dataclass(frozen=True, slots=True)
class Destination:
    """A declared table, its database, and the folder of its dead letters."""

    spec: TableSpec
    database: Database
    dead_letter_folder: FileStore | None = None
    """None: dead letters go into a table, or are not kept."""
