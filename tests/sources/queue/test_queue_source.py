"""``QueueSource`` on Redis, RabbitMQ, SQS and Pub/Sub: nothing lost, nothing twice, acknowledged after the commit."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from airflow_parallel_provider import (
    Broker,
    ListSink,
    Message,
    Pipeline,
    PlanError,
    QueueSource,
    RabbitQueue,
    RedisStream,
    Retry,
    RunFailed,
    SinkTable,
    SqsQueue,
    Stage,
)
from airflow_parallel_provider.engine.interfaces.records import ChunkResult
from airflow_parallel_provider.errors import SourceError
from airflow_parallel_provider.sources.queue import queue_source
from airflow_parallel_provider.sources.queue.broker import Delivery
from airflow_parallel_provider.testing.fault_plan import Fail, FaultPlan
from tests.sources.queue.queues import KINDS, RABBIT, REDIS, Queue, RabbitTestQueue, RedisQueue, announced, body, ids_in

pytestmark = pytest.mark.airflow


@pytest.fixture(params=KINDS)
def queue(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Queue]:
    """An empty queue."""
    with announced(KINDS[request.param](), monkeypatch) as made:
        yield made


def load(broker: Broker, stage: Any = body, key: str = "nightly", **options: Any) -> Any:
    source = QueueSource(broker, **{"idle": 0.05, **options.pop("source", {})})
    settings = {"chunk_size": 10, "max_in_flight": 10, "load_key": key, **options}
    return Pipeline(source, [Stage(stage)], SinkTable("orders", conn_id="warehouse"), **settings).run()


def test_queue_is_drained_into_a_table(queue: Queue, warehouse: Path) -> None:
    queue.publish(*range(95))

    report = load(queue.broker())

    assert ids_in(warehouse) == list(range(95))
    assert (report.items_read, report.chunks_committed) == (95, 10)
    assert queue.waiting() == 0


def test_messages_are_items(queue: Queue) -> None:
    queue.publish(7)
    sink = ListSink()

    Pipeline(QueueSource(queue.broker(), idle=0.05), [], sink).run()

    (message,) = sink.rows
    assert (message.json(), message.text(), message.attributes["kind"]) == ({"id": 7}, '{"id": 7}', "order")
    assert message.id


def test_empty_queue_ends_at_once(queue: Queue, warehouse: Path) -> None:
    assert load(queue.broker()).items_read == 0


def test_drain_is_bounded(queue: Queue, warehouse: Path) -> None:
    queue.publish(*range(30))

    assert load(queue.broker(), source={"max_items": 12}).items_read == 12
    assert queue.waiting() == 18
    assert load(queue.broker(), key="next").items_read == 18
    assert ids_in(warehouse) == list(range(30))


def test_nothing_is_acknowledged_before_its_commit(queue: Queue, warehouse: Path) -> None:
    queue.publish(*range(35))

    def stage(message: Message) -> Any:
        if message.json()["id"] == 25:
            raise ValueError("not today")
        return message.json()

    with pytest.raises(RunFailed, match="not today"):
        load(queue.broker(), stage)
    assert ids_in(warehouse) == list(range(20))
    assert queue.waiting() == 15

    report = load(queue.broker())  # a retry: the same load

    assert report.items_read == 15
    assert ids_in(warehouse) == list(range(35))
    assert queue.waiting() == 0


@pytest.mark.parametrize("key", ["nightly", "another load"])
def test_message_that_is_delivered_again_does_nothing(
    queue: Queue, warehouse: Path, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    """The task lost its broker between commit and acknowledgement."""
    queue.publish(*range(20))
    broker = queue.broker()
    monkeypatch.setattr(broker, "acknowledge", lambda deliveries: (_ for _ in ()).throw(ConnectionError("gone")))
    load(broker)
    assert queue.waiting() == 20
    queue.publish(20)

    source = QueueSource(queue.broker(), idle=0.05)
    sink = SinkTable("orders", conn_id="warehouse")
    report = Pipeline(source, [Stage(body)], sink, chunk_size=10, load_key=key).run()

    assert (report.items_read, source.duplicates) == (1, 20)
    assert ids_in(warehouse) == list(range(21))
    assert queue.waiting() == 0


def test_killed_task_loses_and_doubles_nothing(queue: Queue, warehouse: Path) -> None:
    """SIGKILL after a commit, before its acknowledgement."""
    queue.publish(*range(50))
    script = textwrap.dedent(f"""
        import os, signal
        from airflow_parallel_provider import *

        class Deadly(QueueSource):
            def acknowledge(self, positions):
                if positions.start == 20:
                    os.kill(os.getpid(), signal.SIGKILL)
                super().acknowledge(positions)

        name = {queue.name!r}
        source = Deadly({queue.made}, idle=0.5)
        stages = [Stage(lambda message: message.json())]
        sink = SinkTable("orders", conn_id="warehouse")
        Pipeline(source, stages, sink, chunk_size=10, ordered=True, load_key="nightly").run()
    """)
    died = subprocess.run([sys.executable, "-c", script], check=False, env={**os.environ}, timeout=170)
    assert died.returncode == -signal.SIGKILL
    assert len(ids_in(warehouse)) == 30

    queue.let_come_again()
    queue.wait_until_deliverable(30)
    load(queue.broker(), source={"idle": 0.5})  # the test's own server must get the processor within this time

    assert ids_in(warehouse) == list(range(50))
    assert queue.waiting() == 0


def test_two_tries_with_the_same_messages_commit_them_once(warehouse: Path) -> None:
    """The broker gave a slow try's messages to another one; both commit."""
    deliveries = [Delivery(Message(str(number), json.dumps({"id": number}).encode()), number) for number in range(10)]
    slow, fast = FakeBroker(deliveries), FakeBroker(deliveries)

    def overtaken(message: Message) -> Any:
        if message.id == "0":
            load(fast, key="fast")
        return message.json()

    with pytest.raises(RunFailed, match="has committed messages of it in the meantime"):
        load(slow, overtaken, key="slow")

    assert ids_in(warehouse) == list(range(10))
    assert (len(fast.acknowledged), slow.acknowledged) == (10, [])


