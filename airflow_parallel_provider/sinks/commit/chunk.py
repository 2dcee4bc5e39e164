# SPDX-License-Identifier: Apache-2.0
"""One chunk that is to be committed, and what becomes of its rows on the way."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from airflow_parallel_provider.rows.block import enumerate_rows
from airflow_parallel_provider.rows.reject import line_of, row_named_in

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from sqlalchemy.engine import Connection

    from airflow_parallel_provider.engine.interfaces.records import DeadLetter
    from airflow_parallel_provider.errors import SinkError
    from airflow_parallel_provider.rows.block import Block, NumberedRow
    from airflow_parallel_provider.rows.reject import RejectedRow
    from airflow_parallel_provider.sinks.aggregates.declare import Aggregate
    from airflow_parallel_provider.sinks.commit.row_writer import RowWriter
    from airflow_parallel_provider.sinks.ledger.chunks import ChunkReceipt


@dataclass(slots=True)
class PendingChunk:
    """One chunk. An attempt that failed leaves it unchanged, except ``row_by_row`` and ``commit_sent``."""

    receipt: ChunkReceipt
    rows: Sequence[Any]
    dead_letters: Sequence[DeadLetter]
    aggregates: Mapping[str, Aggregate]
    positions: Callable[[], Sequence[int]] | None = None
    """Returns the position in the source of each row's item."""
    in_transaction: Callable[[Connection], None] | None = None
    """Called inside the transaction, after the claim."""
    settle: Callable[[Connection, frozenset[int]], None] | None = None
    """Called inside the transaction, after the rows, with :meth:`unwritten_positions`."""
    rejected_by_validate: list[RejectedRow] = field(default_factory=list)
    """Rows that ``validate`` has refused."""
    rejected_by_database: list[RejectedRow] = field(default_factory=list)
    """Rows that the table has refused in the last attempt."""
    row_by_row: bool = False
    """The rows were refused as a whole: the next attempt finds the bad ones."""
    rows_sent: bool = False
    """The attempt has written the rows, and goes on with the control tables."""
    commit_sent: bool = False
    """An attempt has reached the COMMIT."""
    non_uniform: bool = False
    """The rows are not all tuples of one length."""
    partly_written: frozenset[int] = frozenset()
    """Numbers of the rows, or tables of rows, of which the last attempt, row by row, has written something."""
    _numbers: list[int] | None = None
    _block: Block | None = None
    _partials: str | None = None

    @property
    def name(self) -> str:
        """The chunk, for errors."""
        return f"chunk {self.receipt.chunk_id}"

    def validate(self, validate: Any, names: tuple[str, ...] | None) -> None:
        """Remove the rows that are not valid.

        :param names: of the columns, for rows that are tuples.
        """
        from airflow_parallel_provider.rows.validate import validate_rows

        self.rows, self._numbers, self.rejected_by_validate = validate_rows(validate, self.rows, names)

    def block(self, writer: RowWriter, *, unchecked: bool = False) -> Block:
        """All rows that are to be written.

        :param unchecked: the rows need not be looked at now, unless they turned out to be non-uniform before.
        """
        if self._block is None or (self._block.unchecked and not unchecked):
            unchecked = unchecked and not (self.aggregates or self.non_uniform)
            self._block = writer.block(self.rows, unchecked=unchecked)
        return self._block

    def mark_non_uniform(self) -> None:
        """Look at all rows in the next attempt: this one has not, and they are not what the first ones suggest."""
        self.non_uniform, self._block = True, None

    def numbered(self) -> list[NumberedRow]:
        """The rows that are to be written, one by one, with their numbers in the chunk."""
        if self._numbers is None:
            return list(enumerate_rows(self.rows))
        return list(zip(self.rows, self._numbers, strict=True))

    def locate(self, error: SinkError) -> None:
        """Note in an error where the row is from that it names."""
        number = row_named_in(error)
        rows = self.numbered() if number is not None else []
        if number is None or number >= len(rows):
            return
        row, at = rows[number]
        positions = self.item_positions()
        error.line, error.position = line_of(row), positions[at] if at < len(positions) else None

    def may_have_committed(self, found: ChunkReceipt) -> bool:
        """Whether the chunk in the ledger may be this one: it was sent, and this attempt's name is on it."""
        mine = (self.receipt.attempt, self.receipt.labels)
        return self.commit_sent and (found.attempt, found.labels) == mine

    @property
    def rejected(self) -> list[RejectedRow]:
        """All rejected rows."""
        return [*self.rejected_by_validate, *self.rejected_by_database]

    def item_positions(self) -> Sequence[int]:
        """Position in the source of each row's item; empty if unknown."""
        return () if self.positions is None else self.positions()

    def unwritten_positions(self, rows_written: int) -> frozenset[int]:
        """Positions of the items of which the table has refused rows and taken none; empty if unknown.

        What ``validate`` refuses is settled by that.
        """
        refused = {row.at for row in self.rejected_by_database}
        if not refused:
            return frozenset()
        settled = {row.at for row in self.rejected_by_validate}
        positions = [(at, position) for at, position in enumerate(self.item_positions()) if at not in settled]
        if not rows_written:
            return frozenset(position for _, position in positions)
        written = {position for at, position in positions if at not in refused or at in self.partly_written}
        return frozenset(position for _, position in positions) - written

    def prepared(self, block: Block) -> tuple[ChunkReceipt, str | None]:
        """Receipt and aggregate states of the chunk, if these rows are written.

        :raises SchemaMismatch: if an aggregate cannot be computed from the rows.
        """
        receipt = replace(
            self.receipt,
            rows=len(block.rows),
            rows_rejected=len(self.rejected_by_validate) + len(self.rejected_by_database),
        )
        if not self.aggregates:
            return receipt, None
        from airflow_parallel_provider.sinks.aggregates.partials import partials_of, to_text

        if self._partials is None or block is not self._block:
            text = to_text(partials_of(block, self.aggregates, self.name))
            if block is not self._block:
                return receipt, text
            self._partials = text
        return receipt, self._partials
