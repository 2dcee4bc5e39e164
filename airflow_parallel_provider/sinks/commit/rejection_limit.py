"""How many rows of a load may be rejected."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from airflow_parallel_provider.errors import RowsRejected
from airflow_parallel_provider.rows.reject import RejectedRow, position_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_parallel_provider.engine.interfaces.sink import SinkContext


class RejectionLimit:
    """How many rows of a load may be rejected.

    :param most: ``SinkTable.max_rejected``: rows of the whole load; None: none without a run, else its tolerance alone.
    :param run: judges by its tolerance; None outside a pipeline.
    """

    def __init__(self, most: int | None, run: SinkContext | None) -> None:
        self._most = most if most is not None or run is not None else 0
        self.count = 0
        """Rows that chunks which are in have rejected."""
        self._run = run

    def allows(self, rows: int) -> bool:
        """Whether so many more rows may be rejected."""
        if self._most is not None and self.count + rows > self._most:
            return False
        return self._run is None or self._run.may_reject(rows)

    def enforce(self, rejects: Sequence[RejectedRow], where: str) -> None:
        """Refuse a chunk with too many.

        :raises RowsRejected: naming the most frequent causes, never a value.
        """
        if not rejects or self.allows(len(rejects)):
            return
        causes = "; ".join(f"{count} x {cause}" for cause, count in Counter(r.cause for r in rejects).most_common(3))
        raise RowsRejected(
            f"{where}: {len(rejects)} or more rows were rejected, which is more than max_rejected or the pipeline's "
            f"tolerance leaves ({causes}). Mend the rows in a stage, or allow for more; nothing of the chunk is written"
        )

    def record(self, rejects: Sequence[RejectedRow], positions: Sequence[int]) -> None:
        """They are in: count them and tell the run."""
        self.count += len(rejects)
        if self._run is None:
            return
        by_cause: dict[str, list[RejectedRow]] = {}
        for reject in rejects:
            by_cause.setdefault(reject.cause, []).append(reject)
        for cause, same in by_cause.items():
            self._run.rejected(cause, len(same), position_of(same[0], positions))
