# SPDX-License-Identifier: Apache-2.0
"""The router: brings results to the next stage and knows which items of each chunk are still open at which stage.

A stage is *finished with a chunk* when everything before it is, and none of the chunk's items are open at the stage.
Only then may the next stage cut a batch that is not full: so batches are as full as they can be and never mix two
chunks.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Protocol

from airflow_parallel_provider.engine.dataflow.bundle import Bundle
from airflow_parallel_provider.engine.dataflow.chunk import Chunk
from airflow_parallel_provider.engine.dataflow.keys import Keys, concat_keys, sort_key


class StageInput(Protocol):
    """What the router needs of a stage."""

    batch_size: int | None
    in_order: bool
    """Cut batches only when the chunk is complete, in source order. An ordered run needs that, see :class:`Router`."""

    def accept(self, bundle: Bundle) -> float:
        """Queue a bundle; return the seconds spent waiting for room."""

    def arrived(self, items: int) -> None:
        """Count items on their first arrival."""

    def close(self) -> None:
        """Nothing more will arrive."""


class Router:
    """Moves results from stage to stage and notices when a chunk is complete.

    In an ordered run a batch must hold neighbors: when its function returns fewer or more results than it got items,
    only the position of the whole batch says where they belong. Items reach a later stage in any order, so there a
    chunk is sorted as a whole before it is cut into batches.

    :param stage_inputs: the stages in order.
    :param complete: called with each chunk whose items are all finished.
    """

    def __init__(self, stage_inputs: list[StageInput], complete: Callable[[Chunk], None]) -> None:
        self._stages = stage_inputs
        self._complete = complete
        self._lock = threading.Lock()
        self._finished = [0] * len(stage_inputs)
        self._total: int | None = None

    def route(self, stage: int, chunk: Chunk, keys: Keys, values: list[Any]) -> float:
        """Bring results to a stage, or to the sink after the last one; return the seconds spent waiting for room."""
        bundle = self.register(stage, chunk, keys, values)
        return self._stages[stage].accept(bundle) if bundle is not None else 0.0

    def register(self, stage: int, chunk: Chunk, keys: Keys, values: list[Any]) -> Bundle | None:
        """Count results as open at a stage and return the calls that can be made with them now, if any."""
        if not values:
            return None
        if stage == len(self._stages):
            with chunk.lock:
                chunk.row_keys.append(keys)
                chunk.rows.extend(values)
            return None
        stage_input = self._stages[stage]
        stage_input.arrived(len(values))
        with chunk.lock:
            chunk.open[stage] += len(values)
            if stage_input.batch_size is None:
                return Bundle(chunk, keys, values, len(values))
            return self._gather(stage, chunk, stage_input.batch_size, keys, values)

    def _gather(self, stage: int, chunk: Chunk, size: int, keys: Keys, values: list[Any]) -> Bundle | None:
        """Add to the chunk's unfinished batch at this stage, cut off full batches; called with the chunk's lock."""
        held = chunk.gathered_values[stage]
        if held:
            keys = concat_keys(chunk.gathered_keys[stage], keys)
            held.extend(values)
            values = held
        full = 0 if self._stages[stage].in_order else len(values) // size * size
        chunk.gathered_keys[stage], chunk.gathered_values[stage] = keys[full:], values[full:] if full else values
        return self._in_batches(chunk, size, keys[:full], values[:full]) if full else None

    def _in_batches(self, chunk: Chunk, size: int, keys: Keys, values: list[Any]) -> Bundle:
        cuts = range(0, len(values), size)
        return Bundle(
            chunk, [keys[at : at + size] for at in cuts], [values[at : at + size] for at in cuts], len(values)
        )

    def _last_batches(self, stage: int, chunk: Chunk) -> Bundle:
        """The rest of the chunk in front of a stage, cut into batches; called with the chunk's lock."""
        stage_input = self._stages[stage]
        keys, values = chunk.gathered_keys[stage], chunk.gathered_values[stage]
        chunk.gathered_keys[stage], chunk.gathered_values[stage] = (), []
        if stage_input.in_order:
            order = sorted(range(len(keys)), key=lambda at: sort_key(keys[at]))
            keys, values = [keys[at] for at in order], [values[at] for at in order]
        return self._in_batches(chunk, stage_input.batch_size or 1, keys, values)

    def source_done(self, chunk: Chunk, size: int) -> float:
        """The source has yielded all ``size`` items of the chunk; return the seconds spent waiting for room."""
        chunk.size = size
        chunk.source_done = True
        return self.complete_items(0, chunk, 0)

    def complete_items(self, stage: int, chunk: Chunk, items: int) -> float:
        """``items`` of the chunk have left the stage, after their results were routed; return the seconds waited."""
        waited = 0.0
        while True:
            with chunk.lock:
                if items:
                    chunk.open[stage] -= items
                    items = 0
                passed, rest = self._advance(chunk)
            if rest is not None and rest[0] < len(self._stages):
                # Before the stages are counted: that may close this same channel, and its readers would end.
                waited += self._stages[rest[0]].accept(rest[1])
            for done in passed:
                self._count_finished(done)
            if rest is None:
                return waited
            if rest[0] == len(self._stages):
                self._complete(chunk)
                return waited
            stage = rest[0]

    def _advance(self, chunk: Chunk) -> tuple[list[int], tuple[int, Bundle] | None]:
        """Move the chunk's front over the stages that are finished with it; called with the chunk's lock.

        :return: the stages passed; and, if there is one, a stage with its last bundle of the chunk. The stage after the
            last one means that the chunk is complete.
        """
        passed: list[int] = []
        if not chunk.source_done:
            return passed, None
        stages = len(self._stages)
        while chunk.front < stages:
            at = chunk.front
            if chunk.gathered_values[at]:
                return passed, (at, self._last_batches(at, chunk))
            if chunk.open[at]:
                return passed, None
            chunk.front += 1
            passed.append(at)
        if chunk.front == stages:
            chunk.front += 1  # completes once
            return passed, (stages, Bundle(chunk, [], [], 0))
        return passed, None

    def _count_finished(self, stage: int) -> None:
        with self._lock:
            self._finished[stage] += 1
            closes = self._finished[stage] == self._total
        if closes and stage + 1 < len(self._stages):
            self._stages[stage + 1].close()

    def end(self, chunks: int) -> None:
        """The source has ended after ``chunks`` chunks, the skipped ones not counted."""
        with self._lock:
            self._total = chunks
            closes = [stage for stage, count in enumerate(self._finished) if count == chunks]
        if self._stages:
            self._stages[0].close()
        for stage in closes:
            if stage + 1 < len(self._stages):
                self._stages[stage + 1].close()
