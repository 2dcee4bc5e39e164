"""One row that a database or a check refused, and where it came from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, slots=True)
class RejectedRow:
    """One row that is not written."""

    row: Any
    """As the last stage returned it; of a table, a dict."""
    at: int | None
    """Which of the chunk's rows it is; None: a row of a table."""
    rejected_by: Literal["validate", "table"]
    """Who refused it."""
    reason: str
    """For the table of rejected rows: may name values."""
    cause: str
    """For reports and logs: names none, and is the same for rows that were refused for the same reason."""


def position_of(reject: RejectedRow, positions: Sequence[int]) -> int | None:
    """Position of its item in the source, where known."""
    return None if reject.at is None or reject.at >= len(positions) else positions[reject.at]
