"""What one chunk brings to the database, and what becomes of its rows on the way there."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from airflow_parallel_provider.rows.block import numbered_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from sqlalchemy.engine import Connection

    from airflow_parallel_provider.engine.interfaces.records import DeadLetter
    from airflow_parallel_provider.rows.block import Block, NumberedRow
    from airflow_parallel_provider.rows.reject import Reject
    from airflow_parallel_provider.sinks.aggregates.declare import Aggregate
    from airflow_parallel_provider.sinks.commit.target_table import Target
    from airflow_parallel_provider.sinks.ledger.chunks import ChunkReceipt


@dataclass(slots=True)
class Content:
    """One chunk. A try that failed leaves it as it was, but for ``alone`` and ``sent``."""

    receipt: ChunkReceipt
    rows: Sequence[Any]
    letters: Sequence[DeadLetter]
    figures: Mapping[str, Aggregate]
    positions: Callable[[], Sequence[int]] | None = None
    """Position in the source of each row's item."""
    within: Callable[[Connection], None] | None = None
    """Called inside the transaction, after the claim."""
    screened: list[Reject] = field(default_factory=list)
    """Rows that ``validate`` has refused."""
    refused: list[Reject] = field(default_factory=list)
    """Rows that the table has refused in the last try."""
    alone: bool = False
    """The rows were refused as a whole: the next try finds the guilty ones."""
    sent: bool = False
    """A try has got as far as the COMMIT."""
    irregular: bool = False
    """The rows are not all tuples of one length."""
    _numbers: list[int | None] | None = None
    _block: Block | None = None
    _partials: str | None = None

    def screen(self, validate: Any, names: tuple[str, ...] | None) -> None:
        """Take out the rows that are not good."""
        from airflow_parallel_provider.rows.validate import screen

        self.rows, self._numbers, self.screened = screen(validate, self.rows, names)

    def block(self, target: Target, *, lazily: bool = False) -> Block:
        """All rows that are meant for the table.

        :param lazily: they may be left unseen, unless they turned out to be irregular before.
        """
        if self._block is None or (self._block.unseen and not lazily):
            self._block = target.block(self.rows, lazily=lazily and not (self.figures or self.irregular))
        return self._block

    def turned_out_irregular(self) -> None:
        """The rows were left unseen in a try, and are not as they seemed."""
        self.irregular, self._block = True, None

    def numbered(self) -> list[NumberedRow]:
        """The same one by one, with their numbers in the chunk."""
        if self._numbers is None:
            return list(numbered_rows(self.rows))
        return list(zip(self.rows, self._numbers, strict=True))

    @property
    def rejects(self) -> list[Reject]:
        """All that was rejected."""
        return [*self.screened, *self.refused]

    def item_positions(self) -> Sequence[int]:
        """Position in the source of each row's item; empty where nobody knows."""
        return () if self.positions is None else self.positions()

    def ready(self, block: Block, where: str) -> tuple[ChunkReceipt, str | None]:
        """Receipt and partial aggregates, if these rows are written.

        :raises SchemaMismatch: when an aggregate cannot be taken of the rows.
        """
        receipt = replace(self.receipt, rows=len(block.rows), rows_rejected=len(self.screened) + len(self.refused))
        if not self.figures:
            return receipt, None
        from airflow_parallel_provider.sinks.aggregates.partials import partials_of, to_text

        if self._partials is None or block is not self._block:
            text = to_text(partials_of(block, self.figures, where))
            if block is not self._block:
                return receipt, text
            self._partials = text
        return receipt, self._partials
