# SPDX-License-Identifier: Apache-2.0
"""The ranges of a key that a load reads: found by its first try, and kept."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_parallel_provider.errors import LoadMismatch, PlanError
from airflow_parallel_provider.values import typed_json

if TYPE_CHECKING:
    from airflow_parallel_provider.sources.sql.key_conditions import KeyValues
    from airflow_parallel_provider.sources.sql.table_query import TableQuery

log = logging.getLogger(__name__)

_LONGEST_KEY = 4000


@dataclass(frozen=True, slots=True)
class Ranges:
    """Consecutive ranges of a key: above one bound, up to and including the next."""

    bounds: tuple[KeyValues, ...]
    """The highest key of each range."""
    range_size: int
    """Rows of each range but the last."""
    rows: int
    """Rows of all ranges."""

    def __len__(self) -> int:
        return len(self.bounds)

    def range(self, number: int) -> tuple[KeyValues | None, KeyValues]:
        """Lower bound (exclusive; None for the first range) and upper bound (inclusive) of a range."""
        return (self.bounds[number - 1] if number else None), self.bounds[number]

    def size(self, number: int) -> int:
        """How many rows a range had."""
        last = number == len(self.bounds) - 1
        return self.rows - number * self.range_size if last else self.range_size

    def as_json(self) -> dict[str, Any]:
        """The ranges as plain JSON."""
        # The bound of a single column is not in a tuple: this is the stored format.
        bounds = [json.loads(_exact(bound[0] if len(bound) == 1 else bound)) for bound in self.bounds]
        return {"bounds": bounds, "range_size": self.range_size, "rows": self.rows}

    @classmethod
    def of_json(cls, state: Mapping[str, Any]) -> Ranges:
        """The inverse of :meth:`as_json`."""
        found = (typed_json.loads(json.dumps(bound)) for bound in state["bounds"])
        bounds = tuple(bound if isinstance(bound, tuple) else (bound,) for bound in found)
        return cls(bounds, int(state["range_size"]), int(state["rows"]))


def needed_ranges(ranges: Ranges, chunk_size: int, chunk: int) -> range:
    """Numbers of the ranges that the rows of a chunk are in."""
    last = min((chunk + 1) * chunk_size, ranges.rows) - 1
    return range(chunk * chunk_size // ranges.range_size, last // ranges.range_size + 1)


def _exact(bound: Any) -> str:
    text, exact = typed_json.dumps(bound, _LONGEST_KEY)
    if not exact:
        kind = type(bound).__name__
        raise PlanError("SqlSource.key", kind, "JSON cannot store values of this type; use another unique column")
    return text


def check_count(query: TableQuery, ranges: Ranges, number: int, found: int, *, restored: bool) -> None:
    """Compare the rows of a range with those it had when the key was walked.

    :param restored: whether that was in an earlier try.
    :raises LoadMismatch: then, if they are not as many.
    """
    expected = ranges.size(number)
    if found == expected:
        return
    # The text names positions, not the bounds of the range, which are data.
    first = number * ranges.range_size + 1
    where = f"{query.identity}: rows {first} to {first + expected - 1} in the order of {query.key_text}"
    if restored:
        raise LoadMismatch(
            f"{where}: {expected} rows in the first try, {found} now, so the chunks would not be the same. Start a "
            "new load (another load_key, or clear the task), and select with where= only rows that are no longer "
            "added or removed"
        )
    log.warning("%s: %d rows when the key was walked, %d now", where, expected, found)
