# SPDX-License-Identifier: Apache-2.0
"""What the calls of a stage may take: a rate, a budget, and the pause that a service asks for."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from airflow_parallel_provider.engine.dataflow.bundle import Bundle
from airflow_parallel_provider.engine.dataflow.rate_limit import RateLimit

Cost = Callable[[Any], float]
"""What one item counts for the rate and the budget of its stage."""


class Allowance:
    """The allowance of one stage. Its channel calls it with its lock held, but for :meth:`hold` and :meth:`price`.

    :param rate: per second: items, or their cost; None: no limit.
    :param budget: of all calls together: items, or their cost; None: no limit.
    :param cost: None: each item counts 1.
    :param batched: whether each call is a batch.
    :param on_bad_cost: called with the error of a ``cost`` that fails; the item then counts 1.
    """

    def __init__(
        self,
        rate: float | None = None,
        budget: float | None = None,
        cost: Cost | None = None,
        *,
        batched: bool = False,
        on_bad_cost: Callable[[BaseException], None] = lambda _: None,
    ) -> None:
        self.limited = rate is not None
        self.weighted = budget is not None or (cost is not None and rate is not None)
        """Whether each call is looked at before it is taken."""
        self.budget = budget
        self.spent = 0.0
        self.refused: float | None = None
        """What the call would have cost that did not fit into the budget any more; None: all have fitted so far."""
        self._rate = RateLimit(rate) if rate else None
        self._cost = cost
        self._batched = batched
        self._on_bad_cost = on_bad_cost
        self._not_before = -math.inf

    def hold(self, until: float) -> None:
        """Allow no call before a moment (monotonic time). From any thread."""
        self._not_before = max(self._not_before, until)
        self.limited = True

    def pause(self, now: float) -> float:
        """Seconds until a call may be taken; 0: now."""
        held = self._not_before - now
        if held > 0 or self._rate is None:
            return max(0.0, held)
        return self._rate.pause(now)

    @property
    def allowed(self) -> int | None:
        """Items that may go now, where all count the same; None: any number."""
        return None if self._rate is None else self._rate.allowed

    def spend(self, items: int) -> None:
        """``items`` that all count the same are taken."""
        if self._rate is not None:
            self._rate.spend(items)

    def take(self, cost: float) -> bool:
        """Spend what a call costs; False, and nothing is spent, where that is more than is left of the budget."""
        if self.budget is not None and self.spent + cost > self.budget * (1 + 1e-9):
            self.refused = cost
            return False
        self.spent += cost
        if self._rate is not None:
            self._rate.spend(cost)
        return True

    def give_back(self, cost: float) -> None:
        """A call that was taken has not been made."""
        if self.budget is not None:
            self.spent = max(0.0, self.spent - cost)
            self.refused = None

    def price(self, bundle: Bundle) -> None:
        """Note what each call of a bundle costs, where that counts and is not known.

        ``cost`` is code of the author and may take any time or hang. Under the channel's lock it would hold up all
        workers of the stage, and a stop.
        """
        if self.weighted and bundle.costs is None:
            bundle.costs = [self.cost_of(value) for value in bundle.values]

    def cost_of(self, value: Any) -> float:
        """What a call with this value costs."""
        if self._cost is None:
            return float(len(value)) if self._batched else 1.0
        return math.fsum(map(self._of_item, value)) if self._batched else self._of_item(value)

    def _of_item(self, item: Any) -> float:
        assert self._cost is not None
        try:
            cost = float(self._cost(item))
            if not 0 <= cost < math.inf:
                raise ValueError(f"it returned {cost!r}, not a number from 0")
        except Exception as error:  # noqa: BLE001 - code of the author
            self._on_bad_cost(error)
            return 1.0
        return cost
