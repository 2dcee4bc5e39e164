# SPDX-License-Identifier: Apache-2.0
"""Reclaims calls from a worker process that is held up by a long one, when other workers have nothing to do.

The task process and the worker process agree through the status page, without a message (the worker process is busy).
The task process writes how far the worker process may go and then reads where it is; the worker process writes where it
is and then reads how far it may go (Dekker's algorithm). Whichever comes first, the answer says how many calls were
really made, and that is what counts. A call that was neither made nor reclaimed is put back then; one that was made
although it had been reclaimed is not counted twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

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
from airflow_parallel_provider.engine.workers.message import Message, single_calls

if TYPE_CHECKING:
    from airflow_parallel_provider.engine.processes.worker_process import WorkerProcess
    from airflow_parallel_provider.engine.stages.stage_run import StageRun

STALLED_SECONDS = 1.0
"""How long a call must have been running before the calls that wait behind it are reclaimed."""

CHECK_SECONDS = 0.25
"""How often a process worker checks for that."""


def worth_it(stage: StageRun, in_flight: Sequence[Message]) -> bool:
    """Whether another worker could make calls that this one only holds."""
    held = sum(message.remaining for message in in_flight)
    return held > 1 and stage.channel.waiting > 0 and not stage.channel.calls


def reclaim_calls(stage: StageRun, process: WorkerProcess, in_flight: Sequence[Message]) -> None:
    """Put the calls that the worker process has not begun back into the stage's channel."""
    page = process.page
    if page[STATE] != RUNNING or page[MESSAGE] != in_flight[0].sequence:
        return
    sequence, running = in_flight[0].sequence, page[CALL]
    page[LIMIT] = limit_word(sequence, running + 1)
    page[RECLAIMED] = in_flight[-1].sequence
    if page[MESSAGE] != sequence or page[CALL] != running:
        # It has moved on meanwhile, so it is not held up. Its answers will say which calls it skips now.
        return
    batched = stage.stage.batched
    for call in single_calls(in_flight[0].dispatch, batched=batched)[running + 1 : in_flight[0].remaining]:
        stage.put_back(call)
    in_flight[0].remaining = min(in_flight[0].remaining, running + 1)
    for message in list(in_flight)[1:]:
        for call in single_calls(message.dispatch, batched=batched)[: message.remaining]:
            stage.put_back(call)
        message.remaining = 0


def reconcile(stage: StageRun, message: Message, outcome: Outcome) -> tuple[Dispatch, Outcome]:
    """The part of an answer that counts, after some calls were reclaimed or skipped; the skipped ones are put back."""
    made = len(outcome.nanoseconds)
    if made == message.remaining == message.calls:
        return message.dispatch, outcome
    calls = single_calls(message.dispatch, batched=stage.stage.batched)
    for call in calls[made : message.remaining]:
        stage.put_back(call)
    count = min(made, message.remaining)
    return calls[:count], outcome.first(count)
