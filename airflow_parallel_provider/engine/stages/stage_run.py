"""One stage of a running pipeline: its channel, its counters, and what becomes of each call."""

from __future__ import annotations

import time
from typing import Any, Protocol

from airflow_parallel_provider.engine.dataflow.bundle import Parcel
from airflow_parallel_provider.engine.dataflow.channel import Channel, Hand
from airflow_parallel_provider.engine.dataflow.keys import (
    Key,
    Keys,
    Shape,
    batch_keys,
    below,
    joined_batches,
    origins,
    sort_key,
)
from airflow_parallel_provider.engine.dataflow.router import Flow
from airflow_parallel_provider.engine.dataflow.size_estimate import weigh
from airflow_parallel_provider.engine.functions.outcome import CallFailure, Outcome
from airflow_parallel_provider.engine.functions.worker_code import WorkerCode
from airflow_parallel_provider.engine.interfaces.records import DeadLetter
from airflow_parallel_provider.engine.ipc.serialized import opened
from airflow_parallel_provider.engine.metrics.failure_causes import Causes, cause_text
from airflow_parallel_provider.engine.metrics.stage_metrics import StageMeter
from airflow_parallel_provider.engine.metrics.worker_metrics import MOST_KEPT, WorkerTally, without_forgettable
from airflow_parallel_provider.engine.plan.stage import Stage
from airflow_parallel_provider.engine.stages.dispatch_size import Grouping
from airflow_parallel_provider.errors import RunFailed, WrongReturn

_HAND_SECONDS = {"process": 0.048, "thread": 0.002, "async": 0.0, "inline": 0.0}
"""Aim for the duration of one hand. A process hand costs 0.3 ms of CPU on either side when all
cores are busy, a thread hand 0.02 ms."""


WIDEST = 100_000
"""Items an automatic bound may grow to: enough for two full hands per worker of the fastest functions."""

LIGHT_BYTES = 64 << 20
"""Estimated bytes of the items and results that an automatic bound may grow to."""


class RunContext(Protocol):
    """What a stage needs of the run it belongs to."""

    flow: Flow
    causes: Causes

    def fail(self, error: RunFailed) -> None:
        """End the run with this error, unless it is ending already."""

    def items_failed(self, items: int) -> None:
        """So many more items were given up: check the tolerance."""

    def make_room(self, items: int) -> None:
        """So many items may well be in flight at once: they are fast and light."""


