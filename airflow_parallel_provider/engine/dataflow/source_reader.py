# SPDX-License-Identifier: Apache-2.0
"""The source's thread: it reads items, cuts them into chunks, skips committed chunks and waits for room.

Items are collected into bundles, as to pass on one trivial item at a time would cost more than the item. That does not
delay a slow source: see :meth:`SourceReader._collect`.
"""

from __future__ import annotations

import itertools
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import TYPE_CHECKING, Any

from airflow_parallel_provider.engine.dataflow.bundle import Bundle
from airflow_parallel_provider.engine.dataflow.channel import ChannelBroken
from airflow_parallel_provider.engine.dataflow.chunk import Chunk, ChunkCuts, chunk_id
from airflow_parallel_provider.engine.dataflow.in_flight import InFlightLimit
from airflow_parallel_provider.engine.dataflow.router import Router
from airflow_parallel_provider.engine.dataflow.sink_writer import SinkWriter
from airflow_parallel_provider.engine.interfaces.records import CommittedChunk
from airflow_parallel_provider.engine.interfaces.run_context import RunContext
from airflow_parallel_provider.engine.interfaces.source import Source
from airflow_parallel_provider.engine.resources.limits import with_cure
from airflow_parallel_provider.errors import LoadMismatch, SourceFailed
from airflow_parallel_provider.foreign.errors import raisable, trace_of
from airflow_parallel_provider.foreign.fork_guard import LastLock, end_child, guarded, guarded_items, watch_reader
from airflow_parallel_provider.foreign.frames import location_of

if TYPE_CHECKING:
    from airflow_parallel_provider.engine.dataflow.channel import Channel
    from airflow_parallel_provider.engine.interfaces.shard import Shard

_NOTHING: Any = object()

_BUNDLE_ITEMS = 1000
"""Items that are collected into one bundle at most."""

_BULK_ITEMS = 2000
"""Items that are read at once from a source that is in memory."""


