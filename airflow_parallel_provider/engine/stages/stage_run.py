# SPDX-License-Identifier: Apache-2.0
"""One stage of a running pipeline: its channel, its counters, and the settling of its calls."""

from __future__ import annotations

import time
from typing import Any

from airflow_parallel_provider.engine.dataflow.allowance import Allowance
from airflow_parallel_provider.engine.dataflow.bundle import Bundle
from airflow_parallel_provider.engine.dataflow.channel import Channel, Dispatch
from airflow_parallel_provider.engine.dataflow.in_flight import InFlightLimit
from airflow_parallel_provider.engine.dataflow.keys import (
    Key,
    Keys,
    ResultShape,
    batch_keys,
    batch_splits,
    child_keys,
    concat_batches,
    item_positions,
)
from airflow_parallel_provider.engine.dataflow.router import Router
from airflow_parallel_provider.engine.dataflow.size_estimate import estimate_bytes
from airflow_parallel_provider.engine.functions.calls import rows_of_tables
from airflow_parallel_provider.engine.functions.outcome import CallFailure, Outcome
from airflow_parallel_provider.engine.functions.worker_code import StageFunction
from airflow_parallel_provider.engine.ipc.serialized import SerializedValue
from airflow_parallel_provider.engine.metrics.stage_metrics import StageMetrics
from airflow_parallel_provider.engine.metrics.worker_metrics import MOST_KEPT, WorkerMetrics, prune
from airflow_parallel_provider.engine.plan.rates import per_second
from airflow_parallel_provider.engine.plan.stage import Stage
from airflow_parallel_provider.engine.stages.dispatch_size import DispatchSizer
from airflow_parallel_provider.engine.stages.failed_calls import FailedCalls, StageRunContext
from airflow_parallel_provider.engine.stages.worker_indexes import WorkerIndexes
from airflow_parallel_provider.foreign.errors import error_text

TARGET_DISPATCH_SECONDS = {"process": 0.048, "thread": 0.002, "async": 0.0, "inline": 0.0}
"""Target duration of one dispatch. One to a process costs 0.3 ms of CPU on either side when all cores are busy, one to
a thread 0.02 ms."""

WIDEST = 100_000
"""Items an automatic bound may grow to: enough for two full dispatches per worker of the fastest functions."""

LIGHT_BYTES = 64 << 20
"""Estimated bytes of the items and results that an automatic bound may grow to."""


