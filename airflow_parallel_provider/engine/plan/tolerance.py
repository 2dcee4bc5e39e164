# SPDX-License-Identifier: Apache-2.0
"""How many failed items fail the run."""

from __future__ import annotations

import math

from airflow_parallel_provider.errors import PlanError


class Tolerance:
    """How much may fail: an int counts dead letters, a float is a fraction of all items.

    For most stages one dead letter is one item. A stage may also make several results of an item, such as the rows of a
    file, or one of several items, such as a table of a batch. Each result that fails is one dead letter for an int. For
    a float it is as many items as it was made of: one of a thousand rows of a file is a thousandth of an item, the
    table of a batch of ten is ten items. A row that the sink rejects counts in the same way.

    With a source of known length a fraction is a number of items from the start. With an unknown length it is checked
    at the end, and during the run against the items read so far, or against ``10 / fraction`` items while fewer have
    been read, so that the first failure does not count as 100 %.

    :raises PlanError: for anything but an int from 0 or a float from 0.0 to 1.0.
    """

    def __init__(self, value: float) -> None:
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < math.inf:
            raise PlanError("Pipeline.tolerance", value, "give a number of items (int) or a fraction (float, 0.0-1.0)")
        if isinstance(value, float) and value > 1:
            raise PlanError("Pipeline.tolerance", value, f"a float is a fraction; for items write {round(value)}")
        self.value = value

    def exceeded(self, failed: float, read: int, total: int | None, *, final: bool = False) -> bool:
        """Whether ``failed`` of ``read`` items (of ``total``, where known) are too many."""
        if isinstance(self.value, int):
            return failed > self.value
        if final or total is not None:
            # 0.29 * 100 is 28.999999999999996, and 29 failures of 100 must be allowed
            return failed > self.value * (read if final or total is None else total) + 1e-9
        assumed = 10 / self.value if self.value else 0
        return failed > self.value * max(read, assumed) + 1e-9

    def __str__(self) -> str:
        """The tolerance as text."""
        if isinstance(self.value, int):
            return f"{self.value} failure{'s' * (self.value != 1)}"
        return f"{100 * self.value:g}% of the items"
