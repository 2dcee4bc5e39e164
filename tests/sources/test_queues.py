"""``QueueSource`` on a real Redis and a real RabbitMQ: nothing lost, nothing twice, acknowledged after the commit."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any
from uuid import uuid4

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
    RunFailed,
    SinkTable,
    Stage,
)
from airflow_parallel_provider.errors import SourceError
from airflow_parallel_provider.sources.brokers import Delivery
from airflow_parallel_provider.sources.cloud_brokers import PubSubSubscription, SqsQueue

pytestmark = pytest.mark.airflow

REDIS = {"conn_type": "redis", "host": "127.0.0.1", "port": 6379}
RABBIT = {"conn_type": "amqp", "host": "127.0.0.1", "port": 5672, "login": "guest", "password": "guest"}


class Queue:
    """A queue on a real server, as the test sees it."""

    def __init__(self) -> None:
        self.name = f"parallel-tests-{uuid4().hex[:12]}"

    def broker(self) -> Broker:
        raise NotImplementedError

    def publish(self, *numbers: int) -> None:
        raise NotImplementedError

    def waiting(self) -> int:
        """Messages that are not acknowledged."""
        raise NotImplementedError

    def drop(self) -> None:
        raise NotImplementedError


class RedisQueue(Queue):
    def __init__(self) -> None:
        super().__init__()
        import redis

        self.client = redis.Redis()
        try:
            self.client.ping()
        except redis.RedisError:
            pytest.skip("no Redis answers on 127.0.0.1:6379")

    def broker(self) -> Broker:
        return RedisStream(self.name, group="loader", conn_id="broker_redis")

    def publish(self, *numbers: int) -> None:
        for number in numbers:
            self.client.xadd(self.name, {"body": json.dumps({"id": number}), "kind": "order"})

    def waiting(self) -> int:
        (group,) = self.client.xinfo_groups(self.name)
        return int(group["pending"]) + int(group["lag"] or 0)

    def drop(self) -> None:
        self.client.delete(self.name)
        self.client.close()


class RabbitTestQueue(Queue):
    def __init__(self) -> None:
        super().__init__()
        import pika
        import pika.exceptions

        try:
            self.connection = pika.BlockingConnection(pika.ConnectionParameters("127.0.0.1"))
        except pika.exceptions.AMQPError:
            pytest.skip("no RabbitMQ answers on 127.0.0.1:5672")
        self.channel = self.connection.channel()
        self.channel.queue_declare(self.name)

    def broker(self) -> Broker:
        return RabbitQueue(self.name, conn_id="broker_rabbit")

    def publish(self, *numbers: int) -> None:
        import pika

        for number in numbers:
            properties = pika.BasicProperties(message_id=f"{self.name}-{number}", headers={"kind": "order"})
            self.channel.basic_publish("", self.name, json.dumps({"id": number}), properties)

    def waiting(self) -> int:
        return int(self.channel.queue_declare(self.name, passive=True).method.message_count)

    def drop(self) -> None:
        self.channel.queue_delete(self.name)
        self.connection.close()


@pytest.fixture(params=[RedisQueue, RabbitTestQueue], ids=["redis", "rabbitmq"])
def queue(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Queue]:
    """An empty queue."""
    monkeypatch.setenv("AIRFLOW_CONN_BROKER_REDIS", json.dumps(REDIS))
    monkeypatch.setenv("AIRFLOW_CONN_BROKER_RABBIT", json.dumps(RABBIT))
    made = request.param()
    yield made
    made.drop()


@pytest.fixture
def warehouse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    file = tmp_path / "warehouse.db"
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", json.dumps({"conn_type": "sqlite", "host": str(file)}))
    return file


def ids_in(file: Path) -> list[int]:
    with closing(sqlite3.connect(file)) as connection:
        return [row[0] for row in connection.execute("SELECT id FROM orders ORDER BY id")]


def body(message: Message) -> Any:
    return message.json()


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
    is_redis = isinstance(queue, RedisQueue)
    kind = (
        "RedisStream(name, group='loader', conn_id='broker_redis')"
        if is_redis
        else "RabbitQueue(name, conn_id='broker_rabbit')"
    )
    script = textwrap.dedent(f"""
        import os, signal
        from airflow_parallel_provider import Pipeline, QueueSource, RabbitQueue, RedisStream, SinkTable, Stage

        class Deadly(QueueSource):
            def acknowledge(self, positions):
                if positions.start == 20:
                    os.kill(os.getpid(), signal.SIGKILL)
                super().acknowledge(positions)

        name = {queue.name!r}
        source = Deadly({kind}, idle=0.05)
        stages = [Stage(lambda message: message.json())]
        sink = SinkTable("orders", conn_id="warehouse")
        Pipeline(source, stages, sink, chunk_size=10, ordered=True, load_key="nightly").run()
    """)
    died = subprocess.run([sys.executable, "-c", script], check=False, env={**os.environ}, timeout=50)
    assert died.returncode == -signal.SIGKILL
    assert len(ids_in(warehouse)) == 30

    wait_until_back(queue, 30)
    load(queue.broker())

    assert ids_in(warehouse) == list(range(50))
    assert queue.waiting() == 0


def wait_until_back(queue: Queue, messages: int) -> None:
    """RabbitMQ gives messages back when it notices that their reader has gone."""
    import time

    deadline = time.monotonic() + 20
    while queue.waiting() != messages and time.monotonic() < deadline:
        time.sleep(0.02)
    assert queue.waiting() == messages


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


def test_broker_is_closed_when_the_run_cannot_begin() -> None:
    broker = FakeBroker([])

    with pytest.raises(PlanError, match="absent"):
        Pipeline(QueueSource(broker), [], SinkTable("t", conn_id="absent")).run()

    assert not broker.is_open


def test_rabbit_message_without_an_id_is_refused(warehouse: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_BROKER_RABBIT", json.dumps(RABBIT))
    queue = RabbitTestQueue()
    try:
        queue.channel.basic_publish("", queue.name, b"{}")
        with pytest.raises(RunFailed, match="a message has no message_id"):
            load(queue.broker())
        wait_until_back(queue, 1)
    finally:
        queue.drop()


def test_queue_that_is_not_there_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_BROKER_RABBIT", json.dumps(RABBIT))
    monkeypatch.setenv("AIRFLOW_CONN_NOBODY", json.dumps({**REDIS, "port": 1}))

    with pytest.raises(PlanError, match="the server has no such queue"):
        RabbitQueue("absent", conn_id="broker_rabbit").open()
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


class FakeSqs:
    """What boto3's client answers."""

    def __init__(self) -> None:
        self.deleted: list[str] = []
        self.left = [{"MessageId": f"m{n}", "Body": f"{n}", "ReceiptHandle": f"r{n}"} for n in range(23)]

    def receive_message(self, *, MaxNumberOfMessages: int, WaitTimeSeconds: int, **_: Any) -> Any:
        assert 1 <= MaxNumberOfMessages <= 10
        assert 1 <= WaitTimeSeconds <= 20
        taken, self.left = self.left[:MaxNumberOfMessages], self.left[MaxNumberOfMessages:]
        return {"Messages": taken} if taken else {}

    def delete_message_batch(self, *, Entries: Any, **_: Any) -> Any:
        assert 1 <= len(Entries) <= 10
        self.deleted += [each["ReceiptHandle"] for each in Entries]
        return {}