def test_failed_items_are_dead_letters_and_done(queue: Queue, warehouse: Path) -> None:
    queue.publish(*range(10))

    def stage(message: Message) -> Any:
        if message.json()["id"] == 3:
            raise ValueError("poison")
        return message.json()

    load(queue.broker(), stage, tolerance=1)

    assert ids_in(warehouse) == [0, 1, 2, 4, 5, 6, 7, 8, 9]
    assert queue.waiting() == 0
    with closing(sqlite3.connect(warehouse)) as connection:
        assert connection.execute("SELECT position, cause FROM orders__dead_letters").fetchall()[0][0] == 3


class FakeBroker(Broker):
    """Keeps the protocol, and nothing else."""

    def __init__(self, deliveries: Sequence[Delivery]) -> None:
        self.deliveries = list(deliveries)
        self.acknowledged: list[Any] = []
        self.is_open = False

    def name(self) -> str:
        return "fake"

    def open(self) -> None:
        self.is_open = True

    def pull(self, most: int, seconds: float) -> Sequence[Delivery]:
        taken, self.deliveries = self.deliveries[: min(most, 7)], self.deliveries[min(most, 7) :]
        return taken

    def acknowledge(self, deliveries: Sequence[Delivery]) -> None:
        self.acknowledged += [each.receipt for each in deliveries]

    def close(self) -> None:
        self.is_open = False


def test_message_that_comes_twice_while_under_way_is_one_item() -> None:
    """Its newest delivery is the one that counts: brokers forget the older receipt."""
    message = Message("a", b"1")
    broker = FakeBroker(
        [Delivery(message, "first"), Delivery(message, "second"), Delivery(Message("b", b"2"), "other")]
    )
    sink = ListSink()

    Pipeline(QueueSource(broker, idle=0.01), [], sink).run()

    assert [row.id for row in sink.rows] == ["a", "b"]
    assert sorted(broker.acknowledged) == ["other", "second"]
    assert not broker.is_open


def test_messages_are_acknowledged_in_a_run_with_injected_faults_too() -> None:
    broker = FakeBroker([Delivery(Message(name, b"1"), name) for name in "ab"])
    stage = Stage(body, name="body", retry=Retry(2, backoff=0))
    pipeline = Pipeline(QueueSource(broker, idle=0.01), [stage], ListSink())

    report = FaultPlan(Fail("body", rate=1.0)).wrap(pipeline).run()

    assert (report.items_committed, report.stages[0].retried) == (2, 2)
    assert sorted(broker.acknowledged) == ["a", "b"]
    assert not broker.is_open


