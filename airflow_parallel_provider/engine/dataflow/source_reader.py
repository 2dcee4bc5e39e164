"""The source's thread: it reads items, cuts them into chunks, skips committed chunks and waits for room.

Items are collected into bundles, because to pass on one trivial item at a time would cost more than the item. That does
not delay a slow source: a worker that finds the channel empty takes what has been collected so far.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from airflow_parallel_provider.engine.dataflow.bundle import Bundle
from airflow_parallel_provider.engine.dataflow.channel import ChannelBroken
from airflow_parallel_provider.engine.dataflow.chunk import Chunk, chunk_id
from airflow_parallel_provider.engine.dataflow.in_flight import InFlightLimit
from airflow_parallel_provider.engine.dataflow.keys import Keys
from airflow_parallel_provider.engine.dataflow.router import Router
from airflow_parallel_provider.engine.dataflow.sink_writer import SinkWriter
from airflow_parallel_provider.engine.interfaces.records import CommittedChunk
from airflow_parallel_provider.engine.interfaces.run_context import RunContext
from airflow_parallel_provider.engine.interfaces.source import Source
from airflow_parallel_provider.errors import LoadMismatch, SourceFailed

if TYPE_CHECKING:
    from airflow_parallel_provider.engine.dataflow.channel import Channel

_NOTHING: Any = object()

_BUNDLE_ITEMS = 256
"""Items that are collected into one bundle at most."""

_BULK_ITEMS = 2000
"""Items that are read at once from a source that is in memory."""


class SourceReader:
    """Reads the source. Run :meth:`run` on a thread of its own.

    :param router: where the items go.
    :param sink_writer: is told which chunks are skipped, and how many there are.
    :param channel: the first stage's channel; None when the first stage takes items on this thread.
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
    ) -> None:
        self.items_read = 0
        self.items_skipped = 0
        self.chunks_skipped = 0
        self._waiting_since: float | None = None
        self.waited = 0.0  # for room, and while inline stages ran on this thread
        self.cpu = 0.0
        self.began: float | None = None
        self.ended: float | None = None
        self._source = source
        self._chunk_size = chunk_size
        self._stages = stages
        self._context = context
        self._router = router
        self._sink_writer = sink_writer
        self._in_flight = in_flight
        self._channel = channel
        self._committed: Mapping[str, CommittedChunk] = {}
        self._state: Mapping[str, Any] | None = None
        self._lock = threading.Lock()
        self._chunk: Chunk | None = None
        self._first = 0  # key of the first collected item; the others follow it
        self._values: list[Any] = []
        if channel is not None:
            channel.refill = self._take_collected

    def resume_after(self, committed: Mapping[str, CommittedChunk], state: Mapping[str, Any] | None) -> None:
        """Skip what an earlier try of the load has committed. Called before :meth:`run`.

        :param committed: the chunks to skip, by id.
        :param state: of the source when those chunks were read; None: not known.
        """
        self._committed = committed
        self._state = state

    def run(self) -> None:
        """Read the source to its end."""
        self.began = time.monotonic()
        try:
            if self._state is not None:
                self._source.restore_state(self._state)
            items = iter(self._source)
            index = 0
            for index in itertools.count():
                first = next(items, _NOTHING)
                if first is _NOTHING:
                    break
                if chunk_id(index) in self._committed:
                    self._skip_chunk(index, items)
                else:
                    self._read_chunk(index, first, items)
            self._router.end(index - self.chunks_skipped)
            self._sink_writer.end(index)
        except ChannelBroken:
            pass
        except _EngineError as wrapped:
            self._context.crashed(wrapped.error)
        except BaseException as error:  # noqa: BLE001 - anything the source raises ends the run, by name
            failed = SourceFailed(f"the source raised {type(error).__name__}: {error}")
            failed.__cause__ = error
            self._context.fail(failed)
        finally:
            self._chunk = None  # it holds rows, and the run keeps the source reader
            self.cpu += time.thread_time()
            self.ended = time.monotonic()

    @property
    def seconds(self) -> float:
        """Seconds since the first read, waiting for room included."""
        return 0.0 if self.began is None else (self.ended or time.monotonic()) - self.began

    @property
    def busy(self) -> float:
        """Seconds of that spent in the source itself; a wait that is still going on does not count."""
        since = self._waiting_since
        waiting = 0.0 if since is None or self.ended is not None else time.monotonic() - since
        return max(0.0, self.seconds - self.waited - waiting)

    def _skip_chunk(self, index: int, items: Iterator[Any]) -> None:
        count = 1 + sum(1 for _ in itertools.islice(items, self._chunk_size - 1))
        committed = self._committed[chunk_id(index)].items
        if count != committed:
            raise LoadMismatch(
                f"chunk {chunk_id(index)} has {count} items, but an earlier try of this load committed it with "
                f"{committed}: the source has changed. Give the new items a load of their own (another load_key)"
            )
        self.items_read += count
        self.items_skipped += count
        self.chunks_skipped += 1
        self._sink_writer.skip(index)

    def _read_chunk(self, index: int, first: Any, items: Iterator[Any]) -> None:
        self._waiting_since = time.monotonic()
        self.waited += self._in_flight.acquire(self._chunk_size)
        self._waiting_since = None
        chunk = Chunk(index, index * self._chunk_size, self._stages)
        with self._lock:
            self._chunk = chunk
        rest = itertools.chain((first,), itertools.islice(items, self._chunk_size - 1))
        size = self._read_in_bulk(chunk, rest) if self._source.is_in_memory else self._read_one_by_one(rest)
        if size < self._chunk_size:
            self._in_flight.release(self._chunk_size - size)
        self._emit(lambda: self._router.source_done(chunk, size))

    def _read_in_bulk(self, chunk: Chunk, items: Iterator[Any]) -> int:
        size = 0
        while values := list(itertools.islice(items, _BULK_ITEMS)):
            first, size = size, size + len(values)  # before delivery: the channel cuts the list
            self.items_read += len(values)
            self._deliver(chunk, range(first, size), values)
        return size

    def _read_one_by_one(self, items: Iterator[Any]) -> int:
        size = 0
        for item in items:
            self._add(size, item)
            size += 1
        self._flush()
        return size

    def _add(self, key: int, item: Any) -> None:
        channel = self._channel
        with self._lock:
            if not self._values:
                self._first = key
            self._values.append(item)
            self.items_read += 1
            count = len(self._values)
        if channel is None or channel.waiting or count >= min(_BUNDLE_ITEMS, max(1, channel.capacity // 2)):
            self._flush()

    def _flush(self) -> None:
        """Pass on what has been collected; wait for room."""
        with self._lock:
            chunk, first, values = self._chunk, self._first, self._values
            self._values = []
        if values and chunk is not None:
            self._deliver(chunk, range(first, first + len(values)), values)

    def _deliver(self, chunk: Chunk, keys: Keys, values: list[Any]) -> None:
        self._emit(lambda: self._router.route(0, chunk, keys, values))

    def _emit(self, deliver: Callable[[], float]) -> None:
        """Call ``deliver``, which is not the source's work: its time does not count, its errors are the engine's."""
        self._waiting_since = began = time.monotonic()
        cpu = time.thread_time()
        try:
            deliver()
        except ChannelBroken:
            raise
        except BaseException as error:
            raise _EngineError(error) from error
        finally:
            self._waiting_since = None
            self.waited += time.monotonic() - began
            self.cpu -= time.thread_time() - cpu

    def _take_collected(self) -> list[Bundle]:
        """What has been collected, for a worker that found the channel empty; called under the channel's lock.

        The items are registered with the router before the lock is released: otherwise the chunk could be complete
        while some of its items are counted nowhere.
        """
        with self._lock:
            first, values = self._first, self._values
            if not values or self._chunk is None:
                return []
            self._values = []
            bundle = self._router.register(0, self._chunk, range(first, first + len(values)), values)
        return [bundle] if bundle is not None else []


class _EngineError(Exception):
    """An error of the engine, not of the source."""

    def __init__(self, error: BaseException) -> None:
        super().__init__(str(error))
        self.error = error
