# SPDX-License-Identifier: Apache-2.0
"""The sink's thread: it commits one chunk after the other over one connection, rows and ledger together."""

from __future__ import annotations

import heapq
import logging
import os
import threading
import time
from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any, Protocol

from airflow_parallel_provider.engine.dataflow.chunk import Chunk, chunk_id
from airflow_parallel_provider.engine.dataflow.chunk_rows import committed_items, row_positions, rows_in_order
from airflow_parallel_provider.engine.dataflow.in_flight import InFlightLimit
from airflow_parallel_provider.engine.interfaces.records import ChunkResult, CommittedChunk
from airflow_parallel_provider.engine.interfaces.run_context import RunContext
from airflow_parallel_provider.engine.interfaces.sink import Sink
from airflow_parallel_provider.engine.resources.limits import with_cure
from airflow_parallel_provider.errors import SinkError, SinkFailed
from airflow_parallel_provider.foreign.calls import Conversion, convert, type_name
from airflow_parallel_provider.foreign.errors import raisable
from airflow_parallel_provider.foreign.fork_guard import end_child, guarded
from airflow_parallel_provider.foreign.text import clean

_LOOK_EVERY = 1.0
"""Seconds between two looks at what other shards have committed."""


log = logging.getLogger(__name__)


class SinkWriterContext(RunContext, Protocol):
    """What the sink writer needs of its run beyond :class:`RunContext`."""

    def may_finish(self) -> bool:
        """Check the run as a whole, now that everything is committed; False when it has failed."""

    def sink_done(self) -> None:
        """Everything is committed and the sink is closed."""

    def own_part_done(self) -> None:
        """A shard has committed all of its own chunks; what follows is help for others."""


Choose = Callable[[AbstractSet[int], AbstractSet[int]], AbstractSet[int]]


@dataclass(frozen=True, slots=True)
class _Request:
    """What a shard asks for when so many chunks are done."""

    after: int
    whole: int
    choose: Choose

    def choice(self, found: Mapping[str, CommittedChunk], taken: AbstractSet[str]) -> AbstractSet[str]:
        """The same in terms of chunk ids, as the sink knows them."""
        done, known = ({at for at in range(self.whole) if chunk_id(at) in names} for names in (found, taken))
        return set(map(chunk_id, self.choose(done, known)))