def test_message_under_way_that_keeps_coming_does_not_keep_the_source_going() -> None:
    """A broker that hides messages for less than ``idle`` brings those of the open chunk again and again."""

    class Forgetful(FakeBroker):
        def pull(self, most: int, seconds: float) -> Sequence[Delivery]:
            time.sleep(min(seconds, 0.01))
            return self.deliveries

    broker = Forgetful([Delivery(Message(name, b"1"), name) for name in "ab"])
    sink = ListSink()

    report = Pipeline(QueueSource(broker, idle=0.05, max_seconds=20), [], sink).run()

    assert [row.id for row in sink.rows] == ["a", "b"]
    assert report.seconds < 10


def test_message_that_comes_again_while_its_chunk_is_acknowledged_is_acknowledged_too() -> None:
    """Kept as one that is under way it never would be, and a source whose queue holds messages back never ended."""

    class Again:
        receipt = "again"
        looks = 0

        @property
        def message(self) -> Message:
            self.looks += 1
            if self.looks == 2:  # the source knows by now that it has this message, and is looking where
                source.acknowledge(range(1))  # as the sink does, on its own thread
            return Message("a", b"1")

    again: Any = Again()
    broker = FakeBroker([Delivery(Message("a", b"1"), "first"), again])
    source = QueueSource(broker, idle=0.01)
    source.prepare()

    assert [message.id for message in source] == ["a"]
    assert again.looks == 2
    assert broker.acknowledged == ["first", "again"]


@pytest.mark.parametrize("slow", ["commit", "acknowledgement"])
def test_messages_held_back_until_a_commit_that_takes_longer_than_idle_are_waited_for(slow: str) -> None:
    """FIFO queues give no message of a group while an earlier one is not acknowledged."""

    class Ordered(FakeBroker):
        asked = threading.Semaphore(0)

        def withholds(self) -> bool:
            return True

        def pull(self, most: int, seconds: float) -> Sequence[Delivery]:
            self.asked.release()
            given = 3 - len(self.deliveries)
            if len(self.acknowledged) < given:
                time.sleep(seconds)
                return []
            return [self.deliveries.pop(0)] if self.deliveries else []

        def acknowledge(self, deliveries: Sequence[Delivery]) -> None:
            dawdle("acknowledgement")
            super().acknowledge(deliveries)

    class SlowSink(ListSink):
        def commit(self, chunk: ChunkResult) -> int:
            dawdle("commit")
            return super().commit(chunk)

    def dawdle(where: str) -> None:
        for _ in range(4 if where == slow else 0):  # until the source has found nothing, more than once
            assert broker.asked.acquire(timeout=10)

    broker = Ordered([Delivery(Message(name, b"1"), name) for name in "abc"])
    sink = SlowSink()

    Pipeline(QueueSource(broker, idle=0.01), [], sink, chunk_size=1).run()

    assert [row.id for row in sink.rows] == ["a", "b", "c"]
    assert broker.acknowledged == ["a", "b", "c"]


def test_idle_seconds_count_from_the_acknowledgement_of_what_held_messages_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """However long a commit took: what it held back is given as much time as any other message."""
    clock = SimpleNamespace(now=1000.0)
    clock.monotonic = lambda: clock.now
    monkeypatch.setattr(queue_source, "time", clock)
    waits: list[float] = []
    source: QueueSource

    class Ordered(FakeBroker):
        def withholds(self) -> bool:
            return True

        def pull(self, most: int, seconds: float) -> Sequence[Delivery]:
            waits.append(seconds)
            if len(waits) == 2:  # the commit comes at last
                clock.now += 60
                source.acknowledge(range(1))
                return []
            clock.now += seconds
            return super().pull(most, seconds)

    source = QueueSource(Ordered([Delivery(Message("a", b"1"), "a")]), idle=0.5)
    source.prepare()
    source.set_chunk_size(1)

    assert [message.id for message in source] == ["a"]
    assert waits[:3] == [0.5, 0.5, 0.5], "to be taken, until its commit, and after it"


def test_open_chunk_does_not_keep_a_source_that_holds_messages_back_going() -> None:
    """What would complete the chunk comes only after its commit: the run ends with what it has."""

    class Ordered(FakeBroker):
        def withholds(self) -> bool:
            return True

    broker = Ordered([Delivery(Message(name, b"1"), name) for name in "ab"])
    sink = ListSink()

    report = Pipeline(QueueSource(broker, idle=0.05, max_seconds=20), [], sink, chunk_size=3).run()

    assert [row.id for row in sink.rows] == ["a", "b"]
    assert report.seconds < 10


