"""``QueueSource``: what a broker holds now, read to its end, and acknowledged when it is committed."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from threading import Lock
from typing import Any
from uuid import uuid4

from airflow_parallel_provider.checks import check_seconds, check_whole
from airflow_parallel_provider.engine.interfaces.records import ChunkResult, CommittedChunk, LoadSpec
from airflow_parallel_provider.engine.interfaces.sink import Sink, WrappedSink
from airflow_parallel_provider.errors import PlanError, SourceError
from airflow_parallel_provider.sources.declared_source import DeclaredSource
from airflow_parallel_provider.sources.queue.broker import Broker, Delivery
from airflow_parallel_provider.sources.read_ahead import StopReading
from airflow_parallel_provider.values.items import Message

log = logging.getLogger(__name__)

_AT_ONCE = 500
"""Messages of one pull."""

_LOOK_AGAIN = 1.0
"""Most seconds of one pull, so that a stop is noticed."""


class QueueSource(DeclaredSource):
    """The messages that a queue holds, up to a bound, as :class:`Message` items.

    ::

        QueueSource(RedisStream("orders", group="loader", conn_id="redis_default"), idle=5, max_items=100_000)

    It ends when no message has come for ``idle`` seconds, or with ``max_items`` or ``max_seconds``: an Airflow task
    must end, so this drains a queue; it does not serve it. Where a queue keeps an order and so holds messages back
    until earlier ones are acknowledged, the seconds count from the acknowledgement of the last whole chunk.

    A message is acknowledged after the chunk that holds it has been committed, never before. Into a :class:`SinkTable`
    the ids of the messages go with the rows, in the same transaction: a message that the broker delivers again, to
    this try, a later one or another load, is acknowledged and otherwise left aside. An item that fails within the
    tolerance is a dead letter, and acknowledged with its chunk.

    :param broker: :class:`RedisStream`, :class:`RabbitQueue`, :class:`SqsQueue`, :class:`PubSubSubscription`, or a
        :class:`Broker` of your own.
    :param idle: seconds without a new message after which the queue counts as empty.
    :param max_items: most messages of one run.
    :param max_seconds: how long it reads at most; None: no limit.
    :raises PlanError: when the DAG is parsed for a wrong argument; when the run begins for a missing connection.

    What it does not do: keep an order that the broker does not keep; dead-letter exchanges and the like are the
    broker's own. With any sink but :class:`SinkTable` a message may be committed twice: when the task dies between the
    commit and the acknowledgement.

    Known limitation: ids are remembered for 30 days.
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
        """Messages of the last run that were in already."""
        self._halt = StopReading()
        self._known: set[str] = set()
        self._taken: dict[int, tuple[str, Delivery]] = {}
        self._taking = Lock()
        self._chunk_size = 1
        self._acknowledging = False
        self._acknowledged_at = 0.0

    def prepare(self) -> None:
        """Connect."""
        self._halt = StopReading()
        self._known = set()
        self._taken = {}
        self.duplicates = 0
        self.broker.open()

    def interrupt(self) -> None:
        """Wait for no further message."""
        self._halt.set()

    def identity(self) -> str:
        """Name of the queue."""
        return f"messages of {self.broker.name()}"

    def wrap_sink(self, sink: Sink) -> Sink:
        """The same sink, after whose commits the messages are acknowledged."""
        return AcknowledgingSink(sink, self)

    def __iter__(self) -> Iterator[Message]:
        """Yield the messages.

        :raises SourceError: when the broker cannot be read.
        """
        from airflow_parallel_provider.values.items import digest

        for position, delivery in enumerate(self._fresh(digest)):
            name = digest(delivery.message.id)
            with self._taking:
                self._taken[position] = (name, delivery)
            yield delivery.message

    def _fresh(self, digest: Any) -> Iterator[Delivery]:
        """Deliveries whose message is neither in nor on its way."""
        began = last = asked = time.monotonic()
        given = 0
        while given < self.max_items:
            self._halt.wait(lambda: True)
            now = time.monotonic()
            last = max(last, self._last_withheld(now))
            left = self.idle - (now - last)
            if left <= 0 and asked > last:  # never without having asked after the last message or acknowledgement
                return
            if self.max_seconds is not None:
                left = min(left, self.max_seconds - (now - began))
                if left <= 0 and asked > began:
                    return
            asked = now
            pulled = self._pull(min(_AT_ONCE, self.max_items - given), min(max(left, 0.001), _LOOK_AGAIN))
            known = []
            for delivery in pulled:
                name = digest(delivery.message.id)
                if name in self._known:
                    known.append(delivery)
                    continue
                self._known.add(name)
                given += 1
                last = time.monotonic()
                yield delivery
            done = self._again(known, digest)
            # One that is under way says nothing about the queue: it comes as long as its chunk waits for others.
            if done or len(known) < len(pulled):
                last = time.monotonic()

    def _pull(self, most: int, seconds: float) -> Sequence[Delivery]:
        try:
            return self.broker.pull(most, seconds)
        except SourceError:
            raise
        except Exception as error:
            raise SourceError(f"{self.identity()}: cannot be read ({type(error).__name__}: {error})") from error

    def _last_withheld(self, now: float) -> float:
        """When the queue last had a reason to hold messages back that goes away by itself.

        What is taken beyond whole chunks is no such reason: it waits for the messages that are held back.
        """
        if not self.broker.withholds():
            return 0.0
        waits = self._acknowledging or len(self._taken) >= self._chunk_size
        return now if waits else self._acknowledged_at

    def _again(self, deliveries: Sequence[Delivery], digest: Any) -> int:
        """Messages that were delivered before: done if they are in, else their newest delivery counts.

        :return: how many are done.
        """
        if not deliveries:
            return 0
        named = [(digest(delivery.message.id), delivery) for delivery in deliveries]
        done = []
        with self._taking:  # or what is acknowledged meanwhile would be put back, for ever
            under_way = {name: position for position, (name, _) in self._taken.items()}
            for name, delivery in named:
                if name in under_way:
                    self._taken[under_way[name]] = (name, delivery)
                else:
                    done.append(delivery)
        self.duplicates += len(done)
        if done:
            self._tell(done)
        return len(done)

    def chunks_of(self, items: int) -> None:
        """So many messages are committed together."""
        self._chunk_size = items

    def know(self, message_ids: frozenset[str]) -> None:
        """Messages with these digests are in."""
        self._known |= message_ids

    def message_ids(self, positions: range) -> list[str]:
        """Digests of the messages at some positions."""
        return [self._taken[position][0] for position in positions]

    def acknowledge(self, positions: range) -> None:
        """The messages at these positions are committed."""
        self._acknowledging = True
        with self._taking:
            done = [self._taken.pop(position)[1] for position in positions]
        self._tell(done)
        self._acknowledged_at = time.monotonic()
        self._acknowledging = False

    def _tell(self, deliveries: Sequence[Delivery]) -> None:
        try:
            self.broker.acknowledge(deliveries)
        except Exception as error:  # noqa: BLE001  # they are in: at worst they come again, and are known then
            text = (
                "%s: %d messages are committed but could not be acknowledged (%s: %s); the broker delivers them again"
            )
            log.warning(text, self.identity(), len(deliveries), type(error).__name__, error)