class SinkWriter:
    """Assembles complete chunks and commits them. Run :meth:`run` on a thread of its own.

    :param in_flight: the items of a committed chunk leave it.
    :param on_open: called when the sink is open, with the chunks that an earlier try of the load has committed.
    :param ordered: commit the chunks in source order.
    :param place_of: where an item comes from, by its position in the source; empty where that is not known.
    """

    def __init__(
        self,
        sink: Sink,
        context: SinkWriterContext,
        in_flight: InFlightLimit,
        *,
        on_open: Callable[[Mapping[str, CommittedChunk]], None],
        ordered: bool,
        place_of: Callable[[int], str] = lambda _position: "",
    ) -> None:
        self.items_committed = 0
        self.items_filtered = 0
        self.items_dead_lettered = 0
        self.rows_committed = 0
        self.chunks_committed = 0
        self.items_skipped = 0  # of chunks that another attempt, which runs at the same time, has committed
        self.chunks_skipped = 0
        self.aggregates: Mapping[str, Any] = {}
        self.busy = 0.0
        self.cpu = 0.0
        self._sink = sink
        self._context = context
        self._in_flight = in_flight
        self._on_open = on_open
        self._ordered = ordered
        self._place_of = place_of
        self._committing: Chunk | None = None
        self.before_commit: Callable[[ChunkResult], None] = lambda _: None
        """Called with each chunk before the sink gets it."""
        self._changed = threading.Condition()
        self._at_work = False
        self._waiting: list[tuple[int, Chunk | None]] = []  # heap by index; None: a chunk that was skipped
        self._next = 0
        self._total: int | None = None
        self._whole: int | None = None
        self._broken = False
        self._request: _Request | None = None
        self._granted: AbstractSet[str] = frozenset()
        self._shard_finished = False
        self.on_look: Callable[[Mapping[str, CommittedChunk]], None] | None = None
        """Of a shard: called now and then with what all shards have committed."""
        self._next_look = time.monotonic() + _LOOK_EVERY

    def take_over(self, chunks: int, whole: int, choose: Choose) -> set[int]:
        """Wait until all ``chunks`` of this shard are committed, then take chunks of other shards.

        :param whole: how many chunks the whole source has.
        :param choose: gets the numbers of the chunks that are in, and of those that runs have taken over.
        :return: their numbers; nothing if there are none, if the sink cannot say, or if the run is being torn down.
        """
        with self._changed:
            self._request = _Request(chunks, whole, choose)
            self._changed.notify_all()
            while not self._broken and self._request is not None:
                self._changed.wait()
            granted: AbstractSet[str] = frozenset() if self._broken else self._granted
            return {at for at in range(whole) if chunk_id(at) in granted}

    def complete(self, chunk: Chunk) -> None:
        """All items of the chunk are finished: commit it."""
        with self._changed:
            heapq.heappush(self._waiting, (chunk.index, chunk))
            self._changed.notify_all()

    def skip(self, index: int) -> None:
        """The chunk was committed by an earlier try."""
        with self._changed:
            heapq.heappush(self._waiting, (index, None))
            self._changed.notify_all()

    def end(self, chunks: int, *, whole: int | None = None) -> None:
        """The source has yielded ``chunks`` chunks, those skipped included.

        :param whole: of a shard: how many chunks the whole source has.
        """
        with self._changed:
            self._total = chunks
            self._whole = whole
            self._changed.notify_all()

    def break_(self) -> None:
        """Tear down: commit nothing more."""
        with self._changed:
            self._broken = True
            self._changed.notify_all()

    def run(self) -> None:
        """Open the sink, commit everything, finish it, close it."""
        finished, pid = False, os.getpid()
        try:
            self._on_open(guarded(self._sink.open)())
            finished = self._commit_all() and self._context.may_finish()
            if finished:
                self.finish_sink()
        except BaseException as error:  # noqa: BLE001 - whatever the sink raises ends the run, by name
            end_child(pid, error)
            finished = False
            self._failed(error)
        try:
            guarded(self._sink.close)()
        except BaseException as error:  # noqa: BLE001 - the run keeps its first error
            finished = False
            self._failed(error)
        if finished:
            self._context.sink_done()

    def finish_sink(self) -> None:
        """Everything is committed: finish the load and read its aggregates. A shard leaves that to the end of all."""
        if self._whole is not None:
            self._finish_shard(self._whole)
            return
        guarded(self._sink.finish)()
        self.aggregates = self._sink.aggregate_values()

    def _finish_shard(self, whole: int) -> None:
        if not self._shard_finished:
            self._sink.finish_shard(whole)
            self._shard_finished = True

    def _failed(self, error: BaseException) -> None:
        failed = SinkFailed(f"the sink {self._name()} failed: {with_cure(error)}{self._places(error)}")
        failed.__cause__ = raisable(error)
        self._context.fail(failed)

    def _places(self, error: BaseException) -> str:
        """Where the row comes from that is to blame; else the items of the chunk that failed."""
        chunk, self._committing = self._committing, None
        if chunk is None or not chunk.size:
            return ""
        if isinstance(error, SinkError) and error.position is not None:
            place = self._place_of(error.position)
            line = "" if error.line is None else f"line {error.line} of "
            return f". The row is from {line}{place}" if place else ""
        first, last = map(self._place_of, (chunk.first_position, chunk.first_position + chunk.size - 1))
        return f". The chunk holds {first if first == last else f'{first} to {last}'}" if first and last else ""

    def _name(self) -> str:
        def describe(conversion: Conversion) -> str:
            kind = type(self._sink)  # perhaps a class of the author's
            return clean(self._sink.describe()) if conversion.may_call(kind) else type_name(self._sink)

        return convert(describe, type_name(self._sink))

    def _commit_all(self) -> bool:
        done = 0
        while True:
            with self._changed:
                self._at_work = False
                while not self._broken and done not in (self._total, self._asked_after) and not self._ready():
                    self._changed.wait()
                if self._broken:
                    return False
                if done == self._total:
                    return True
                request = self._request if done == self._asked_after else None
            if request is not None:
                if not self._context.may_finish():
                    return False
                self._answer(request)
                continue
            with self._changed:
                _, chunk = heapq.heappop(self._waiting)
                self._at_work = True
                self._next += 1
            if chunk is not None:
                if not self._context.may_commit():
                    return False
                self._commit(chunk)
            done += 1
            self._look_at_others()

    @property
    def _asked_after(self) -> int | None:
        return None if self._request is None else self._request.after

    def _answer(self, request: _Request) -> None:
        self._finish_shard(request.whole)
        self._context.own_part_done()
        granted: AbstractSet[str] = frozenset()
        try:
            granted = self._sink.take_over(request.choice)
        except Exception:
            log.info("It could not be seen which chunks other shards have committed", exc_info=True)
        with self._changed:
            self._granted, self._request = granted, None
            self._changed.notify_all()

    def _look_at_others(self) -> None:
        """Now and then: what have other shards committed? A tenth of the time at most goes into that."""
        began = time.monotonic()
        if self.on_look is None or began < self._next_look:
            return
        found = self._committed_now()
        now = time.monotonic()
        self._next_look = now + max(_LOOK_EVERY, 10 * (now - began))
        if found is not None:
            self.on_look(found)

    def _committed_now(self) -> Mapping[str, CommittedChunk] | None:
        """What all shards have committed. None also if the look fails: the work does not depend on it.

        What is wrong with the load or its connection shows in the next commit, or at the end, which try again.
        """
        try:
            return self._sink.committed_now()
        except Exception:
            log.info("It could not be seen which chunks other shards have committed", exc_info=True)
            return None

    @property
    def idle(self) -> bool:
        """Whether every chunk that may be committed now is."""
        with self._changed:
            return not self._at_work and not self._ready()

    def _ready(self) -> bool:
        return bool(self._waiting) and (not self._ordered or self._waiting[0][0] == self._next)

    def _commit(self, chunk: Chunk) -> None:
        began, cpu = time.monotonic(), time.thread_time()
        committed = committed_items(chunk)
        filtered = chunk.size - committed - len(chunk.dead)
        result = ChunkResult(
            chunk_id=chunk.chunk_id,
            index=chunk.index,
            first_position=chunk.first_position,
            items=chunk.size,
            items_filtered=filtered,
            rows=rows_in_order(chunk),
            dead_letters=[dead_letter for _, dead_letter in sorted(chunk.dead_letters, key=lambda each: each[0])],
            positions=lambda: row_positions(chunk),
            failed_items=chunk.failed_items,
        )
        self._committing = chunk
        self.before_commit(result)
        rows = guarded(self._sink.commit)(result)
        self._committing = None
        with self._changed:
            if rows is None:
                self.items_skipped += chunk.size
                self.chunks_skipped += 1
            else:
                self.items_committed += committed
                self.items_filtered += filtered
                self.items_dead_lettered += len(chunk.dead)
                self.rows_committed += rows
                self.chunks_committed += 1
            self.busy += time.monotonic() - began
            self.cpu += time.thread_time() - cpu
        self._in_flight.release(chunk.size + chunk.reserved)