def test_broker_is_closed_when_the_run_cannot_begin() -> None:
    broker = FakeBroker([])

    with pytest.raises(PlanError, match="absent"):
        Pipeline(QueueSource(broker), [], SinkTable("t", conn_id="absent")).run()

    assert not broker.is_open


def test_broker_is_closed_when_the_table_cannot_be() -> None:
    class Stuck(ListSink):
        def close(self) -> None:
            raise ConnectionError("gone")

    broker = FakeBroker([])
    broker.open()

    with pytest.raises(ConnectionError, match="gone"):
        QueueSource(broker).wrap_sink(Stuck()).close()

    assert not broker.is_open


def test_source_that_was_used_before_knows_nothing_of_the_run_that_failed() -> None:
    deliveries = [Delivery(Message(name, b"1"), name) for name in "ab"]
    source = QueueSource(FakeBroker(deliveries), idle=0.01)

    def broken(message: Message) -> Any:
        raise ValueError("not today")

    with pytest.raises(RunFailed, match="not today"):
        Pipeline(source, [Stage(broken)], ListSink(), chunk_size=1).run()
    source.broker = FakeBroker(deliveries)
    sink = ListSink()
    Pipeline(source, [], sink, chunk_size=1).run()

    assert [row.id for row in sink.rows] == ["a", "b"]
    assert source.broker.acknowledged == ["a", "b"]


def test_rabbit_message_without_an_id_is_refused(warehouse: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_BROKER_RABBIT", json.dumps(RABBIT))
    queue = RabbitTestQueue()
    try:
        queue.channel.basic_publish("", queue.name, b"{}")
        with pytest.raises(RunFailed, match="a message has no message_id"):
            load(queue.broker())
        queue.wait_until_deliverable(1)
    finally:
        queue.drop()


def test_queue_that_can_no_longer_be_read_is_named() -> None:
    class Broken(FakeBroker):
        def pull(self, most: int, seconds: float) -> Any:
            raise OSError("gone away")

    source = QueueSource(Broken([]), idle=0.01)
    source.prepare()

    with pytest.raises(SourceError, match=rf"{source.identity()}: cannot be read \(OSError: gone away\)"):
        list(source)


def test_host_that_is_not_there_is_named_with_its_queue(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_NOWHERE", json.dumps({"conn_type": "amqp", "host": "no-such-host.invalid"}))

    with pytest.raises(SourceError, match="rabbitmq nowhere/orders: cannot connect"):
        RabbitQueue("orders", conn_id="nowhere").open()


def test_queue_that_is_not_there_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_BROKER_RABBIT", json.dumps(RABBIT))
    monkeypatch.setenv("AIRFLOW_CONN_NOBODY", json.dumps({**REDIS, "port": 1}))

    broker = RabbitQueue("absent", conn_id="broker_rabbit")
    with pytest.raises(PlanError, match="the server has no such queue"):
        broker.open()
    lines = [
        each for each in psutil.Process().net_connections("tcp") if each.raddr and each.raddr.port == RABBIT["port"]
    ]
    assert lines == [], "it is not kept open"
    with pytest.raises(SourceError, match="cannot connect"):
        RedisStream("x", group="y", conn_id="nobody").open()


def test_redis_stream_without_a_body_is_json_of_its_fields(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_BROKER_REDIS", json.dumps(REDIS))
    queue = RedisQueue()
    sink = ListSink()
    try:
        queue.client.xadd(queue.name, {"id": "7", "name": "x"})
        Pipeline(QueueSource(queue.broker(), idle=0.05), [], sink).run()
    finally:
        queue.drop()

    assert [row.json() for row in sink.rows] == [{"id": "7", "name": "x"}]


@pytest.mark.parametrize(
    ("make", "field"),
    [
        (lambda: QueueSource("orders"), r"QueueSource\.broker"),
        (lambda: QueueSource(FakeBroker([]), idle=-1), r"QueueSource\.idle"),
        (lambda: QueueSource(FakeBroker([]), max_items=0), r"QueueSource\.max_items"),
        (lambda: RedisStream("", group="g"), r"RedisStream\.stream"),
        (lambda: RabbitQueue("q", conn_id=""), r"RabbitQueue\.conn_id"),
        (lambda: SqsQueue(""), r"SqsQueue\.url"),
    ],
)
def test_declaration_is_checked(make: Any, field: str) -> None:
    with pytest.raises(PlanError, match=field):
        make()
