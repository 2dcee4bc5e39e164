"""A RabbitMQ queue."""

from __future__ import annotations

import logging
import ssl
import threading
from collections.abc import Sequence
from typing import Any

from airflow_parallel_provider.checks import check_text
from airflow_parallel_provider.connections import get_connection
from airflow_parallel_provider.errors import PlanError, SourceError
from airflow_parallel_provider.sources.queue.broker import Broker, Delivery
from airflow_parallel_provider.values.items import Message


class RabbitQueue(Broker):
    """A queue of RabbitMQ. Needs the extra ``rabbitmq`` (pika).

    The id of a message is its property ``message_id``, which whoever publishes it must set: RabbitMQ has none of its
    own, and without one a message that comes again could not be told from a new one.

    :param queue: name of a queue that is there.
    :param conn_id: Airflow connection of any type: host, port, login, password; its schema is the virtual host, and
        ``{"ssl": true}`` in its extra asks for TLS, with the certificates this machine trusts.
    :param heartbeat: seconds between two signs of life, in which the server would notice that the task has died.
    """

    def __init__(self, queue: str, *, conn_id: str, heartbeat: int = 60) -> None:
        check_text("RabbitQueue.queue", queue)
        check_text("RabbitQueue.conn_id", conn_id)
        self.queue = queue
        self.conn_id = conn_id
        self.heartbeat = heartbeat
        self._connection: Any = None
        self._channel: Any = None
        self._lock = threading.Lock()  # pika's connection is for one thread at a time
        self._closed = threading.Event()

    def name(self) -> str:
        """Connection and queue."""
        return f"rabbitmq {self.conn_id}/{self.queue}"

    def open(self) -> None:
        """Connect, and see that the queue is there."""
        try:
            import pika
            import pika.exceptions
        except ImportError:
            cure = "pika is not installed: pip install 'airflow-parallel-provider[rabbitmq]'"
            raise PlanError("RabbitQueue.conn_id", self.conn_id, cure) from None
        found = get_connection(self.conn_id, "RabbitQueue.conn_id")
        login = pika.PlainCredentials(found.login or "guest", found.password or "guest")
        host, secure = found.host or "localhost", bool(found.extra_dejson.get("ssl"))
        parameters = pika.ConnectionParameters(
            host,
            found.port or (5671 if secure else 5672),
            found.schema or "/",
            login,
            heartbeat=self.heartbeat,
            ssl_options=pika.SSLOptions(ssl.create_default_context(), host) if secure else None,
        )
        if logging.getLogger("pika").level == logging.NOTSET:
            logging.getLogger("pika").setLevel(logging.WARNING)  # it writes half a page about every connection
        try:
            self._connection = pika.BlockingConnection(parameters)
            self._channel = self._connection.channel()
            self._channel.queue_declare(self.queue, passive=True)
        except pika.exceptions.ChannelClosedByBroker:
            self.close()
            raise PlanError("RabbitQueue.queue", self.queue, "the server has no such queue") from None
        except (pika.exceptions.AMQPError, OSError) as error:
            self.close()
            raise SourceError(f"{self.name()}: cannot connect ({type(error).__name__}: {error})") from error
        self._closed.clear()
        threading.Thread(target=self._keep_alive, name="rabbitmq-heartbeat", daemon=True).start()

    def _keep_alive(self) -> None:
        """Nobody may have anything to say for longer than the server waits."""
        while not self._closed.wait(self.heartbeat / 4):
            with self._lock:
                if self._closed.is_set():
                    return
                try:
                    self._connection.process_data_events(0)
                except Exception:  # noqa: BLE001  # whoever uses the connection next will say so
                    return

    def pull(self, most: int, seconds: float) -> Sequence[Delivery]:
        """One message after the other, as long as there are some."""
        found: list[Delivery] = []
        waited = False
        while len(found) < most:
            with self._lock:
                method, properties, body = self._channel.basic_get(self.queue)
            if method is not None:
                found.append(self._delivery(method, properties, body))
            elif found or waited:
                break
            elif self._closed.wait(seconds):
                raise SourceError(f"{self.name()}: closed while it was read")
            else:
                waited = True
        return found

    def _delivery(self, method: Any, properties: Any, body: bytes) -> Delivery:
        if not properties.message_id:
            raise SourceError(
                f"{self.name()}: a message has no message_id: whoever publishes it must set this property, since "
                "nothing else tells a message that comes again from a new one"
            )
        headers = {str(key): str(value) for key, value in (properties.headers or {}).items()}
        return Delivery(Message(properties.message_id, body, headers), method.delivery_tag)

    def acknowledge(self, deliveries: Sequence[Delivery]) -> None:
        """basic.ack, and an answer of the server that it has come."""
        with self._lock:
            for each in deliveries:
                self._channel.basic_ack(each.receipt)
            self._channel.queue_declare(self.queue, passive=True)

    def close(self) -> None:
        """Disconnect."""
        self._closed.set()
        with self._lock:
            connection, self._connection, self._channel = self._connection, None, None
            if connection is not None and connection.is_open:
                connection.close()
