"""Rows that were rejected, and the table they are kept in: committed with the chunk they belong to."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from airflow_parallel_provider.errors import RowsRejected
from airflow_parallel_provider.sinks.beside import BesideTable, ChunkKey, kept_columns, place_columns, storable
from airflow_parallel_provider.sinks.definitions import defined_once
from airflow_parallel_provider.sinks.ledger import long_text
from airflow_parallel_provider.sinks.load_rows import now

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sqlalchemy.engine import Connection

    from airflow_parallel_provider.engine.sink import SinkRun

REASON_LENGTH = 4_000


@dataclass(frozen=True, slots=True)
class Reject:
    """One row that is not written."""

    row: Any
    """As the last stage returned it; of a table, a dict."""
    at: int | None
    """Which of the chunk's rows it is; None: a row of a table."""
    by: Literal["validate", "table"]
    """Who refused it."""
    reason: str
    """For the table of rejected rows: may name values."""
    cause: str
    """For reports and logs: names none, and is the same for rows that were refused for the same reason."""


class Allowance:
    """How many rows of a load may be rejected.

    :param most: ``SinkTable.max_rejected``: rows of the whole load; None: none without a run, else its tolerance alone.
    :param run: judges by its tolerance; None outside a pipeline.
    """

    def __init__(self, most: int | None, run: SinkRun | None) -> None:
        self._most = most if most is not None or run is not None else 0
        self.count = 0
        """Rows that chunks which are in have rejected."""
        self._run = run

    def covers(self, rows: int) -> bool:
        """Whether so many more rows may be rejected."""
        if self._most is not None and self.count + rows > self._most:
            return False
        return self._run is None or self._run.may_reject(rows)

    def require(self, rejects: Sequence[Reject], where: str) -> None:
        """Refuse a chunk with too many.

        :raises RowsRejected: naming the most frequent causes, never a value.
        """
        if not rejects or self.covers(len(rejects)):
            return
        causes = "; ".join(f"{count} x {cause}" for cause, count in Counter(r.cause for r in rejects).most_common(3))
        raise RowsRejected(
            f"{where}: {len(rejects)} or more rows were rejected, which is more than max_rejected or the pipeline's "
            f"tolerance leaves ({causes}). Mend the rows in a stage, or allow for more; nothing of the chunk is written"
        )

    def settle(self, rejects: Sequence[Reject], positions: Sequence[int]) -> None:
        """They are in: count them and tell the run."""
        self.count += len(rejects)
        if self._run is None:
            return
        by_cause: dict[str, list[Reject]] = {}
        for reject in rejects:
            by_cause.setdefault(reject.cause, []).append(reject)
        for cause, same in by_cause.items():
            self._run.rejected(cause, len(same), position_of(same[0], positions))


class RejectedTable(BesideTable):
    """Statements on the table of rejected rows. The caller begins and commits.

    :param row_length: characters of a row's JSON that are kept; a longer one is cut and marked as incomplete.
    """

    def __init__(self, name: str, schema: str | None, options: Mapping[str, Any], row_length: int) -> None:
        super().__init__(_rejected(name, schema, options), row_length)

    def insert(
        self, connection: Connection, chunk: ChunkKey, rejects: Sequence[Reject], positions: Sequence[int]
    ) -> None:
        """Write a chunk's rejected rows."""
        moment = now()
        entries = (
            {
                "position": position_of(reject, positions),
                "refused_by": reject.by,
                "reason": storable(reject.reason)[:REASON_LENGTH],
                **self.kept("raw", reject.row),
                "rejected_at": moment,
            }
            for reject in rejects
        )
        self.write(connection, chunk, entries)


@defined_once
def _rejected() -> tuple[Any, ...]:
    import sqlalchemy as sa

    return (
        *place_columns(),
        sa.Column("position", sa.BigInteger, nullable=True),
        sa.Column("refused_by", sa.String(16), nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        *kept_columns("raw", long_text()),
        sa.Column("rejected_at", sa.DateTime, nullable=False),
    )


def position_of(reject: Reject, positions: Sequence[int]) -> int | None:
    """Position of its item in the source, where known."""
    return None if reject.at is None or reject.at >= len(positions) else positions[reject.at]
