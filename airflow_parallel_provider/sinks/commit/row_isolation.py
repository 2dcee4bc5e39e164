# SPDX-License-Identifier: Apache-2.0
"""Finds the rows that the database refuses, by halving, inside the chunk's own transaction.

Each part is written behind a savepoint. A refused part is rolled back and halved, until each bad row is alone; the
rows around it are written by then, in their order. Because the written parts stay, a row that only collides with
another row of its chunk is found as well: the first one stays.

On a database without savepoints (DuckDB) the whole transaction is rolled back: the chunk is claimed again and the parts
written so far are written again, all at once.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from airflow_parallel_provider.errors import SchemaMismatch, WriteRefused
from airflow_parallel_provider.rows.block import Block, NumberedRow
from airflow_parallel_provider.rows.diagnose import diagnose
from airflow_parallel_provider.rows.fit import WrongColumns
from airflow_parallel_provider.rows.reject import RejectedRow, cause_of, with_line
from airflow_parallel_provider.sinks.commit.blame import is_fault_of_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sqlalchemy.engine import Connection

    from airflow_parallel_provider.sinks.commit.row_writer import RowWriter
    from airflow_parallel_provider.sql.database import Database
    from airflow_parallel_provider.values.table_shape import TableShape

_SAVEPOINT = "parallel_part"

_HERE = "\0"  # stands for the chunk in an error text, so that it can be removed

_PLACE = re.compile(r" \(\0[^)]*\)")

Part = tuple[tuple[str, ...], list[tuple[Any, ...]]]
"""Names of columns, and rows as the driver takes them."""


@dataclass(frozen=True, slots=True)
class RowIsolation:
    """Writes those rows of one chunk that the table accepts, in the transaction that is open."""

    connection: Connection
    database: Database
    writer: RowWriter
    shape: TableShape
    where: str
    """Which chunk, for errors."""
    claim_again: Callable[[], None]
    """Rolls the transaction back, begins another one and claims the chunk in it."""
    _written: list[Part] = field(default_factory=list)
    """What has been written, if it may have to be written again."""
    _misfits: list[str] = field(default_factory=list)
    """Why single rows were refused for the columns that they have."""

    def write(
        self, rows: Sequence[NumberedRow], columns: tuple[str, ...], refuse: Callable[[RejectedRow], None]
    ) -> list[NumberedRow]:
        """Write the rows; return those that the table has accepted.

        :param columns: of all rows together: a row that lacks one gets NULL there, whatever part it is in.
        :param refuse: called with each of the others; may raise if they are too many.
        :raises SchemaMismatch: if no row has the table's columns: then the table, or the whole chunk, is another one.
        """
        written: list[NumberedRow] = []
        names = tuple(name for name in columns if name in self.shape.by_name)
        parts = [list(rows)]
        while parts:
            part = parts.pop()
            reason = self._refusal_of(part, names) if part else None
            if reason is None:
                written += part
            elif len(part) > 1:
                middle = len(part) // 2
                parts += [part[middle:], part[:middle]]  # the first half is next
            else:
                row, at = part[0]
                refuse(RejectedRow(self.writer.readable(row), at, "table", with_line(row, reason), cause_of(reason)))
        if len(rows) > 1 and len(self._misfits) == len(rows):
            raise SchemaMismatch(f"all {len(rows)} rows of {self.where}: {self._misfits[0]}")
        return written

    def _refusal_of(self, part: Sequence[NumberedRow], names: tuple[str, ...]) -> str | None:
        """Write a part; return why it was refused, or None."""
        self.database.backend.dml.prepare_next_write(self.connection)
        self._set_savepoint()
        block = None
        try:
            block = _padded(self.writer.block([row for row, _ in part]), names)
            rows = self.writer.fit(block, self.shape, _HERE)
            if not self.database.backend.savepoints:
                rows = list(rows)
            self.writer.write(self.connection, self.shape, block.names, rows, self.where)
        except Exception as error:
            if not self._is_refusal(error, names if block is None else block.names):
                raise
            reason = self._reason(error, block if len(part) == 1 else None)
            if len(part) == 1 and isinstance(error, WrongColumns):
                self._misfits.append(reason)
            self._roll_back()
            return reason
        self._keep(block.names, rows)
        return None

    def _set_savepoint(self) -> None:
        if self.database.backend.savepoints:
            self.connection.dialect.do_savepoint(self.connection, _SAVEPOINT)

    def _keep(self, names: tuple[str, ...], rows: Any) -> None:
        if self.database.backend.savepoints:
            self.connection.dialect.do_release_savepoint(self.connection, _SAVEPOINT)
        elif self._written and self._written[-1][0] == names:
            self._written[-1][1].extend(rows)
        else:
            self._written.append((names, rows))

    def _roll_back(self) -> None:
        if self.database.backend.savepoints:
            self.connection.dialect.do_rollback_to_savepoint(self.connection, _SAVEPOINT)
            return
        self.claim_again()
        for names, rows in self._written:
            self.writer.write(self.connection, self.shape, names, rows, self.where)

    def _is_refusal(self, error: Exception, names: tuple[str, ...]) -> bool:
        """Whether a row is to blame. After anything else (a lock, a missing right) the whole chunk fails."""
        if isinstance(error, SchemaMismatch):
            return not isinstance(error, WriteRefused)
        known = self.database.is_driver_error(error)
        return known and is_fault_of_rows(error, self.database.backend, self.shape, names)

    def _reason(self, error: Exception, block: Block | None) -> str:
        backend = self.database.backend
        if isinstance(error, SchemaMismatch):
            return _PLACE.sub("", str(error)).replace("row 0 of the chunk", "a row")  # 0: of a part of one row
        found = None if block is None else diagnose(block, self.shape, _HERE, takes_nul=backend.takes_nul)
        return _PLACE.sub("", found) if found else f"refused by the database ({backend.errors.explain(error)})"


def _padded(block: Block, names: tuple[str, ...]) -> Block:
    missing = tuple(name for name in names if name not in block.names)
    if not missing:
        return block
    return Block((*block.names, *missing), [(*row, *[None] * len(missing)) for row in block.rows], block.sources)
