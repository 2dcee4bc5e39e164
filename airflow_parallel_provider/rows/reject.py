# SPDX-License-Identifier: Apache-2.0
"""A row that the database, a file or ``validate`` has rejected, and which item it comes from."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Sequence

_READ_FROM = re.compile(r", read from column .+? of row \d+[^:]*")


@dataclass(frozen=True, slots=True)
class RejectedRow:
    """One row that is not written to the table."""

    row: Any
    """As the last stage returned it; a dict if it was a row of a data frame or an Arrow table."""
    at: int | None
    """Number of the row in the chunk; None for a row of a data frame or an Arrow table."""
    rejected_by: Literal["validate", "table"]
    """``table``: the database or the file, or a conversion for it."""
    reason: str
    """For the table of rejected rows; may contain values."""
    cause: str
    """For reports and logs: contains no values, and is the same for all rows with the same reason."""


def cause_of(reason: str) -> str:
    """The reason without the place that a value was read from: the same for all rows that have it."""
    return _READ_FROM.sub("", reason)


def position_of(reject: RejectedRow, positions: Sequence[int]) -> int | None:
    """Position of the row's item in the source, where known.

    :param positions: of the items of the chunk's rows.
    """
    return None if reject.at is None or reject.at >= len(positions) else positions[reject.at]
