"""What becomes of a call that failed: another attempt, two halves of its batch, or a dead letter."""

from __future__ import annotations

from typing import Any, Protocol

from airflow_parallel_provider.engine.dataflow.bundle import Bundle
from airflow_parallel_provider.engine.dataflow.channel import Channel
from airflow_parallel_provider.engine.dataflow.keys import item_positions, sort_key
from airflow_parallel_provider.engine.functions.outcome import CallFailure
from airflow_parallel_provider.engine.interfaces.records import DeadLetter
from airflow_parallel_provider.engine.interfaces.run_context import RunContext
from airflow_parallel_provider.engine.ipc.serialized import deserialize
from airflow_parallel_provider.engine.metrics.failure_causes import Causes, cause_text
from airflow_parallel_provider.engine.metrics.stage_metrics import StageMetrics
from airflow_parallel_provider.engine.plan.stage import Stage
from airflow_parallel_provider.errors import WrongReturn


class StageRunContext(RunContext, Protocol):
    """What a stage needs of its run beyond :class:`RunContext`."""

    @property
    def causes(self) -> Causes:
        """Counts the failures by cause."""

    def record_failed_items(self, items: int) -> None:
        """Count items that the stage gave up on; fail the run when they are too many."""

    def record_failed_part(self, share: float, *, first: bool) -> None:
        """Count one of several results of an item, which is this share of it; fail the run when they are too many.

        :param first: no other part of the item has failed before.
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

    def handle(self, bundle: Bundle, number: int, failure: CallFailure) -> int:
        """Deal with one failed call of a bundle; return how many of its items stay at the stage for another attempt."""
        call = bundle.one(number, batched=self._stage.batched)
        call.alone = False
        with self._metrics.lock:
            self._metrics.timed_out += failure.kind == "timeout"
            self._metrics.workers_lost += failure.kind == "lost"
        if failure.parts:
            for part in failure.parts:
                self._give_up(call, CallFailure(part.error, part.message), item=part.item)
            return 0
        if failure.fatal:
            self._context.fail(WrongReturn(f"stage {self._stage.name}: {failure.message}"))
            return call.size
        if failure.retryable and not call.splitting and call.attempt < self._stage.retry.attempts:
            self._retry(call, self._stage.retry.pause(call.attempt))
            return call.size
        if self._stage.batched and call.size > 1:
            self._bisect(call)
            return call.size
        self._give_up(call, failure)
        return 0

    def _retry(self, call: Bundle, pause: float) -> None:
        call.attempt += 1
        with self._metrics.lock:
            self._metrics.retried += 1
        self._channel.requeue(call, pause)

    def _bisect(self, call: Bundle) -> None:
        """Halve a batch that failed for good: repeated, this leaves exactly the failing items alone."""
        keys, values = call.keys[0], call.values[0]
        middle = len(values) // 2
        for part in (slice(None, middle), slice(middle, None)):
            half = Bundle(call.chunk, [keys[part]], [values[part]], len(values[part]), call.attempt, splitting=True)
            self._retry(half, 0.0)

    def _give_up(self, call: Bundle, failure: CallFailure, *, item: Any = None) -> None:
        """Write a dead letter and count it.

        :param item: what the dead letter holds; None: the value of the call.
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
            parts = chunk.made_of.get(positions[0], 1) if len(positions) == 1 else 1
        with self._metrics.lock:
            self._metrics.failed += 1
        self._context.causes.add(stage, failure, position=position, item=value)
        if parts > 1:
            self._context.record_failed_part(1 / parts, first=items > 0)
        else:
            self._context.record_failed_items(items)


def _readable(value: Any) -> Any:
    """The value of a dead letter; one that came serialized from the stage before is deserialized now."""
    try:
        return deserialize(value)
    except Exception:  # noqa: BLE001 - that it cannot be unpickled may be why it failed
        return f"<{type(value).__name__} that cannot be read>"
