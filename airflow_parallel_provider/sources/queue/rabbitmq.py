# SPDX-License-Identifier: Apache-2.0
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

    The id of a message is its property ``message_id``, which the publisher must set: RabbitMQ assigns none, and without
    it a message that is delivered again could not be told from a new one.

    :param queue: name of an existing queue.
    :param conn_id: Airflow connection of any type: host, port, login, password; its schema is the virtual host, and
        ``{"ssl": true}`` in its extra turns TLS on, with the certificates that this machine trusts.
    :param heartbeat: seconds between two heartbeats, by which the server notices that the task has died.
    """

    def __init__(self, queue: str, *, conn_id: str, heartbeat: int = 60) -> None:
        check_text("RabbitQueue.queue", queue)
        check_text("RabbitQueue.conn_id", conn_id)
        self.queue = queue
        self.conn_id = conn_id
        self.heartbeat = heartbeat
        self._connection: Any = None
        self._channel: Any = None
        self._lock = threading.Lock()  # pika's connection is not thread-safe
        self._closed = threading.Event()

    def name(self) -> str:
        """Connection and queue."""
        return f"rabbitmq {self.conn_id}/{self.queue}"

    def open(self) -> None:
        """Connect, and check that the queue exists.

        :raises PlanError: when pika, the connection or the queue is missing.
        :raises SourceError: when the server cannot be reached.
        """
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
            logging.getLogger("pika").setLevel(logging.WARNING)  # at INFO it logs half a page for each connection
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
        """Send heartbeats, also while no message is pulled or acknowledged."""
        while not self._closed.wait(self.heartbeat / 4):
            with self._lock:
                if self._closed.is_set():
                    return
                try:
                    self._connection.process_data_events(0)
                except Exception:  # noqa: BLE001  # the next call that uses the connection raises it
                    return

    def pull(self, most: int, seconds: float) -> Sequence[Delivery]:
        """Receive one message after the other, until the queue has no more.

        :raises SourceError: when the broker is closed meanwhile, or a message has no ``message_id``.
        """
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
                raise SourceError(f"{self.name()}: the queue was closed during a pull")
            else:
                waited = True
        return found

    def _delivery(self, method: Any, properties: Any, body: bytes) -> Delivery:
        if not properties.message_id:
            raise SourceError(
                f"{self.name()}: a message has no message_id: the publisher must set this property, since without it a "
                "message that is delivered again cannot be told from a new one"
            )
        headers = {str(key): str(value) for key, value in (properties.headers or {}).items()}
        return Delivery(Message(properties.message_id, body, headers), method.delivery_tag)

    def acknowledge(self, deliveries: Sequence[Delivery]) -> None:
        """Send basic.ack, and wait for a response of the server, which confirms that it has arrived."""
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
