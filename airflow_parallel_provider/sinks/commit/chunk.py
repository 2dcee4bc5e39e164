"""What one chunk brings to the database, and what becomes of its rows on the way there."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from airflow_parallel_provider.rows.block import enumerate_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from sqlalchemy.engine import Connection

    from airflow_parallel_provider.engine.interfaces.records import DeadLetter
    from airflow_parallel_provider.rows.block import Block, NumberedRow
    from airflow_parallel_provider.rows.reject import RejectedRow
    from airflow_parallel_provider.sinks.aggregates.declare import Aggregate
    from airflow_parallel_provider.sinks.commit.target_table import TargetTable
    from airflow_parallel_provider.sinks.ledger.chunks import ChunkReceipt


@dataclass(slots=True)
class PendingChunk:
    """One chunk. A try that failed leaves it as it was, but for ``alone`` and ``sent``."""

    receipt: ChunkReceipt
    rows: Sequence[Any]
    dead_letters: Sequence[DeadLetter]
    aggregates: Mapping[str, Aggregate]
    positions: Callable[[], Sequence[int]] | None = None
    """Position in the source of each row's item."""
    in_transaction: Callable[[Connection], None] | None = None
    """Called inside the transaction, after the claim."""
    rejected_by_validate: list[RejectedRow] = field(default_factory=list)
    """Rows that ``validate`` has refused."""
    rejected_by_database: list[RejectedRow] = field(default_factory=list)
    """Rows that the table has refused in the last try."""
    row_by_row: bool = False
    """The rows were refused as a whole: the next try finds the guilty ones."""
    commit_sent: bool = False
    """A try has got as far as the COMMIT."""
    non_uniform: bool = False
    """The rows are not all tuples of one length."""
    _numbers: list[int | None] | None = None
    _block: Block | None = None
    _partials: str | None = None

    def validate(self, validate: Any, names: tuple[str, ...] | None) -> None:
        """Take out the rows that are not good."""
        from airflow_parallel_provider.rows.validate import validate_rows

        self.rows, self._numbers, self.rejected_by_validate = validate_rows(validate, self.rows, names)

    def block(self, target: TargetTable, *, lazily: bool = False) -> Block:
        """All rows that are meant for the table.

        :param lazily: they may be left unseen, unless they turned out to be irregular before.
        """
        if self._block is None or (self._block.unchecked and not lazily):
            self._block = target.block(self.rows, lazily=lazily and not (self.aggregates or self.non_uniform))
        return self._block

    def mark_non_uniform(self) -> None:
        """The rows were left unseen in a try, and are not as they seemed."""
        self.non_uniform, self._block = True, None

    def numbered(self) -> list[NumberedRow]:
        """The same one by one, with their numbers in the chunk."""
        if self._numbers is None:
            return list(enumerate_rows(self.rows))
        return list(zip(self.rows, self._numbers, strict=True))

    @property
    def rejected(self) -> list[RejectedRow]:
        """All that was rejected."""
        return [*self.rejected_by_validate, *self.rejected_by_database]

    def item_positions(self) -> Sequence[int]:
        """Position in the source of each row's item; empty where nobody knows."""
        return () if self.positions is None else self.positions()

    def prepared(self, block: Block, where: str) -> tuple[ChunkReceipt, str | None]:
        """Receipt and partial aggregates, if these rows are written.

        :raises SchemaMismatch: when an aggregate cannot be taken of the rows.
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
            text = to_text(partials_of(block, self.aggregates, where))
            if block is not self._block:
                return receipt, text
            self._partials = text
        return receipt, self._partials
