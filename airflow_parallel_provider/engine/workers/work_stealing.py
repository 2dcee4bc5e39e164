"""Taking calls back from a worker that is held up by a long one, when other workers have nothing to do.

The task process and the worker agree through their shared page, without a message (the worker is busy): the task
process writes how far the worker may go and then looks where it is; the worker writes where it is and then looks how
far it may go (Dekker's handshake). Whichever comes first, the answer says how many calls were really made, and that is
what counts: a call that was neither made nor taken back goes back then, and one that was made although it had been
taken back is not counted twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_parallel_provider.engine.dataflow.bundle import Bundle
from airflow_parallel_provider.engine.dataflow.channel import Dispatch
from airflow_parallel_provider.engine.functions.outcome import Outcome
from airflow_parallel_provider.engine.functions.status_page import (
    CALL,
    LIMIT,
    MESSAGE,
    RECLAIMED,
    RUNNING,
    STATE,
    limit_word,
)

if TYPE_CHECKING:
    from airflow_parallel_provider.engine.processes.client import WorkerProcess
    from airflow_parallel_provider.engine.stages.stage_run import StageRun

STALLED_SECONDS = 1.0
"""How long a call must have been running before what waits behind it is taken back."""

CHECK_SECONDS = 0.25


@dataclass(slots=True)
class Message:
    """One message with the worker."""

    sequence: int
    dispatch: Dispatch
    calls: int
    remaining: int
    """Calls that have not been taken back: the first ones of the message."""
    by_value: bool = False
    """Whether classes that a worker process cannot import were carried inside it."""


def single_calls(dispatch: Dispatch, *, batched: bool) -> list[Bundle]:
    """Every call of a hand as a bundle of its own."""
    return [bundle.one(number, batched=batched) for bundle in dispatch for number in range(len(bundle.values))]


def worth_it(stage: StageRun, flight: Sequence[Message]) -> bool:
    """Whether somebody else could make calls that this worker only holds."""
    held = sum(message.remaining for message in flight)
    return held > 1 and stage.channel.waiting > 0 and not stage.channel.calls


def reclaim_calls(stage: StageRun, worker: WorkerProcess, flight: Sequence[Message]) -> None:
    """Take back what the worker has not begun."""
    page = worker.page
    if page[STATE] != RUNNING or page[MESSAGE] != flight[0].sequence:
        return
    sequence, running = flight[0].sequence, page[CALL]
    page[LIMIT] = limit_word(sequence, running + 1)
    page[RECLAIMED] = flight[-1].sequence
    if page[MESSAGE] != sequence or page[CALL] != running:
        # It has moved on meanwhile, so it is not held up. What it skips now its answers will say.
        return
    batched = stage.stage.batched
    for call in single_calls(flight[0].dispatch, batched=batched)[running + 1 : flight[0].remaining]:
        stage.put_back(call)
    flight[0].remaining = min(flight[0].remaining, running + 1)
    for message in list(flight)[1:]:
        for call in single_calls(message.dispatch, batched=batched)[: message.remaining]:
            stage.put_back(call)
        message.remaining = 0


def answered(stage: StageRun, message: Message, outcome: Outcome) -> tuple[Dispatch, Outcome]:
    """What of an answer counts, after some calls were taken back or skipped."""
    made = len(outcome.nanoseconds)
    if made == message.remaining == message.calls:
        return message.dispatch, outcome
    calls = single_calls(message.dispatch, batched=stage.stage.batched)
    for call in calls[made : message.remaining]:
        stage.put_back(call)
    count = min(made, message.remaining)
    return calls[:count], outcome.first(count)