class StageRun:
    """Feeds the workers of one stage and settles their answers. Call :meth:`connect` before the first item.

    :param index: ordinal of the stage, from 0.
    :param in_flight: grows with the stage's channel, where its items are fast and light.
    :param in_order: cut batches only when a chunk is complete, in source order; see :class:`Router`.
    :param channel: default: a bounded one.
    """

    def __init__(
        self,
        index: int,
        stage: Stage,
        context: StageRunContext,
        in_flight: InFlightLimit,
        *,
        in_order: bool,
        channel: Channel | None = None,
    ) -> None:
        self.index = index
        self.stage = stage
        self.batch_size = stage.batch_size
        self.in_order = in_order
        self.function = StageFunction.of(stage)
        self.metrics = StageMetrics()
        most = stage.worker_range[1]
        self.dispatch_sizer = DispatchSizer(TARGET_DISPATCH_SECONDS[stage.kind], most)
        unit = stage.batch_size or 1
        self._automatic = None if stage.queue_size else 4 * most * unit
        self.channel = channel or Channel(
            stage.queue_size or 4 * most * unit, batched=stage.batched, allowance=_allowance(stage, context)
        )
        self._in_flight = in_flight
        self._failed_calls = FailedCalls(index, stage, self.channel, self.metrics, context)
        self._router: Router
        self.indexes = WorkerIndexes(most)
        self.worker_metrics: list[WorkerMetrics] = []
        self._workers_made = 0
        self.longest_ns = 0
        self.longest_position: int | None = None
        self.workers = 0
        self.peak_workers = 0
        self._worker_seconds = 0.0
        self._workers_since = time.monotonic()

    def connect(self, router: Router) -> None:
        """Say where the results go."""
        self._router = router

    def set_workers(self, count: int) -> None:
        """Note that the stage has ``count`` workers from now on."""
        self._worker_seconds = self.worker_seconds
        self._workers_since = time.monotonic()
        self.workers = count
        self.peak_workers = max(self.peak_workers, count)
        self.dispatch_sizer.workers = max(1, count)

    @property
    def worker_seconds(self) -> float:
        """Lifetime of its workers so far, added up, seconds."""
        return self._worker_seconds + self.workers * (time.monotonic() - self._workers_since)

    # -- called by the router ---------------------------------------------------------------------------------------

    def accept(self, bundle: Bundle) -> float:
        """Put calls into the channel; return the seconds spent waiting for room."""
        return self.channel.put(bundle)

    def arrived(self, items: int) -> None:
        """Count items on their first arrival."""
        self.metrics.arrived(items)

    def close(self) -> None:
        """Nothing more will arrive."""
        self.channel.close()

    # -- called by the workers --------------------------------------------------------------------------------------

    def get(self, *, block: bool = True) -> Dispatch | None:
        """Take calls for one worker; see :meth:`Channel.get`."""
        return self.channel.get(self.dispatch_sizer.limit, block=block)

    def get_up_to(self, calls: int) -> Dispatch | None:
        """Like :meth:`get`, with a limit of the worker's own."""
        return self.channel.get(lambda _: calls)

    def waited_for_work(self, seconds: float, metrics: WorkerMetrics) -> None:
        """Count seconds in which a worker had no calls to make."""
        self.metrics.waited(starved=seconds)
        metrics.starved += seconds

    def settle(self, dispatch: Dispatch, outcome: Outcome, metrics: WorkerMetrics) -> float:
        """Pass on the results of a dispatch; return the seconds spent waiting for room further down.

        On the hot path: called once per dispatch, and :meth:`_settle_bundle` once per bundle.
        """
        seconds = self.metrics.called(outcome.nanoseconds)
        metrics.calls += len(outcome.nanoseconds)
        metrics.failed += len(outcome.failures)
        metrics.busy += seconds
        self._note_longest(dispatch, outcome)
        if outcome.nanoseconds:
            size = sum(bundle.bytes for bundle in dispatch) + estimate_bytes(outcome.results)
            self.dispatch_sizer.observe_bytes(len(outcome.nanoseconds), size)
            self.dispatch_sizer.observe(len(outcome.nanoseconds), seconds)
            self._grow_channel()
        waited = 0.0
        at_call = at_result = 0
        for bundle in dispatch:
            calls = len(bundle.values)
            shapes = None if outcome.shapes is None else outcome.shapes[at_call : at_call + calls]
            count = calls if shapes is None else sum(map(_length, shapes))
            results = outcome.results
            if len(dispatch) > 1:
                results = results[at_result : at_result + count]
            failures = {
                number - at_call: failure
                for number, failure in outcome.failures.items()
                if at_call <= number < at_call + calls
            }
            waited += self._settle_bundle(bundle, shapes, results, failures)
            at_call += calls
            at_result += count
        self.channel.settled(at_call)
        self.metrics.waited(blocked=waited)
        metrics.blocked += waited
        return waited

    def _note_longest(self, dispatch: Dispatch, outcome: Outcome) -> None:
        """Keep the duration and the position of the longest call."""
        longest = max(outcome.nanoseconds, default=0)
        if longest <= self.longest_ns:
            return
        at = outcome.nanoseconds.index(longest)
        for bundle in dispatch:
            if at < len(bundle.values):
                key = bundle.keys[at][0] if self.stage.batched else bundle.keys[at]
                self.longest_ns = longest
                self.longest_position = bundle.chunk.first_position + next(iter(item_positions(key)))
                return
            at -= len(bundle.values)

    def _grow_channel(self) -> None:
        """Automatic bounds follow the size of a dispatch: many items may queue only while they are fast and light."""
        if self._automatic is None or self.dispatch_sizer.size == 1:
            return
        light = int(LIGHT_BYTES / self.dispatch_sizer.largest_call_bytes) * (self.batch_size or 1)
        room = min(self._automatic * self.dispatch_sizer.size, max(self._automatic, min(WIDEST, light)))
        if room > self.channel.capacity:
            self.channel.grow(room)
            self._in_flight.grow(2 * room)

    def _settle_bundle(
        self, bundle: Bundle, shapes: list[ResultShape] | None, results: list[Any], failures: dict[int, CallFailure]
    ) -> float:
        left = bundle.size
        if shapes is not None:
            self._note_splits(bundle, shapes, failures)
        for number, failure in failures.items():
            made = 0 if shapes is None else _length(shapes[number])
            left -= self._failed_calls.handle(bundle, number, failure, made)
        waited = 0.0
        if results:
            keys = self._result_keys(bundle, shapes, failures)
            with self.metrics.lock:
                self.metrics.items_out += len(results)
                self.metrics.rows_out += _rows(results)
            waited = self._router.route(self.index + 1, bundle.chunk, keys, results)
        return waited + self._router.complete_items(self.index, bundle.chunk, left)

    def _note_splits(self, bundle: Bundle, shapes: list[ResultShape], failures: dict[int, CallFailure]) -> None:
        """Note how many results a call made of an item, before one of them can fail."""
        splits: dict[Key, int] = {}
        for number, (key, shape) in enumerate(zip(bundle.keys, shapes, strict=True)):
            if self.batch_size is not None:
                splits.update(batch_splits(key, shape))
            elif shape != 1 or number in failures:
                made = _length(shape) + (len(failures[number].parts) if number in failures else 0)
                if made > 1:
                    splits[key] = made
        if splits:
            with bundle.chunk.lock:
                bundle.chunk.splits.update(splits)

    def _result_keys(self, bundle: Bundle, shapes: list[ResultShape] | None, failures: dict[int, CallFailure]) -> Keys:
        if shapes is None:
            return bundle.keys
        if self.batch_size is not None:
            splits = bundle.chunk.splits
            return concat_batches(
                [batch_keys(each, shape, splits) for each, shape in zip(bundle.keys, shapes, strict=True) if shape]
            )
        keys: list[Key] = []
        for number, (key, shape) in enumerate(zip(bundle.keys, shapes, strict=True)):
            if shape == 1 and number not in failures:
                keys.append(key)
            else:
                assert isinstance(shape, int)
                keys.extend(child_keys(key, shape))
        return keys

    def new_worker_metrics(self) -> WorkerMetrics:
        """Counters for one more worker."""
        if len(self.worker_metrics) >= MOST_KEPT:
            self.worker_metrics = prune(self.worker_metrics)
        self._workers_made += 1
        metrics = WorkerMetrics(self.stage.name, self._workers_made)
        self.worker_metrics.append(metrics)
        return metrics

    def call_failed(self, bundle: Bundle, number: int, failure: CallFailure, metrics: WorkerMetrics) -> None:
        """Settle one call of a bundle that ended without an answer: its worker died, or it timed out."""
        metrics.failed += 1
        metrics.calls += 1
        metrics.lost += failure.kind == "lost"
        size = len(bundle.values[number]) if self.stage.batched else 1
        stays = self._failed_calls.handle(bundle, number, failure)
        self._router.complete_items(self.index, bundle.chunk, size - stays)
        self.channel.settled(1)

    def put_back(self, bundle: Bundle) -> None:
        """Queue calls of a taken bundle again that were never answered, without counting an attempt."""
        calls = len(bundle.values)
        self.channel.requeue(bundle, made=False)
        self.channel.settled(calls)


def _allowance(stage: Stage, context: StageRunContext) -> Allowance:
    def warn(error: BaseException) -> None:
        context.warn(f"stage {stage.name}: cost= failed for an item, which counts 1: {error_text(error)}")

    rate = per_second(f"Stage({stage.name}).rate_limit", stage.rate_limit)
    return Allowance(rate, stage.budget, stage.cost, batched=stage.batched, on_bad_cost=warn)


def _rows(results: list[Any]) -> int:
    """Rows of the tables among results; of those that are pickled, as their worker process has counted them."""
    if type(results[0]) is SerializedValue:
        return sum(each.rows for each in results if type(each) is SerializedValue)
    return rows_of_tables(results)


def _length(shape: ResultShape) -> int:
    return len(shape) if isinstance(shape, list) else abs(shape)
