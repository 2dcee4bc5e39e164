# SPDX-License-Identifier: Apache-2.0
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

    :param most: ``max_rejected`` of the sink, for the whole load. None: with a run only its tolerance decides, without
        a run no row may be rejected.
    :param run: its tolerance decides, too; None outside a pipeline.
    """

    def __init__(self, most: int | None, run: SinkContext | None) -> None:
        self.most = most
        self._most = most if most is not None or run is not None else 0
        self.count = 0
        """Rejected rows of the committed chunks."""
        self._run = run

    def allows(self, rows: int) -> bool:
        """Whether so many more rows may be rejected."""
        if self._most is not None and self.count + rows > self._most:
            return False
        return self._run is None or self._run.may_reject(rows)

    def enforce(self, rejected: Sequence[RejectedRow], where: str) -> None:
        """Refuse a chunk with too many rejected rows.

        :raises RowsRejected: names the most frequent causes, never a value.
        """
        if not rejected or self.allows(len(rejected)):
            return
        causes = "; ".join(f"{count} x {cause}" for cause, count in Counter(r.cause for r in rejected).most_common(3))
        raise RowsRejected(
            f"{where}: {len(rejected)} or more rows were rejected, which is more than max_rejected or the pipeline's "
            f"tolerance leaves ({causes}). Correct the rows in a stage, or allow more; nothing of the chunk is written"
        )

    def enforce_whole(self, rejected: int) -> None:
        """Hold the rejected rows of all shards of a load against ``max_rejected``: each of them knew only its own.

        :raises RowsRejected: if they are too many.
        """
        if self.most is not None and rejected > self.most:
            raise RowsRejected(
                f"the shards of the load have rejected {rejected} rows together, max_rejected={self.most}: the load is "
                "not completed. Correct the rows in a stage and start over, or allow more"
            )

    def record(self, rejected: Sequence[RejectedRow], positions: Sequence[int]) -> None:
        """Count the rejected rows of a chunk that has committed, and report them to the run."""
        self.count += len(rejected)
        if self._run is None:
            return
        by_cause: dict[str, list[RejectedRow]] = {}
        for row in rejected:
            by_cause.setdefault(row.cause, []).append(row)
        for cause, same in by_cause.items():
            self._run.rejected(cause, len(same), position_of(same[0], positions))