def test_sqs_protocol(monkeypatch: pytest.MonkeyPatch) -> None:
    broker, client = SqsQueue("https://sqs.example/orders"), FakeSqs()
    monkeypatch.setattr(broker, "open", lambda: setattr(broker, "_client", client))
    sink = ListSink()

    Pipeline(QueueSource(broker, idle=0.01), [Stage(body)], sink, ordered=True).run()

    assert sink.rows == list(range(23))
    assert sorted(client.deleted) == sorted(f"r{n}" for n in range(23))


def test_pubsub_protocol(monkeypatch: pytest.MonkeyPatch) -> None:
    from types import SimpleNamespace

    class FakeHook:
        def __init__(self) -> None:
            self.left = [
                SimpleNamespace(
                    ack_id=f"a{n}", message=SimpleNamespace(message_id=f"m{n}", data=b"%d" % n, attributes={})
                )
                for n in range(5)
            ]
            self.acked: list[str] = []

        def pull(self, *, max_messages: int, **_: Any) -> Any:
            taken, self.left = self.left[:max_messages], self.left[max_messages:]
            return taken

        def acknowledge(self, *, ack_ids: list[str], **_: Any) -> None:
            self.acked += ack_ids

    broker, hook = PubSubSubscription("orders", project="shop"), FakeHook()
    monkeypatch.setattr(broker, "open", lambda: setattr(broker, "_hook", hook))
    sink = ListSink()

    Pipeline(QueueSource(broker, idle=0.01), [Stage(body)], sink, ordered=True).run()

    assert sink.rows == list(range(5))
    assert sorted(hook.acked) == [f"a{n}" for n in range(5)]


@pytest.mark.parametrize("broker", [SqsQueue("https://x"), PubSubSubscription("x", project="y")])
def test_missing_provider_says_what_to_install(broker: Broker) -> None:
    with pytest.raises(PlanError, match="pip install apache-airflow-providers-"):
        broker.open()


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
