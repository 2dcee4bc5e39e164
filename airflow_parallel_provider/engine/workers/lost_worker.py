# SPDX-License-Identifier: Apache-2.0
"""What becomes of the calls of a worker process that died or had to be ended.

The status page says which call the process was running: that call fails, all others go back into the channel.
"""

from __future__ import annotations

import signal
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_parallel_provider.engine.dataflow.channel import ChannelBroken, Dispatch
from airflow_parallel_provider.engine.functions.outcome import CallFailure
from airflow_parallel_provider.engine.functions.status_page import DECODING, RUNNING, SENDING
from airflow_parallel_provider.engine.processes.system import exit_text, was_signalled
from airflow_parallel_provider.engine.workers.base import WorkerSupervisor, timeout_failure
from airflow_parallel_provider.engine.workers.connection import WorkerConnection, WorkerDied
from airflow_parallel_provider.engine.workers.message import Message, put_back_all, put_back_as_suspects, single_calls
from airflow_parallel_provider.errors import WorkerLost, WorkersExhausted

if TYPE_CHECKING:
    from airflow_parallel_provider.engine.metrics.worker_metrics import WorkerMetrics
    from airflow_parallel_provider.engine.stages.stage_run import StageRun

IDLE_DEATHS = 5
"""How many worker processes in a row may die while they do nothing. More fail the run: something outside kills them."""

_SIGNAL_GRACE = 1.0
"""How long to wait for a stop after SIGTERM or SIGINT ended a worker process."""


@dataclass(frozen=True, slots=True)
class AbandonedMessages:
    """What a process worker held whose thread was stuck in the code of an item: it was being pickled, or unpickled."""

    dispatch: Dispatch
    """The calls of the message that was being pickled or unpickled."""
    others: Sequence[Message]
    seconds: float
    """For how long."""
    connection: WorkerConnection


class LostWorkerHandler:
    """Settles the calls of the lost processes of one worker."""

    def __init__(
        self, stage: StageRun, connection: WorkerConnection, supervisor: WorkerSupervisor, metrics: WorkerMetrics
    ) -> None:
        self._stage = stage
        self._connection = connection
        self._supervisor = supervisor
        self._metrics = metrics
        self._idle_deaths = 0

    def handle(self, died: WorkerDied, in_flight: Iterable[Message], *, answered: bool) -> None:
        """End and collect the process, fail the call that it was running, put the others back.

        :param in_flight: the messages it had not answered, the oldest first.
        :param answered: whether it had answered any message before.
        :raises ChannelBroken: when the run is being torn down.
        """
        if answered:
            self._idle_deaths = 0
        state, sequence, number = died.position or self._connection.process.position()
        status = self._connection.drop()
        self._check_stop(status, ended_by_us=died.timed_out is not None)
        batched = self._stage.stage.batched
        messages = [message.without_reclaimed(batched=batched) for message in in_flight]
        running = state in (RUNNING, SENDING, DECODING) and bool(messages) and messages[0].sequence == sequence
        for message in messages[1:] if running else messages:
            put_back_all(self._stage, message.dispatch)
        if not running:
            self._count_idle_death(status)
        elif status is None and self._connection.fork_server_died:
            put_back_all(self._stage, messages[0].dispatch)  # all processes died at once: not the item's fault
        else:
            self._fail_running_call(messages[0], state, number, self._failure(died, status))

    def _check_stop(self, status: int | None, *, ended_by_us: bool) -> None:
        """Raise ChannelBroken when the run is being torn down, or is about to be."""
        if self._supervisor.context.stop.is_set:
            raise ChannelBroken
        by_signal = status is not None and was_signalled(status, signal.SIGTERM, signal.SIGINT)
        # The signal may go to the whole process group: a stop that is on its way comes before blaming an item.
        if by_signal and not ended_by_us and self._supervisor.context.stop.wait(_SIGNAL_GRACE):
            raise ChannelBroken

    def _fail_running_call(self, message: Message, state: int, number: int, failure: CallFailure) -> None:
        if state != RUNNING and message.calls > 1:
            # It died reading the message or sending the results. Sent alone, each call shows whether it is the cause.
            put_back_as_suspects(self._stage, message.dispatch)
            return
        guilty = number if state == RUNNING else 0
        for at, call in enumerate(single_calls(message.dispatch, batched=self._stage.stage.batched)):
            if at == guilty:
                self._stage.call_failed(call, 0, failure, self._metrics)
            else:
                self._stage.put_back(call)

    def _failure(self, died: WorkerDied, status: int | None) -> CallFailure:
        if died.timed_out is not None:
            return timeout_failure(self._stage, died.timed_out)
        how = self._connection.exit_cause.describe(status) or died.reason
        message = f"the worker process died while it worked on this ({how})"
        retryable = self._stage.stage.retry.accepts(WorkerLost(message))
        return CallFailure("WorkerLost", message, retryable=retryable, kind="lost")

    def _count_idle_death(self, status: int | None) -> None:
        self._idle_deaths += 1
        with self._stage.metrics.lock:
            self._stage.metrics.workers_lost += 1
        if self._idle_deaths > IDLE_DEATHS:
            how = exit_text(status) if status is not None else "unknown"
            name = self._stage.stage.name
            text = f"stage {name}: worker processes keep dying while they have nothing to do (last one: {how})"
            self._supervisor.context.fail(WorkersExhausted(text))
            raise ChannelBroken


def settle_abandoned(abandoned: AbandonedMessages, stage: StageRun, metrics: WorkerMetrics) -> None:
    """End the process of an abandoned worker, fail the call that it was stuck with, put the others back."""
    abandoned.connection.drop()
    for message in abandoned.others:
        put_back_all(stage, message.without_reclaimed(batched=stage.stage.batched).dispatch)
    if sum(len(bundle.values) for bundle in abandoned.dispatch) > 1:
        put_back_as_suspects(stage, abandoned.dispatch)
    elif abandoned.dispatch:
        stage.call_failed(abandoned.dispatch[0], 0, timeout_failure(stage, abandoned.seconds), metrics)
