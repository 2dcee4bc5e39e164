# SPDX-License-Identifier: Apache-2.0
"""Ends a run whose stage has spent its ``budget``, once everything that was paid for and is complete is committed."""

from __future__ import annotations

from collections.abc import Sequence

from airflow_parallel_provider.engine.dataflow.sink_writer import SinkWriter
from airflow_parallel_provider.engine.run.state import RunState
from airflow_parallel_provider.engine.stages.stage_run import StageRun
from airflow_parallel_provider.errors import BudgetSpent

LOOK_SECONDS = 0.05
"""How often a run with a budget is looked at."""


class Budgets:
    """Watches the stages that have a budget. Coordinating thread only."""

    def __init__(self, state: RunState, stages: Sequence[StageRun], writer: SinkWriter) -> None:
        self._state = state
        self._stages = stages
        self._writer = writer
        self._limited = [stage for stage in stages if stage.stage.budget is not None]
        self.next_check = 0.0 if self._limited else float("inf")

    def check(self, now: float) -> None:
        """End the run when a budget is spent and nothing moves behind that stage any more."""
        if now < self.next_check:
            return
        self.next_check = now + LOOK_SECONDS
        for stage in self._limited:
            allowance = stage.channel.allowance
            if allowance.refused is not None and self._still(stage):
                self._state.fail(self._error(stage, allowance.spent, allowance.refused))

    def _still(self, spent: StageRun) -> bool:
        """Whether all calls are settled, here and further down, and what they completed is committed.

        In this order: a result is in the next channel, or with the sink, before its call counts as settled.
        """
        if spent.channel.unsettled:
            return False
        for stage in self._stages[spent.index + 1 :]:
            if stage.channel.items or stage.channel.unsettled or stage.channel.next_due() is not None:
                return False
        return self._writer.idle

    def _error(self, stage: StageRun, spent: float, refused: float) -> BudgetSpent:
        name, budget = stage.stage.name, stage.stage.budget
        text = (
            f"stage {name}: {spent:g} of budget={budget:g} are spent, and the next call costs {refused:g}. What is "
            f"complete is committed ({self._writer.chunks_committed} chunks); the next try of this load continues "
            "there, with a budget of its own"
        )
        if not self._writer.chunks_committed:
            text += f". No chunk of chunk_size={self._state.plan.chunk_size} items fitted into it: give a smaller one"
        return BudgetSpent(text, None, "budget")
