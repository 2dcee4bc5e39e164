"""The sink's thread: it commits one chunk after the other over one connection, rows and ledger together."""

from __future__ import annotations

import heapq
import itertools
import operator
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from airflow_parallel_provider.engine.dataflow.chunk import Chunk
from airflow_parallel_provider.engine.dataflow.in_flight import InFlightLimit
from airflow_parallel_provider.engine.dataflow.keys import item_positions, sort_key
from airflow_parallel_provider.engine.interfaces.records import ChunkResult, CommittedChunk
from airflow_parallel_provider.engine.interfaces.run_context import RunContext
from airflow_parallel_provider.engine.interfaces.sink import Sink
from airflow_parallel_provider.errors import SinkFailed


class SinkWriterContext(RunContext, Protocol):
    """What the sink writer needs of its run beyond :class:`RunContext`."""

    def may_finish(self) -> bool:
        """Check the run as a whole, now that everything is committed; False when it has failed."""

    def sink_done(self) -> None:
        """Everything is committed and the sink is closed."""


class SinkWriter:
    """Assembles complete chunks and commits them. Run :meth:`run` on a thread of its own.

    :param in_flight: the items of a committed chunk leave it.
    :param on_open: called when the sink is open, with the chunks that an earlier try of the load has committed.
    :param ordered: commit the chunks in source order.
    """

    def __init__(
        self,
        sink: Sink,
        context: SinkWriterContext,
        in_flight: InFlightLimit,
        *,
        on_open: Callable[[Mapping[str, CommittedChunk]], None],
        ordered: bool,
    ) -> None:
        self.items_committed = 0
        self.items_filtered = 0
        self.items_dead_lettered = 0
        self.rows_committed = 0
        self.chunks_committed = 0
        self.aggregates: Mapping[str, Any] = {}
        self.busy = 0.0
        self.cpu = 0.0
        self._sink = sink
        self._context = context
        self._in_flight = in_flight
        self._on_open = on_open
        self._ordered = ordered
        self._changed = threading.Condition()
        self._waiting: list[tuple[int, Chunk | None]] = []  # heap by index; None: a chunk that was skipped
        self._next = 0
        self._total: int | None = None
        self._broken = False

    def complete(self, chunk: Chunk) -> None:
        """All items of the chunk are finished: commit it."""
        with self._changed:
            heapq.heappush(self._waiting, (chunk.index, chunk))
            self._changed.notify()

    def skip(self, index: int) -> None:
        """The chunk was committed by an earlier try."""
        with self._changed:
            heapq.heappush(self._waiting, (index, None))
            self._changed.notify()

    def end(self, chunks: int) -> None:
        """The source has yielded ``chunks`` chunks, those skipped included."""
        with self._changed:
            self._total = chunks
            self._changed.notify()

    def break_(self) -> None:
        """Tear down: commit nothing more."""
        with self._changed:
            self._broken = True
            self._changed.notify()

    def run(self) -> None:
        """Open the sink, commit everything, finish it, close it."""
        finished = False
        try:
            self._on_open(self._sink.open())
            finished = self._commit_all() and self._context.may_finish()
            if finished:
                self.finish_sink()
        except BaseException as error:  # noqa: BLE001 - whatever the sink raises ends the run, by name
            finished = False
            self._failed(error)
        try:
            self._sink.close()
        except BaseException as error:  # noqa: BLE001 - the run keeps its first error
            finished = False
            self._failed(error)
        if finished:
            self._context.sink_done()

    def finish_sink(self) -> None:
        """Everything is committed: finish the load and read its aggregates."""
        self._sink.finish()
        self.aggregates = self._sink.aggregate_values()

    def _failed(self, error: BaseException) -> None:
        failed = SinkFailed(f"the sink {self._sink.describe()} failed: {type(error).__name__}: {error}")
        failed.__cause__ = error
        self._context.fail(failed)

    def _commit_all(self) -> bool:
        done = 0
        while True:
            with self._changed:
                while not self._broken and done != self._total and not self._ready():
                    self._changed.wait()
                if self._broken:
                    return False
                if done == self._total:
                    return True
                _, chunk = heapq.heappop(self._waiting)
                self._next += 1
            if chunk is not None:
                if not self._context.may_commit():
                    return False
                self._commit(chunk)
            done += 1

    def _ready(self) -> bool:
        return bool(self._waiting) and (not self._ordered or self._waiting[0][0] == self._next)

    def _commit(self, chunk: Chunk) -> None:
        began, cpu = time.monotonic(), time.thread_time()
        committed = _committed_items(chunk)
        filtered = chunk.size - committed - len(chunk.dead)
        result = ChunkResult(
            chunk_id=chunk.chunk_id,
            index=chunk.index,
            first_position=chunk.first_position,
            items=chunk.size,
            items_filtered=filtered,
            rows=_in_order(chunk),
            dead_letters=[dead_letter for _, dead_letter in sorted(chunk.dead_letters, key=lambda each: each[0])],
            positions=lambda: _positions(chunk),
        )
        rows = self._sink.commit(result)
        with self._changed:
            self.items_committed += committed
            self.items_filtered += filtered
            self.items_dead_lettered += len(chunk.dead)
            self.rows_committed += rows
            self.chunks_committed += 1
            self.busy += time.monotonic() - began
            self.cpu += time.thread_time() - cpu
        self._in_flight.release(chunk.size)


def _in_order(chunk: Chunk) -> list[Any]:
    """The chunk's rows in source order."""
    runs = chunk.row_keys
    if all(type(run) is range for run in runs):
        return _runs_in_order(chunk, runs)  # type: ignore[arg-type]
    keys: list[Any] = [key for run in runs for key in run]
    if set(map(type, keys)) - {int}:
        keys = [sort_key(key) for key in keys]
    if all(map(operator.le, keys, itertools.islice(keys, 1, None))):
        return chunk.rows
    return [chunk.rows[at] for at in sorted(range(len(keys)), key=keys.__getitem__)]


def _positions(chunk: Chunk) -> list[int]:
    """The position in the source of each row's item, in the order of :func:`_in_order`."""
    keys = sorted(sort_key(key) for run in chunk.row_keys for key in run)
    return [chunk.first_position + key[0] for key in keys]


def _runs_in_order(chunk: Chunk, runs: Sequence[range]) -> list[Any]:
    """The rows of runs of neighbors. Runs never overlap, so the rows are in order as soon as the runs are."""
    starts = [run.start for run in runs]
    if all(map(operator.le, starts, itertools.islice(starts, 1, None))):
        return chunk.rows
    ends = list(itertools.accumulate(map(len, runs)))
    rows: list[Any] = []
    for at in sorted(range(len(runs)), key=starts.__getitem__):
        rows += chunk.rows[ends[at] - len(runs[at]) : ends[at]]
    return rows


def _committed_items(chunk: Chunk) -> int:
    """How many items have at least one row and are not dead-lettered."""
    positions: set[int] = set()
    in_ranges = 0
    for run in chunk.row_keys:
        if type(run) is range and chunk.dead.isdisjoint(run):
            in_ranges += len(run)  # the only rows of these items: no other run names them
        else:
            positions.update(position for key in run for position in item_positions(key))
    return in_ranges + len(positions - chunk.dead)
