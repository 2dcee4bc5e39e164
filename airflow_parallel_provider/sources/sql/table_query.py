# SPDX-License-Identifier: Apache-2.0
"""What ``SqlSource`` reads, as a value that does not change during a run."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from airflow_parallel_provider.sources.sql.since import Cursor


@dataclass(frozen=True, slots=True)
class TableQuery:
    """The rows of a table or query that a condition selects, by a unique key. All templates are rendered."""

    conn_id: str
    table: str
    schema: str | None
    key: str | Sequence[str] | None
    """The key as the author wrote it, for error texts; None: there is none."""
    key_columns: tuple[str, ...]
    columns: tuple[str, ...] | None
    """None: all columns."""
    where: str | None
    parameters: Mapping[str, Any]
    range_size: int
    """Rows per range."""
    since: Cursor | None = None
    """The column that says which rows are new."""
    query: str | None = None
    """The author's SELECT, which then takes the place of the table."""

    @property
    def identity(self) -> str:
        """Connection, table, key and a digest of columns, condition and range size; the rows are not part of it."""
        digested: list[Any] = [self.columns, self.where, dict(self.parameters), self.range_size]
        if self.since is not None:
            digested += [self.since.column, str(self.since.lag), self.since.nulls]
        if self.query is not None:
            digested.append(self.query)
        digest = hashlib.blake2b(json.dumps(digested, default=str).encode(), digest_size=6).hexdigest()
        table = f"{self.schema}.{self.table}" if self.schema else self.table
        return f"sql {self.conn_id}/{table} by {self.key_text} {digest}"

    @property
    def stream(self) -> str:
        """What all loads share that go on where another one has ended: table, cursor, condition and its parameters."""
        assert self.since is not None
        digested = [self.conn_id, self.schema, self.table, self.since.column, self.where, dict(self.parameters)]
        if self.query is not None:
            digested.append(self.query)
        return hashlib.blake2b(json.dumps(digested, default=str).encode(), digest_size=8).hexdigest()

    @property
    def key_text(self) -> str:
        """The columns of the key, separated by commas."""
        return ", ".join(self.key_columns) or "all columns"