class AcknowledgingSink(WrappedSink):
    """Commits in another sink, then acknowledges.

    A queue is not read twice in the same order, so its chunks are not skipped by number: each try has chunk ids of its
    own, and what is known is known by message.
    """

    def __init__(self, inner: Sink, source: QueueSource) -> None:
        super().__init__(inner)
        self.source = source
        self._try = uuid4().hex[:12]

    def prepare(self, spec: LoadSpec) -> None:
        """Of the inner sink, with the name of the queue."""
        self.source.chunks_of(spec.chunk_size)
        try:
            self.inner.prepare(replace(spec, queue=self.source.broker.name()))
        except BaseException:
            self.source.broker.close()  # nobody else will: this run ends before it begins
            raise

    def open(self) -> Mapping[str, CommittedChunk]:
        """Open the inner sink and ask it for the messages that are in; there is nothing to skip."""
        self.inner.open()
        self.source.know(self.inner.known_messages())
        return {}

    def commit(self, chunk: ChunkResult) -> int:
        """Commit, then acknowledge."""
        positions = range(chunk.first_position, chunk.first_position + chunk.items)
        ids = self.source.message_ids(positions)
        chunk = replace(chunk, chunk_id=f"{self._try}-{chunk.chunk_id}", message_ids=ids)
        rows = self.inner.commit(chunk)
        self.source.acknowledge(positions)
        return rows

    def close(self) -> None:
        """Of the inner sink; then disconnect, and what was not acknowledged is delivered again."""
        try:
            self.inner.close()
        finally:
            self.source.broker.close()
