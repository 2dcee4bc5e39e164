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

from airflow_parallel_provider.engine.dataflow.bundle import Parcel
from airflow_parallel_provider.engine.dataflow.channel import Hand
from airflow_parallel_provider.engine.functions.outcome import Outcome
from airflow_parallel_provider.engine.functions.status_page import (
    CALL,
    LIMIT,
    MESSAGE,
    RECALLED,
    RUNNING,
    STATE,
    limit_word,
)

if TYPE_CHECKING:
    from airflow_parallel_provider.engine.processes.client import WorkerProcess
    from airflow_parallel_provider.engine.stages.stage_run import StageRun

STALLED_SECONDS = 1.0
"""How long a call must have been running before what waits behind it is taken back."""

LOOK_SECONDS = 0.25


@dataclass(slots=True)
class Message:
    """One message with the worker."""

    sequence: int
    hand: Hand
    calls: int
    kept: int
    """Calls that have not been taken back: the first ones of the message."""
    by_value: bool = False
    """Whether classes that a worker process cannot import were carried inside it."""


def single_calls(hand: Hand, *, batched: bool) -> list[Parcel]:
    """Every call of a hand as a parcel of its own."""
    return [parcel.one(number, batched=batched) for parcel in hand for number in range(len(parcel.values))]


def worth_it(stage: StageRun, flight: Sequence[Message]) -> bool:
    """Whether somebody else could make calls that this worker only holds."""
    held = sum(message.kept for message in flight)
    return held > 1 and stage.channel.waiting > 0 and not stage.channel.calls


def recall(stage: StageRun, worker: WorkerProcess, flight: Sequence[Message]) -> None:
    """Take back what the worker has not begun."""
    page = worker.page
    if page[STATE] != RUNNING or page[MESSAGE] != flight[0].sequence:
        return
    sequence, running = flight[0].sequence, page[CALL]
    page[LIMIT] = limit_word(sequence, running + 1)
    page[RECALLED] = flight[-1].sequence
    if page[MESSAGE] != sequence or page[CALL] != running:
        # It has moved on meanwhile, so it is not held up. What it skips now its answers will say.
        return
    batched = stage.stage.batched
    for call in single_calls(flight[0].hand, batched=batched)[running + 1 : flight[0].kept]:
        stage.put_back(call)
    flight[0].kept = min(flight[0].kept, running + 1)
    for message in list(flight)[1:]:
        for call in single_calls(message.hand, batched=batched)[: message.kept]:
            stage.put_back(call)
        message.kept = 0


def answered(stage: StageRun, message: Message, outcome: Outcome) -> tuple[Hand, Outcome]:
    """What of an answer counts, after some calls were taken back or skipped."""
    made = len(outcome.nanoseconds)
    if made == message.kept == message.calls:
        return message.hand, outcome
    calls = single_calls(message.hand, batched=stage.stage.batched)
    for call in calls[made : message.kept]:
        stage.put_back(call)
    count = min(made, message.kept)
    return calls[:count], outcome.first(count)
