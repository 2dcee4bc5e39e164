"""Queues on the servers that :class:`QueueSource` is tested with, as a test sees them.

Redis and RabbitMQ are real servers. SQS is a moto server and Pub/Sub a server of our own; real are the hooks of the
Airflow providers and the client libraries that talk to them.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, ClassVar, TypeVar
from uuid import uuid4

import pytest

import airflow_parallel_provider
from airflow_parallel_provider import Broker, Message
from tests.support import cloud, pubsub_server
from tests.support.services import missing

REDIS = {"conn_type": "redis", "host": "127.0.0.1", "port": 6379}
RABBIT = {"conn_type": "amqp", "host": "127.0.0.1", "port": 5672, "login": "guest", "password": "guest"}
GOOGLE = {"conn_type": "google_cloud_platform", "extra": {"is_anonymous": True, "project": "shop"}}

CLOUD_TIMEOUT = 600
"""Seconds a cloud hides a message that it has delivered: longer than any run here. No test waits for their end."""


class Queue:
    """A queue, made for one test."""

    made: ClassVar[str]
    """Python that makes the broker of the queue ``name``."""

    def __init__(self) -> None:
        self.name = f"parallel-tests-{uuid4().hex[:12]}"

    def connections(self) -> dict[str, Any]:
        """Airflow connections by id."""
        raise NotImplementedError

    def environment(self) -> dict[str, str]:
        """Other variables that its client needs."""
        return {}

    def broker(self) -> Broker:
        """What reads it."""
        made: Broker = eval(self.made, {**_names(), "name": self.name})
        return made

    def publish(self, *numbers: int) -> None:
        """Put messages into it, ``{"id": number}`` with an attribute ``kind``."""
        raise NotImplementedError

    def waiting(self) -> int:
        """Messages that are not acknowledged."""
        raise NotImplementedError

    def deliverable(self) -> int:
        """Messages that a reader would be given now."""
        return self.waiting()

    def drop(self) -> None:
        """Remove it from its server."""
        raise NotImplementedError

    def let_come_again(self) -> None:
        """Messages of a reader that has gone come again by themselves, in time; have that time pass now."""

    def wait_until_deliverable(self, messages: int) -> None:
        """Brokers give messages back when they notice that their reader has gone.

        A broker may serve the last request of a killed reader after its death: what it hands out then comes again, too.
        """
        deadline = time.monotonic() + 20
        while self.deliverable() != messages and time.monotonic() < deadline:
            time.sleep(0.02)
            self.let_come_again()
        assert self.deliverable() == messages


AnyQueue = TypeVar("AnyQueue", bound=Queue)


def _names() -> dict[str, Any]:
    kinds = ("RedisStream", "RabbitQueue", "SqsQueue", "PubSubSubscription")
    return {kind: getattr(airflow_parallel_provider, kind) for kind in kinds}


class RedisQueue(Queue):
    made = "RedisStream(name, group='loader', conn_id='broker_redis')"

    def __init__(self) -> None:
        super().__init__()
        import redis

        self.client = redis.Redis()
        try:
            self.client.ping()
        except redis.RedisError:
            missing("no Redis answers on 127.0.0.1:6379")

    def connections(self) -> dict[str, Any]:
        return {"broker_redis": REDIS}

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
    made = "RabbitQueue(name, conn_id='broker_rabbit')"

    def __init__(self) -> None:
        super().__init__()
        import pika
        import pika.exceptions

        try:
            self.connection = pika.BlockingConnection(pika.ConnectionParameters("127.0.0.1"))
        except pika.exceptions.AMQPError:
            missing("no RabbitMQ answers on 127.0.0.1:5672")
        self.channel = self.connection.channel()
        self.channel.queue_declare(self.name)

    def connections(self) -> dict[str, Any]:
        return {"broker_rabbit": RABBIT}

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


class SqsTestQueue(Queue):
    made = "SqsQueue(name, conn_id='broker_aws')"

    def __init__(self, *, hidden: int = CLOUD_TIMEOUT, **attributes: str) -> None:
        super().__init__()
        self.client = cloud.aws_client("sqs")
        settings = {"VisibilityTimeout": str(hidden), **attributes}
        name = self.name + (".fifo" if "FifoQueue" in settings else "")
        self.name = self.client.create_queue(QueueName=name, Attributes=settings)["QueueUrl"]

    def connections(self) -> dict[str, Any]:
        return {"broker_aws": cloud.aws_connection()}

    def publish(self, *numbers: int, **options: Any) -> None:
        for number in numbers:
            self.client.send_message(
                QueueUrl=self.name,
                MessageBody=json.dumps({"id": number}),
                MessageAttributes={
                    "kind": {"DataType": "String", "StringValue": "order"},
                    "number": {"DataType": "Number", "StringValue": str(number)},
                    "raw": {"DataType": "Binary", "BinaryValue": b"\x00"},
                },
                **options,
            )

    def _count(self, *names: str) -> int:
        names = tuple(f"ApproximateNumberOfMessages{name}" for name in names)
        answer = self.client.get_queue_attributes(QueueUrl=self.name, AttributeNames=list(names))
        return sum(int(answer["Attributes"][name]) for name in names)

    def waiting(self) -> int:
        return self._count("", "NotVisible")

    def deliverable(self) -> int:
        return self._count("")

    def let_come_again(self) -> None:
        cloud.let_messages_come_again(self.name)

    def delete(self) -> None:
        """As an administrator would, while a source reads it."""
        self.client.delete_queue(QueueUrl=self.name)

    def drop(self) -> None:
        with contextlib.suppress(self.client.exceptions.QueueDoesNotExist):
            self.delete()
        self.client.close()


class PubSubTestQueue(Queue):
    made = "PubSubSubscription(name, project='shop', conn_id='broker_google')"

    def __init__(self, *, hidden: int = CLOUD_TIMEOUT, ordered: bool = False) -> None:
        super().__init__()
        self._serving = pubsub_server.serving()
        self.server, self.address = self._serving.__enter__()
        self.topic, self.path = f"projects/shop/topics/{self.name}", f"projects/shop/subscriptions/{self.name}"
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("PUBSUB_EMULATOR_HOST", self.address)
            from google.cloud.pubsub_v1 import PublisherClient, SubscriberClient

            self.publisher = PublisherClient()
            self.publisher.create_topic(name=self.topic)
            with SubscriberClient() as subscriber:
                settings = {"name": self.path, "topic": self.topic, "ack_deadline_seconds": hidden}
                subscriber.create_subscription(request={**settings, "enable_message_ordering": ordered})

    def connections(self) -> dict[str, Any]:
        return {"broker_google": GOOGLE}

    def environment(self) -> dict[str, str]:
        return {"PUBSUB_EMULATOR_HOST": self.address}

    def publish(self, *numbers: int) -> None:
        for sent in [self.publisher.publish(self.topic, json.dumps({"id": n}).encode(), kind="order") for n in numbers]:
            sent.result(timeout=10)

    def waiting(self) -> int:
        return self.server.waiting(self.path)

    def deliverable(self) -> int:
        return self.server.deliverable(self.path)

    def let_come_again(self) -> None:
        self.server.let_come_again(self.path)

    def delete(self) -> None:
        """As an administrator would, while a source reads it."""
        self.server.forget(self.path)

    def drop(self) -> None:
        self.publisher.stop()
        self.publisher.transport.close()
        self._serving.__exit__(None, None, None)


KINDS = {"redis": RedisQueue, "rabbitmq": RabbitTestQueue, "sqs": SqsTestQueue, "pubsub": PubSubTestQueue}


@contextmanager
def announced(queue: AnyQueue, monkeypatch: pytest.MonkeyPatch) -> Iterator[AnyQueue]:
    """The queue, known to Airflow and to its client, and removed at the end."""
    for name, value in {**cloud.as_variables(**queue.connections()), **queue.environment()}.items():
        monkeypatch.setenv(name, value)
    try:
        yield queue
    finally:
        queue.drop()


def body(message: Message) -> Any:
    """A stage: what was published."""
    return message.json()


def ids_in(file: Path) -> list[int]:
    """What a load of a queue has put into the warehouse."""
    with closing(sqlite3.connect(file)) as connection:
        return [row[0] for row in connection.execute("SELECT id FROM orders ORDER BY id")]
