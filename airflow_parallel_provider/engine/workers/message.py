# SPDX-License-Identifier: Apache-2.0
"""The messages that a worker process holds, and the calls in them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_parallel_provider.engine.dataflow.bundle import Bundle
from airflow_parallel_provider.engine.dataflow.channel import Dispatch

if TYPE_CHECKING:
    from airflow_parallel_provider.engine.stages.stage_run import StageRun


@dataclass(slots=True)
class Message:
    """One message that a worker process has not answered yet."""

    sequence: int
    dispatch: Dispatch
    calls: int
    remaining: int
    """Calls that have not been reclaimed: the first ones of the message."""
    by_value: bool = False
    """Whether classes that a worker process cannot import were pickled by value."""

    def without_reclaimed(self, *, batched: bool) -> Message:
        """The message without the calls that have been reclaimed."""
        if self.remaining == self.calls:
            return self
        dispatch = single_calls(self.dispatch, batched=batched)[: self.remaining]
        return Message(self.sequence, dispatch, self.remaining, self.remaining, self.by_value)


def single_calls(dispatch: Dispatch, *, batched: bool) -> list[Bundle]:
    """Each call of a dispatch as a bundle of its own."""
    return [bundle.one(number, batched=batched) for bundle in dispatch for number in range(len(bundle.values))]


def split_suspects(dispatch: Dispatch) -> list[Dispatch]:
    """The dispatches to send for one: each suspect in a message of its own, the others together."""
    if not any(bundle.alone for bundle in dispatch):
        return [dispatch]
    suspects: list[Dispatch] = [[bundle] for bundle in dispatch if bundle.alone]
    others = [bundle for bundle in dispatch if not bundle.alone]
    return [*suspects, others] if others else suspects


def put_back_all(stage: StageRun, dispatch: Iterable[Bundle]) -> None:
    """Put all calls of a dispatch back into the stage's channel."""
    for bundle in dispatch:
        stage.put_back(bundle)


def put_back_as_suspects(stage: StageRun, dispatch: Dispatch) -> None:
    """Put all calls of a dispatch back, each to be sent in a message of its own."""
    for call in single_calls(dispatch, batched=stage.stage.batched):
        call.alone = True
        stage.put_back(call)
