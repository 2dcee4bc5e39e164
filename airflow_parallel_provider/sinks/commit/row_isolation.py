"""Which rows the database refuses, found by halving inside the chunk's own transaction.

Each part is written behind a savepoint. A part that is refused is taken back and halved, until the guilty rows are
alone; their neighbours are in by then, in their order. Because the parts stay, a row that only collides with another
row of its chunk is found as well: the first one stays.

A database without savepoints (DuckDB) takes back the whole transaction: the chunk is claimed anew and the parts that
were taken before are written again, all at once.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from airflow_parallel_provider.errors import SchemaMismatch
from airflow_parallel_provider.rows.block import Block, NumberedRow
from airflow_parallel_provider.rows.diagnose import diagnose
from airflow_parallel_provider.rows.reject import RejectedRow
from airflow_parallel_provider.sql.disk_full import is_transient
from airflow_parallel_provider.sql.missing_table import is_missing_table

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sqlalchemy.engine import Connection

    from airflow_parallel_provider.sinks.commit.target_table import TargetTable
    from airflow_parallel_provider.sql.database import Database
    from airflow_parallel_provider.values.table_shape import TableShape

_SAVEPOINT = "parallel_part"

_HERE = "\0"  # stands where an error text names the chunk, so that it can be taken out

_PLACE = re.compile(r" \(\0[^)]*\)")

Part = tuple[tuple[str, ...], list[tuple[Any, ...]]]
"""Names of columns, and rows as the driver takes them."""


@dataclass(frozen=True, slots=True)
class RowIsolation:
    """Writes the rows of one chunk that the table takes, in the transaction that is open."""

    connection: Connection
    database: Database
    target: TargetTable
    shape: TableShape
    claim_again: Callable[[], None]
    """Rolls the transaction back, begins another one and claims the chunk in it."""
    _taken: list[Part] = field(default_factory=list)
    """What is in, where it may have to be written again."""

    def write(self, rows: Sequence[NumberedRow], refuse: Callable[[RejectedRow], None]) -> list[NumberedRow]:
        """Write them; return those that are in.

        :param refuse: told of each of the others; may raise when they are too many.
        """
        written: list[NumberedRow] = []
        names = self._names(rows)
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
                refuse(RejectedRow(row, at, "table", reason, reason))
        return written

    def _names(self, rows: Sequence[NumberedRow]) -> tuple[str, ...]:
        """Columns of the chunk: a row that lacks one has NULL there, in whichever part it is written."""
        try:
            names = self.target.block([row for row, _ in rows]).names
        except SchemaMismatch:  # of a row that has no columns; those that have some are written with their own
            return ()
        return tuple(name for name in names if name in self.shape.by_name)

    def _refusal_of(self, part: Sequence[NumberedRow], names: tuple[str, ...]) -> str | None:
        """Write a part; why it was refused, None when it is in."""
        self.database.backend.before_part(self.connection)
        self._mark()
        block = None
        try:
            block = _padded(self.target.block([row for row, _ in part]), names)
            rows = self.target.fit(block, self.shape, _HERE)
            if not self.database.backend.savepoints:
                rows = list(rows)
            self.target.write(self.connection, self.shape, block.names, rows)
        except Exception as error:
            if not self._is_refusal(error):
                raise
            reason = self._reason(error, block if len(part) == 1 else None)
            self._take_back()
            return reason
        self._keep(block.names, rows)
        return None

    def _mark(self) -> None:
        if self.database.backend.savepoints:
            self.connection.dialect.do_savepoint(self.connection, _SAVEPOINT)

    def _keep(self, names: tuple[str, ...], rows: Any) -> None:
        if self.database.backend.savepoints:
            self.connection.dialect.do_release_savepoint(self.connection, _SAVEPOINT)
        elif self._taken and self._taken[-1][0] == names:
            self._taken[-1][1].extend(rows)
        else:
            self._taken.append((names, rows))

    def _take_back(self) -> None:
        if self.database.backend.savepoints:
            self.connection.dialect.do_rollback_to_savepoint(self.connection, _SAVEPOINT)
            return
        self.claim_again()
        for names, rows in self._taken:
            self.target.write(self.connection, self.shape, names, rows)

    def _is_refusal(self, error: Exception) -> bool:
        """After anything else (a lock, a lost connection, a table that is gone) the whole chunk is tried again."""
        if isinstance(error, SchemaMismatch):
            return True
        passes = is_transient(error, self.database.backend) or is_missing_table(error)
        return self.database.is_driver_error(error) and not passes

    def _reason(self, error: Exception, block: Block | None) -> str:
        backend = self.database.backend
        if isinstance(error, SchemaMismatch):
            return _PLACE.sub("", str(error)).replace("row 0 of the chunk", "a row")  # 0: of a part of one
        found = None if block is None else diagnose(block, self.shape, _HERE, takes_nul=backend.takes_nul)
        return _PLACE.sub("", found) if found else f"refused by the database ({backend.explain(error)})"


def _padded(block: Block, names: tuple[str, ...]) -> Block:
    lacking = tuple(name for name in names if name not in block.names)
    if not lacking:
        return block
    return Block((*block.names, *lacking), [(*row, *[None] * len(lacking)) for row in block.rows], block.sources)
