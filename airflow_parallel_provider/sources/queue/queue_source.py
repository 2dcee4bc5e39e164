# SPDX-License-Identifier: Apache-2.0
"""``QueueSource``: the messages that a queue holds now, acknowledged after their commit."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from threading import Lock
from uuid import uuid4

from airflow_parallel_provider.checks import check_seconds, check_whole
from airflow_parallel_provider.engine.interfaces.records import ChunkResult, CommittedChunk, LoadSpec
from airflow_parallel_provider.engine.interfaces.sink import Sink
from airflow_parallel_provider.engine.interfaces.wrapped_sink import WrappedSink
from airflow_parallel_provider.errors import PlanError, SourceError
from airflow_parallel_provider.foreign.fork_guard import guarded
from airflow_parallel_provider.sources.declared_source import DeclaredSource
from airflow_parallel_provider.sources.queue.broker import Broker, Delivery
from airflow_parallel_provider.sources.read_ahead import StopReading
from airflow_parallel_provider.values.items import Message, digest

log = logging.getLogger(__name__)

_PULL_SIZE = 500
"""Most messages of one pull."""

_PULL_SECONDS = 1.0
"""Most seconds of one pull, so that a stop is noticed."""


class QueueSource(DeclaredSource):
    """The messages that a queue holds, up to a limit, as :class:`Message` items.

    ::

        QueueSource(RedisStream("orders", group="loader", conn_id="redis_default"), idle=5, max_items=100_000)

    It ends when no message has arrived for ``idle`` seconds, or at ``max_items`` or ``max_seconds``: an Airflow task
    must end, so this source drains a queue and does not serve it. Where an ordered queue withholds messages until
    earlier ones are acknowledged, the seconds count from the acknowledgment of the last whole chunk.

    A message is acknowledged after its chunk has been committed, never before. A :class:`SinkTable` stores the ids of
    the messages with the rows, in the same transaction: a message that the broker delivers again, to this try, a later
    one or another load, is acknowledged and otherwise skipped. An item that fails within the tolerance becomes a dead
    letter and is acknowledged with its chunk.

    :param broker: :class:`RedisStream`, :class:`RabbitQueue`, :class:`SqsQueue`, :class:`PubSubSubscription`, or a
        :class:`Broker` of your own.
    :param idle: seconds without a new message after which the queue counts as empty.
    :param max_items: most messages of one run.
    :param max_seconds: most seconds of reading; None: no limit.
    :raises PlanError: when the DAG is parsed, for a wrong argument; when the run begins, for a missing connection.

    What it does not do: keep an order that the broker does not keep, or configure dead-letter exchanges of the broker.
    With any sink but :class:`SinkTable` a message may be committed twice, if the task dies between the commit and the
    acknowledgment.

    Known limitation: the ids are kept for 30 days.
    """

    def __init__(
        self, broker: Broker, *, idle: float = 5.0, max_items: int = 1_000_000, max_seconds: float | None = None
    ) -> None:
        if not isinstance(broker, Broker):
            raise PlanError("QueueSource.broker", broker, 'give a Broker, e.g. RedisStream("orders", group="loader")')
        check_seconds("QueueSource.idle", idle)
        check_whole("QueueSource.max_items", max_items, 1, 1_000_000_000)
        if max_seconds is not None:
            check_seconds("QueueSource.max_seconds", max_seconds)
        self.broker = broker
        self.idle = idle
        self.max_items = max_items
        self.max_seconds = max_seconds
        self.duplicates = 0
        """Messages of the last run that had already been committed."""
        self._halt = StopReading()
        self._seen: set[str] = set()
        self._in_flight: dict[int, tuple[str, Delivery]] = {}
        self._lock = Lock()
        self._chunk_size = 1
        self._acknowledging = False
        self._acknowledged_at = 0.0

    def prepare(self) -> None:
        """Connect to the broker."""
        self._halt = StopReading()
        self._seen = set()
        self._in_flight = {}
        self.duplicates = 0
        self.broker.open()

    def check_shards(self) -> None:
        """A queue shares itself out.

        :raises PlanError: always.
        """
        cure = "a queue gives each consumer other messages: map the task, or start it several times, without shards"
        raise PlanError("Pipeline.source", self, cure)

    def interrupt(self) -> None:
        """Stop waiting for messages."""
        self._halt.set()

    def identity(self) -> str:
        """Name of the queue."""
        return f"messages of {self.broker.name()}"

    def wrap_sink(self, sink: Sink) -> Sink:
        """A sink that commits in the given one and then acknowledges the messages."""
        return AcknowledgingSink(sink, self)

    def __iter__(self) -> Iterator[Message]:
        """Yield the messages.

        :raises SourceError: when the broker cannot be read.
        """
        for position, delivery in enumerate(self._new_deliveries()):
            name = digest(delivery.message.id)
            with self._lock:
                self._in_flight[position] = (name, delivery)
            yield delivery.message

    def _new_deliveries(self) -> Iterator[Delivery]:
        """Deliveries whose message is neither committed nor in flight."""
        began = last = pulled_at = time.monotonic()
        given = 0
        while given < self.max_items:
            self._halt.wait(lambda: True)
            now = time.monotonic()
            last = max(last, self._last_withheld(now))
            left = self.idle - (now - last)
            if left <= 0 and pulled_at > last:  # never before a pull after the last message or acknowledgment
                return
            if self.max_seconds is not None:
                left = min(left, self.max_seconds - (now - began))
                if left <= 0 and pulled_at > began:
                    return
            pulled_at = now
            pulled = self._pull(min(_PULL_SIZE, self.max_items - given), min(max(left, 0.001), _PULL_SECONDS))
            redelivered = []
            for delivery in pulled:
                name = digest(delivery.message.id)
                if name in self._seen:
                    redelivered.append(delivery)
                    continue
                self._seen.add(name)
                given += 1
                last = time.monotonic()
                yield delivery
            done = self._handle_redelivered(redelivered)
            # A message in flight says nothing about the queue: it comes again as long as its chunk waits for others.
            if done or len(redelivered) < len(pulled):
                last = time.monotonic()

    def _pull(self, most: int, seconds: float) -> Sequence[Delivery]:
        try:
            return self.broker.pull(most, seconds)
        except SourceError:
            raise
        except Exception as error:
            raise SourceError(f"{self.identity()}: cannot be read ({type(error).__name__}: {error})") from error

    def _last_withheld(self, now: float) -> float:
        """When the queue last had a reason to withhold messages that will end without further messages.

        Messages in flight beyond whole chunks are no such reason: their chunk waits for the withheld messages.
        """
        if not self.broker.withholds():
            return 0.0
        waits = self._acknowledging or len(self._in_flight) >= self._chunk_size
        return now if waits else self._acknowledged_at

    def _handle_redelivered(self, deliveries: Sequence[Delivery]) -> int:
        """Acknowledge redelivered messages that are committed; for those in flight keep the newest receipt.

        :return: how many are committed.
        """
        if not deliveries:
            return 0
        named = [(digest(delivery.message.id), delivery) for delivery in deliveries]
        done = []
        with self._lock:  # otherwise a message that is acknowledged meanwhile would stay in flight for ever
            positions = {name: position for position, (name, _) in self._in_flight.items()}
            for name, delivery in named:
                if name in positions:
                    self._in_flight[positions[name]] = (name, delivery)
                else:
                    done.append(delivery)
        self.duplicates += len(done)
        if done:
            self._acknowledge(done)
        return len(done)

    def set_chunk_size(self, items: int) -> None:
        """Set how many messages are committed together."""
        self._chunk_size = items

    def mark_committed(self, message_ids: frozenset[str]) -> None:
        """Skip messages with these digests: they are committed."""
        self._seen |= message_ids

    def message_ids(self, positions: range) -> list[str]:
        """Digests of the messages at some positions."""
        return [self._in_flight[position][0] for position in positions]

    def acknowledge(self, positions: range) -> None:
        """Acknowledge the messages at some positions, which are committed."""
        self._acknowledging = True
        with self._lock:
            done = [self._in_flight.pop(position)[1] for position in positions]
        self._acknowledge(done)
        self._acknowledged_at = time.monotonic()
        self._acknowledging = False

    def _acknowledge(self, deliveries: Sequence[Delivery]) -> None:
        try:
            self.broker.acknowledge(deliveries)
        except Exception as error:  # noqa: BLE001  # they are committed: if they come again, their ids are found
            text = (
                "%s: %d messages are committed but could not be acknowledged (%s: %s); the broker delivers them again"
            )
            log.warning(text, self.identity(), len(deliveries), type(error).__name__, error)


class AcknowledgingSink(WrappedSink):
    """Commits in another sink, then acknowledges.

    A queue never gives its messages twice in the same order, so chunks cannot be skipped by number. Each try has its
    own chunk ids, and the messages are skipped by their ids.
    """

    def __init__(self, inner: Sink, source: QueueSource) -> None:
        super().__init__(inner)
        self.source = source
        self._try = uuid4().hex[:12]

    def prepare(self, spec: LoadSpec) -> None:
        """Prepare the inner sink, with the name of the queue."""
        self.source.set_chunk_size(spec.chunk_size)
        try:
            self.inner.prepare(replace(spec, queue=self.source.broker.name()))
        except BaseException:
            self.source.broker.close()  # the run does not begin, so close() is not called
            raise

    def open(self) -> Mapping[str, CommittedChunk]:
        """Open the inner sink and get the ids of the committed messages from it; no chunk is skipped."""
        self.inner.open()
        self.source.mark_committed(self.inner.known_messages())
        return {}

    def commit(self, chunk: ChunkResult) -> int | None:
        """Commit, then acknowledge."""
        positions = range(chunk.first_position, chunk.first_position + chunk.items)
        ids = self.source.message_ids(positions)
        chunk = replace(chunk, chunk_id=f"{self._try}-{chunk.chunk_id}", message_ids=ids)
        rows: int | None = guarded(self.inner.commit)(chunk)
        self.source.acknowledge(positions)
        return rows

    def close(self) -> None:
        """Close the inner sink, then disconnect; the broker delivers messages without acknowledgment again."""
        try:
            self.inner.close()
        finally:
            self.source.broker.close()
