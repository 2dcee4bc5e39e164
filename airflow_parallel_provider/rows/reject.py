# SPDX-License-Identifier: Apache-2.0
"""A row that the database, a file or ``validate`` has rejected, and which item it comes from."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from airflow_parallel_provider.values.items import FileRow

if TYPE_CHECKING:
    from collections.abc import Sequence

_ROW = re.compile(r", row (\d+)\): ")
_READ_FROM = re.compile(r", read from column .+? of row \d+[^:]*")


@dataclass(frozen=True, slots=True)
class RejectedRow:
    """One row that is not written to the table."""

    row: Any
    """As the last stage returned it; a dict if it was a row of a data frame or an Arrow table."""
    at: int
    """Number of the row in the chunk; of a row of a data frame or an Arrow table the number of that."""
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
    return None if reject.at >= len(positions) else positions[reject.at]


def row_named_in(error: BaseException) -> int | None:
    """The number in its chunk of the row that an error of ours names, as all of them name it."""
    found = _ROW.search(str(error))
    return None if found is None else int(found[1])


def line_of(row: Any) -> int | None:
    """The line of its file that a row is from, where it knows that."""
    return row.line if isinstance(row, FileRow) else None


def without_line(row: Any) -> Any:
    """The row as its file has it: the line goes into the reason."""
    return dict(row) if isinstance(row, FileRow) else row


def with_line(row: Any, reason: str) -> str:
    """A reason that says which line of the file it is about, where the row knows that."""
    line = line_of(row)
    return reason if line is None else f"line {line}: {reason}"
