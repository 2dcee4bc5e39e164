# SPDX-License-Identifier: Apache-2.0
"""What becomes of a call that failed: another attempt, two halves of its batch, or a dead letter."""

from __future__ import annotations

import time
from typing import Any, Protocol

from airflow_parallel_provider.engine.dataflow.bundle import Bundle
from airflow_parallel_provider.engine.dataflow.channel import Channel
from airflow_parallel_provider.engine.dataflow.keys import item_positions, share_of, sort_key
from airflow_parallel_provider.engine.functions.outcome import CallFailure, failure_of_parts
from airflow_parallel_provider.engine.interfaces.records import DeadLetter
from airflow_parallel_provider.engine.interfaces.run_context import RunContext
from airflow_parallel_provider.engine.ipc.serialized import SerializedValue
from airflow_parallel_provider.engine.metrics.failure_causes import Causes, cause_text
from airflow_parallel_provider.engine.metrics.stage_metrics import StageMetrics
from airflow_parallel_provider.engine.plan.stage import Stage
from airflow_parallel_provider.errors import WrongReturn
from airflow_parallel_provider.foreign.calls import Conversion, convert


class StageRunContext(RunContext, Protocol):
    """What a stage needs of its run beyond :class:`RunContext`."""

    @property
    def causes(self) -> Causes:
        """Counts the failures by cause."""

    def record_dead_letter(self, share: float, *, items: int) -> None:
        """Count a dead letter; fail the run when there are too many.

        :param share: as how many items it counts: one, a part of one, or several of which one result was made.
        :param items: how many of its items have no other dead letter.
        """


class FailedCalls:
    """Retries, bisects or gives up the failed calls of one stage."""

    def __init__(
        self, index: int, stage: Stage, channel: Channel, metrics: StageMetrics, context: StageRunContext
    ) -> None:
        self._index = index
        self._stage = stage
        self._channel = channel
        self._metrics = metrics
        self._context = context

    def handle(self, bundle: Bundle, number: int, failure: CallFailure, made: int = 0) -> int:
        """Deal with one failed call of a bundle; return how many of its items stay at the stage for another attempt.

        :param made: how many results the call made of its item besides the failed ones.
        """
        call = bundle.one(number, batched=self._stage.batched)
        call.alone = False
        with self._metrics.lock:
            self._metrics.timed_out += failure.kind == "timeout"
            self._metrics.workers_lost += failure.kind == "lost"
        if failure.retry_after is not None:  # also for the calls of others: it is the service that says so
            self._channel.allowance.hold(time.monotonic() + failure.retry_after)
        if failure.parts:
            for part in failure.parts:
                failed = failure_of_parts([part])
                self._give_up(call, failed, item=part.item, parts=made + len(failure.parts))
            return 0
        if failure.fatal:
            first = next(iter(item_positions(call.keys[0][0] if self._stage.batched else call.keys[0])))
            where = f"{'batch from item' if self._stage.batched else 'item'} {call.chunk.first_position + first}"
            self._context.fail(WrongReturn(f"stage {self._stage.name}, {where}: {failure.message}"))
            return call.size
        if failure.retryable and not call.splitting and call.attempt < self._stage.retry.attempts:
            call.attempt += 1
            with self._metrics.lock:
                self._metrics.retried += 1
            self._channel.requeue(call, self._stage.retry.pause(call.attempt - 1))
            return call.size
        if self._stage.batched and call.size > 1:
            self._bisect(call)
            return call.size
        self._give_up(call, failure)
        return 0

    def _bisect(self, call: Bundle) -> None:
        """Halve a batch that failed for good: repeated, this leaves exactly the failing items alone."""
        keys, values = call.keys[0], call.values[0]
        middle = len(values) // 2
        with self._metrics.lock:
            self._metrics.halved += 2
        for part in (slice(None, middle), slice(middle, None)):
            half = Bundle(call.chunk, [keys[part]], [values[part]], len(values[part]), call.attempt + 1, splitting=True)
            self._channel.requeue(half, 0.0)

    def _give_up(self, call: Bundle, failure: CallFailure, *, item: Any = None, parts: int = 1) -> None:
        """Write a dead letter and count it.

        :param item: what the dead letter holds; None: the value of the call.
        :param parts: how many of these the item would have.
        """
        chunk, stage = call.chunk, self._stage.name
        key, value = call.keys[0], call.values[0]
        if self._stage.batched:
            key, value = key[0], value[0]
        value = _readable(value) if item is None else item
        positions = list(item_positions(key))
        position = chunk.first_position + positions[0]
        dead_letter = DeadLetter(position, stage, cause_text(failure), call.attempt, failure.traceback, value)
        with chunk.lock:
            items = len(set(positions) - chunk.dead)  # another result of the same item may have failed before
            chunk.dead.update(positions)
            chunk.dead_letters.append(((*sort_key(key), self._index), dead_letter))
            share = share_of(key, chunk.splits) / parts
            chunk.failed_items += share
        with self._metrics.lock:
            self._metrics.failed += 1
        self._context.causes.add(stage, failure, position=position, item=value)
        self._context.record_dead_letter(share, items=items)


def _readable(value: Any) -> Any:
    """The value of a dead letter; one that came serialized from the stage before is deserialized now."""
    if type(value) is not SerializedValue:
        return value

    def read(conversion: Conversion) -> Any:
        conversion.need_code()  # unpickling runs that of the value's class
        return value.deserialize()

    return convert(read, "<a value that cannot be read>")  # perhaps that is why it failed