class SourceReader:
    """Reads the source. Run :meth:`run` on a thread of its own.

    :param router: where the items go.
    :param sink_writer: learns which chunks are skipped, and how many there are.
    :param shard: which chunks this run reads, where several write one load.
    :param helps: whether it then takes chunks of other shards.
    :param channel: the first stage's channel; None when the first stage takes items on this thread.
    :param call_size: items that go into one call of the first stage: nobody can use fewer of them.
    """

    def __init__(
        self,
        source: Source,
        context: RunContext,
        router: Router,
        sink_writer: SinkWriter,
        in_flight: InFlightLimit,
        *,
        chunk_size: int,
        stages: int,
        channel: Channel | None,
        call_size: int = 1,
        shard: Shard | None = None,
        helps: bool = False,
    ) -> None:
        self.items_skipped = 0
        self.chunks_skipped = 0
        self._waiting_since: float | None = None
        self.waited = 0.0  # for room, and while inline stages ran on this thread
        self.cpu = 0.0  # seconds spent in the source itself, up to the last item that was passed on
        self._cpu_mark = 0.0  # CPU time of this thread when the source was called last
        self.began: float | None = None
        self.ended: float | None = None
        self._source = source
        self._chunk_size = chunk_size
        self._cuts = ChunkCuts(chunk_size, None)
        self._stages = stages
        self._context = context
        self._router = router
        self._sink_writer = sink_writer
        self._in_flight = in_flight
        # A channel that weighs its calls takes none from here: the author's ``cost`` must not run under its lock.
        self._channel = channel = None if channel is not None and channel.allowance.weighted else channel
        self._call_size = call_size
        self.shard = shard
        self._helps = helps
        self._committed: Mapping[str, CommittedChunk] = {}
        self._state: Mapping[str, Any] | None = None
        self._lock: AbstractContextManager[object] = threading.Lock()
        self._chunk: Chunk | None = None
        self._first = 0  # key of the first collected item; the others follow it
        self._collected: list[Any] = []  # the source's thread appends without a lock, see _collect
        self._counting = threading.Lock()  # the innermost lock
        self._taken = 0  # items read that are not among the collected ones
        if channel is not None:
            channel.refill = self._take_collected

    def resume_after(self, committed: Mapping[str, CommittedChunk], state: Mapping[str, Any] | None) -> None:
        """Skip what an earlier try of the load has committed. Called before :meth:`run`.

        Of a shard also later, from any thread, with what all shards have committed by then.

        :param committed: the chunks to skip, by id.
        :param state: of the source when those chunks were read; None: not known.
        """
        self._committed = committed
        self._state = state

    def run(self) -> None:
        """Read the source to its end."""
        self.began, self._cpu_mark, pid = time.monotonic(), time.thread_time(), os.getpid()
        watch_reader(self._end_in_child)
        try:
            if self._state is not None:
                self._source.restore_state(self._state)
            self._cuts = ChunkCuts(self._chunk_size, self._source.chunk_lengths(self._chunk_size))
            if self.shard is None and not self._source.has_loose_chunks:
                self._read_all()
            else:
                self._read_by_number(self.shard)
        except ChannelBroken:
            pass
        except _EngineError as wrapped:
            self._context.crashed(wrapped.__cause__ or wrapped)
        except BaseException as error:  # noqa: BLE001 - anything the source raises ends the run, by name
            end_child(pid, error)
            where = location_of(trace_of(error), own_only=True)
            failed = SourceFailed(f"the source raised {with_cure(error)}{f' ({where})' if where else ''}")
            failed.__cause__ = raisable(error)
            self._context.fail(failed)
        finally:
            self._chunk = None  # it holds rows, and the run keeps the source reader
            self.cpu += time.thread_time() - self._cpu_mark
            self.ended = time.monotonic()

    def _end_in_child(self) -> None:
        """In a process that the source has forked: pass on the item that comes next, which ends the process."""
        self._lock = LastLock()
        if self._channel is not None:
            self._channel.waiting = 1 << 60

    @property
    def items_read(self) -> int:
        """How many items the source has yielded so far, skipped ones included. From any thread."""
        with self._counting:
            return self._taken + len(self._collected)

    @property
    def seconds(self) -> float:
        """Seconds since the first read, waiting for room included."""
        return 0.0 if self.began is None else (self.ended or time.monotonic()) - self.began

    @property
    def busy(self) -> float:
        """Seconds of that spent in the source itself; a wait that is still going on does not count."""
        now, since = time.monotonic(), self._waiting_since
        return max(0.0, self.seconds - self.waited - (0.0 if since is None or self.ended is not None else now - since))

    def _read_all(self) -> None:
        items = iter(self._source)
        following, index = guarded(partial(next, items, _NOTHING)), 0
        for index in itertools.count():
            first = following()
            if first is _NOTHING:
                break
            if chunk_id(index) in self._committed:
                self._skip_chunk(index, items)
            else:
                others = itertools.islice(items, self._cuts.length(index) - 1)
                self._read_chunk(index, itertools.chain((first,), others))
        self._router.end(index - self.chunks_skipped)
        self._sink_writer.end(index)

    def _read_by_number(self, shard: Shard | None) -> None:
        """Read the chunks that are not committed, and no others: those of a shard, or all."""
        read, committed = set[int](), self._committed
        if shard is None:
            for name in committed:  # first: a sink that takes chunks in order waits for them
                self._sink_writer.skip(int(name))
            whole = self._read_some(lambda at: chunk_id(at) not in committed, read)
            self._count_skipped(list(committed))
            self._router.end(len(read))
            self._sink_writer.end(whole)
            return
        mine = shard.takes(neighbors := self._source.neighbors(self._chunk_size))
        whole = self._read_some(lambda at: mine(at) and chunk_id(at) not in self._committed, read)
        names = (chunk_id(at) for at in range(whole) if mine(at) and at not in read)
        self._count_skipped([name for name in names if name in self._committed])
        # Then chunks of others. Nothing is locked: the ledger's key decides, and a collision costs the work of a chunk.
        choose = partial(shard.helps_with, whole, neighbors=neighbors, own=read)
        while self._helps and (chosen := self._sink_writer.take_over(len(read), whole, choose)):
            self._read_some(chosen.__contains__, read)
        self._router.end(len(read))
        self._sink_writer.end(len(read), whole=whole)

    def _count_skipped(self, names: Sequence[str]) -> None:
        items = sum(self._committed[name].items for name in names)
        self._count(items)
        self.items_skipped += items
        self.chunks_skipped += len(names)

    def _read_some(self, wanted: Callable[[int], bool], read: set[int]) -> int:
        """Read the wanted chunks, and note which; return how many the whole source has."""
        following = guarded(partial(next, self._source.chunks(self._chunk_size, wanted)))
        while True:
            try:
                index, items = following()
            except StopIteration as end:
                return int(end.value)
            if wanted(index):  # or it was committed since the source was asked for it
                self._read_chunk(index, iter(items))
                read.add(index)

    def _skip_chunk(self, index: int, items: Iterator[Any]) -> None:
        count = 1 + sum(1 for _ in guarded_items(itertools.islice(items, self._cuts.length(index) - 1)))
        committed = self._committed[chunk_id(index)].items
        if count != committed:
            raise LoadMismatch(
                f"chunk {chunk_id(index)} has {count} items, but an earlier try of this load committed it with "
                f"{committed}: the source has changed. Give the new items a load of their own (another load_key)"
            )
        self._count_skipped([chunk_id(index)])
        self._sink_writer.skip(index)

    def _read_chunk(self, index: int, items: Iterator[Any]) -> None:
        self._waiting_since = time.monotonic()
        self.waited += self._in_flight.acquire(self._chunk_size)
        self._waiting_since = None
        chunk = Chunk(index, self._cuts.first(index), self._stages)
        with self._lock:
            self._chunk, self._first = chunk, 0
        size = self._read_in_bulk(chunk, items) if self._source.is_in_memory else self._collect(items)
        if not self._cuts.are_full:
            chunk.reserved = self._chunk_size - size
        elif size != self._chunk_size:  # more, of a source with loose chunks
            self._in_flight.release(self._chunk_size - size)
        self._emit(lambda: self._router.source_done(chunk, size))

    def _read_in_bulk(self, chunk: Chunk, items: Iterator[Any]) -> int:
        size = 0
        while values := list(itertools.islice(items, _BULK_ITEMS)):
            first, size = size, size + len(values)  # before delivery: the channel cuts the list
            self._count(len(values))
            self._emit(partial(self._router.route, 0, chunk, range(first, size), values))
        return size

    def _collect(self, items: Iterator[Any]) -> int:
        """Read items that are not at hand, 0.1 us for each: without a lock, without a call of ours.

        This fast path is left in two cases, to pass on what has been collected: it is enough for a bundle, or more
        workers wait than calls are in the channel. Otherwise each worker that waits has been woken for one of those
        calls. A worker that finds the channel empty takes what has been collected (:meth:`_take_collected`). So no
        item stays here while a worker has nothing to do, however long the source takes for the next one.
        """
        collected, channel, more = self._collected, self._channel, self._call_size - 1
        collect, enough = collected.append, _enough(channel)
        for item in items:
            collect(item)
            if more:  # nobody can use a part of a batch
                collected.extend(itertools.islice(items, more))
            # In this order: a worker that begins to wait after this line finds the item.
            if channel is None or channel.waiting > channel.calls or len(collected) >= enough:
                self._flush()
                enough = _enough(channel)
        self._flush()
        return self._first

    def _flush(self) -> None:
        """Pass on what has been collected; wait for room."""
        with self._lock:
            chunk, (first, values) = self._chunk, self._take()
        if values and chunk is not None:
            self._emit(partial(self._router.route, 0, chunk, range(first, first + len(values)), values))

    def _take(self) -> tuple[int, list[Any]]:
        """Take what has been collected: the key of the first item, and the items. Called with the lock."""
        with self._counting:
            values = self._collected[:]
            del self._collected[: len(values)]  # not clear(): another item may have come
            self._taken += len(values)
        first = self._first
        self._first += len(values)
        return first, values

    def _count(self, items: int) -> None:
        """Count items that were read in bulk, or skipped."""
        with self._counting:
            self._taken += items

    def _emit(self, deliver: Callable[[], float]) -> None:
        """Call ``deliver``, which is not the source's work: its time does not count, its errors are the engine's."""
        self._waiting_since = began = time.monotonic()
        self.cpu += time.thread_time() - self._cpu_mark
        try:
            deliver()
        except ChannelBroken:
            raise
        except BaseException as error:
            raise _EngineError from error
        finally:
            self._waiting_since = None
            self.waited += time.monotonic() - began
            self._cpu_mark = time.thread_time()

    def _take_collected(self) -> list[Bundle]:
        """What has been collected, for a worker that found the channel empty; called under the channel's lock.

        It registers them with the router under that lock: else the chunk could be complete with items not counted.
        """
        with self._lock:
            if not self._collected or self._chunk is None:
                return []
            first, values = self._take()
            bundle = self._router.register(0, self._chunk, range(first, first + len(values)), values)
        return [bundle] if bundle is not None else []


def _enough(channel: Channel | None) -> int:
    """Items of one bundle at most: half of the channel, so that its readers have the other half meanwhile."""
    return 1 if channel is None else min(_BUNDLE_ITEMS, max(1, channel.capacity // 2))


class _EngineError(Exception):
    """Its cause is an error of the engine, not of the source."""