class StageRun:
    """Feeds the workers of one stage and settles what they bring back."""

    def __init__(self, index: int, stage: Stage, context: RunContext, *, in_order: bool) -> None:
        self.index = index
        self.stage = stage
        self.batch_size = stage.batch_size
        self.in_order = in_order
        self.context = context
        self.code = WorkerCode.of(stage)
        self.meter = StageMeter()
        most = stage.worker_range[1]
        self.grouping = Grouping(_HAND_SECONDS[stage.kind], most)
        unit = stage.batch_size or 1
        self._automatic = None if stage.queue_size else 4 * most * unit
        self.channel = Channel(stage.queue_size or 4 * most * unit, batched=stage.batched, rate=stage.rate_limit)
        self.tallies: list[WorkerTally] = []
        self._tallies_made = 0
        self.longest_ns = 0
        self.longest_position: int | None = None
        self.workers = 0
        self.peak_workers = 0
        self._worker_seconds = 0.0
        self._workers_since = time.monotonic()

    def set_workers(self, count: int) -> None:
        """The stage has ``count`` workers from now on."""
        self._worker_seconds = self.worker_seconds
        self._workers_since = time.monotonic()
        self.workers = count
        self.peak_workers = max(self.peak_workers, count)
        self.grouping.workers = max(1, count)

    @property
    def worker_seconds(self) -> float:
        """Seconds its workers have been there, added up."""
        return self._worker_seconds + self.workers * (time.monotonic() - self._workers_since)

    # -- what the flow asks for -------------------------------------------------------------------------------------

    def accept(self, parcel: Parcel) -> float:
        """Queue calls; return the seconds spent waiting for room."""
        return self.channel.put(parcel)

    def arrived(self, items: int) -> None:
        """Count items on their first arrival."""
        self.meter.arrived(items)

    def close(self) -> None:
        """Nothing more will arrive."""
        self.channel.close()

    # -- what its workers ask for -----------------------------------------------------------------------------------

    def take(self, *, block: bool = True) -> Hand | None:
        """Calls for one worker; see :meth:`Channel.take`."""
        return self.channel.take(self.grouping.limit, block=block)

    def take_up_to(self, calls: int) -> Hand | None:
        """Like :meth:`take`, with a limit of the worker's own."""
        return self.channel.take(lambda _: calls)

    def waited_for_work(self, seconds: float, tally: WorkerTally) -> None:
        """A worker had nothing to do for so many seconds."""
        self.meter.waited(starved=seconds)
        tally.starved += seconds

    def settle(self, hand: Hand, outcome: Outcome, tally: WorkerTally) -> float:
        """Deal with the answers to a hand; return the seconds spent waiting for room further down."""
        seconds = self.meter.called(outcome.nanoseconds)
        tally.calls += len(outcome.nanoseconds)
        tally.failed += len(outcome.failures)
        tally.busy += seconds
        self._note_longest(hand, outcome)
        if outcome.nanoseconds:
            size = sum(parcel.bytes for parcel in hand) + weigh(outcome.results)
            self.grouping.weighed(len(outcome.nanoseconds), size)
            self.grouping.observe(len(outcome.nanoseconds), seconds)
            self._widen()
        waited = 0.0
        at_call = at_result = 0
        for parcel in hand:
            calls = len(parcel.values)
            shapes = None if outcome.shapes is None else outcome.shapes[at_call : at_call + calls]
            count = calls if shapes is None else sum(map(_length, shapes))
            results = outcome.results
            if len(hand) > 1:
                results = results[at_result : at_result + count]
            failures = {
                number - at_call: failure
                for number, failure in outcome.failures.items()
                if at_call <= number < at_call + calls
            }
            waited += self._settle_parcel(parcel, shapes, results, failures)
            at_call += calls
            at_result += count
        self.channel.settled(at_call)
        self.meter.waited(blocked=waited)
        tally.blocked += waited
        return waited

    def _note_longest(self, hand: Hand, outcome: Outcome) -> None:
        """Keep where the longest call was."""
        longest = max(outcome.nanoseconds, default=0)
        if longest <= self.longest_ns:
            return
        at = outcome.nanoseconds.index(longest)
        for parcel in hand:
            if at < len(parcel.values):
                key = parcel.keys[at][0] if self.stage.batched else parcel.keys[at]
                self.longest_ns = longest
                self.longest_position = parcel.chunk.first_position + next(iter(origins(key)))
                return
            at -= len(parcel.values)

    def _widen(self) -> None:
        """Automatic bounds follow the size of a hand: fast, light items may queue in numbers, others not."""
        if self._automatic is None or self.grouping.size == 1:
            return
        light = int(LIGHT_BYTES / self.grouping.heaviest) * (self.batch_size or 1)
        room = min(self._automatic * self.grouping.size, max(self._automatic, min(WIDEST, light)))
        if room > self.channel.capacity:
            self.channel.widen(room)
            self.context.make_room(2 * room)

    def _settle_parcel(
        self, parcel: Parcel, shapes: list[Shape] | None, results: list[Any], failures: dict[int, CallFailure]
    ) -> float:
        left = parcel.size
        for number, failure in failures.items():
            left -= self._call_failed(parcel, number, failure)
        waited = 0.0
        if results:
            keys = self._result_keys(parcel, shapes)
            with self.meter.lock:
                self.meter.items_out += len(results)
            waited = self.context.flow.deliver(self.index + 1, parcel.chunk, keys, results)
        return waited + self.context.flow.settle(self.index, parcel.chunk, left)

    def _result_keys(self, parcel: Parcel, shapes: list[Shape] | None) -> Keys:
        if shapes is None:
            return parcel.keys
        if self.batch_size is not None:
            return joined_batches(
                [batch_keys(each, shape) for each, shape in zip(parcel.keys, shapes, strict=True) if shape]
            )
        keys: list[Key] = []
        for key, shape in zip(parcel.keys, shapes, strict=True):
            if shape == 1:
                keys.append(key)
            else:
                assert isinstance(shape, int)
                keys.extend(below(key, shape))
        return keys

    # -- failures ---------------------------------------------------------------------------------------------------

    def new_tally(self) -> WorkerTally:
        """Counters for one more worker."""
        if len(self.tallies) >= MOST_KEPT:
            self.tallies = without_forgettable(self.tallies)
        self._tallies_made += 1
        tally = WorkerTally(self.stage.name, self._tallies_made)
        self.tallies.append(tally)
        return tally

    def call_failed(self, parcel: Parcel, number: int, failure: CallFailure, tally: WorkerTally) -> None:
        """One call of a taken parcel ended without an answer (lost, timed out): deal with it and settle it."""
        tally.failed += 1
        tally.calls += 1
        tally.lost += failure.kind == "lost"
        size = len(parcel.values[number]) if self.stage.batched else 1
        stays = self._call_failed(parcel, number, failure)
        self.context.flow.settle(self.index, parcel.chunk, size - stays)
        self.channel.settled(1)

    def put_back(self, parcel: Parcel) -> None:
        """Calls of a taken parcel were never answered for no fault of their own: queue them again, uncounted."""
        calls = len(parcel.values)
        self.channel.give_back(parcel)
        self.channel.settled(calls)

    def _call_failed(self, parcel: Parcel, number: int, failure: CallFailure) -> int:
        """Retry, split or give up one call. Returns how many of its items stay at the stage for another attempt."""
        call = parcel.one(number, batched=self.stage.batched)
        call.alone = False
        with self.meter.lock:
            self.meter.timed_out += failure.kind == "timeout"
            self.meter.workers_lost += failure.kind == "lost"
        if failure.fatal:
            self.context.fail(WrongReturn(f"stage {self.stage.name}: {failure.message}"))
            return call.size
        if failure.retryable and not call.splitting and call.attempt < self.stage.retry.attempts:
            self._again(call, self.stage.retry.pause(call.attempt))
            return call.size
        if self.stage.batched and call.size > 1:
            self._bisect(call)
            return call.size
        self._give_up(call, failure)
        return 0

    def _again(self, call: Parcel, pause: float) -> None:
        call.attempt += 1
        with self.meter.lock:
            self.meter.retried += 1
        self.channel.give_back(call, pause)

    def _bisect(self, call: Parcel) -> None:
        """Halve a batch that failed for good: repeated, this leaves exactly the guilty items alone."""
        keys, values = call.keys[0], call.values[0]
        middle = len(values) // 2
        for part in (slice(None, middle), slice(middle, None)):
            half = Parcel(call.chunk, [keys[part]], [values[part]], len(values[part]), call.attempt, splitting=True)
            self._again(half, 0.0)

    def _give_up(self, call: Parcel, failure: CallFailure) -> None:
        chunk = call.chunk
        key, value = call.keys[0], call.values[0]
        if self.stage.batched:
            key, value = key[0], value[0]
        value = _shown(value)
        guilty = list(origins(key))
        position = chunk.first_position + guilty[0]
        letter = DeadLetter(position, self.stage.name, cause_text(failure), call.attempt, failure.traceback, value)
        with chunk.lock:
            items = len(set(guilty) - chunk.dead)  # another result of the same item may have failed before
            chunk.dead.update(guilty)
            chunk.dead_letters.append(((*sort_key(key), self.index), letter))
        with self.meter.lock:
            self.meter.failed += 1
        self.context.causes.add(self.stage.name, failure, position=position, item=value)
        self.context.items_failed(items)


def _shown(value: Any) -> Any:
    """The value of a dead letter; one that came sealed from the stage before is opened now."""
    try:
        return opened(value)
    except Exception:  # noqa: BLE001 - that it cannot be unpickled may be why it failed
        return f"<{type(value).__name__} that cannot be read>"


def _length(shape: Shape) -> int:
    return len(shape) if isinstance(shape, list) else abs(shape)
