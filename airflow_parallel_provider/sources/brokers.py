"""Message brokers as :class:`QueueSource` sees them, and two of them: Redis streams and RabbitMQ."""

from __future__ import annotations

import json
import logging
import ssl
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from airflow_parallel_provider.errors import PlanError, SourceError
from airflow_parallel_provider.sinks.database import look_up, quiet_copy
from airflow_parallel_provider.sources.checks import check_text


@dataclass(frozen=True, slots=True)
class Message:
    """One message, as an item."""

    id: str
    """The same whenever it is delivered."""
    body: bytes
    attributes: Mapping[str, str] = field(default_factory=dict)

    def text(self, encoding: str = "utf-8") -> str:
        """The body as text."""
        return self.body.decode(encoding)

    def json(self) -> Any:
        """The body, which is JSON."""
        return json.loads(self.body)


@dataclass(frozen=True, slots=True)
class Delivery:
    """A message, and what the broker wants to hear when it is done."""

    message: Message
    receipt: Any


class Broker:
    """What a queue must be able to do. Subclass it for another one.

    ``open`` runs on the thread that called ``run`` (in Airflow the task's main thread), ``pull`` on the source's thread
    and ``acknowledge`` on the sink's: an implementation whose client is not made for several threads locks.
    """

    def name(self) -> str:
        """Names the queue: the ids of its messages are remembered under it."""
        raise NotImplementedError

    def open(self) -> None:
        """Connect. The only call that may talk to Airflow.

        :raises PlanError: when the connection or the queue is missing.
        """
        raise NotImplementedError

    def pull(self, most: int, seconds: float) -> Sequence[Delivery]:
        """Up to ``most`` messages; wait up to so many seconds for the first. Empty when none came."""
        raise NotImplementedError

    def acknowledge(self, deliveries: Sequence[Delivery]) -> None:
        """These are done: do not deliver them again."""
        raise NotImplementedError

    def withholds(self) -> bool:
        """Whether messages may be held back until earlier ones are acknowledged, as queues that keep an order do.

        Then that none comes does not mean that the queue is empty, as long as a chunk is under way.
        """
        return False

    def close(self) -> None:
        """Disconnect. What was pulled and not acknowledged is delivered again. May be called twice."""


class RedisStream(Broker):
    """A stream of Redis, read as a consumer group. Needs the extra ``redis``.

    The id of a message is its id in the stream. Its field ``body`` is the body, the others are attributes; without
    such a field the body is JSON of all fields.

    :param stream: key of the stream.
    :param group: the consumer group; made, from the stream's beginning on, when it is not there.
    :param conn_id: Airflow connection of type ``redis``.
    :param consumer: name within the group. Messages that a try under this name was given and did not acknowledge come
        first. Tasks that read the same group at the same time need different names.
    """

    def __init__(
        self, stream: str, *, group: str, conn_id: str = "redis_default", consumer: str = "airflow-parallel-provider"
    ) -> None:
        for name, value in (("stream", stream), ("group", group), ("conn_id", conn_id), ("consumer", consumer)):
            check_text(f"RedisStream.{name}", value)
        self.stream = stream
        self.group = group
        self.conn_id = conn_id
        self.consumer = consumer
        self._client: Any = None
        self._pending_from: str | None = "0"

    def name(self) -> str:
        """Connection and stream."""
        return f"redis {self.conn_id}/{self.stream}"

    def open(self) -> None:
        """Connect, and make the group when it is not there."""
        try:
            import redis
            from airflow.providers.redis.hooks.redis import RedisHook
        except ImportError:
            cure = "the Redis provider is not installed: pip install 'airflow-parallel-provider[redis]'"
            raise PlanError("RedisStream.conn_id", self.conn_id, cure) from None
        connection = quiet_copy(look_up(self.conn_id, "RedisStream.conn_id"))
        hook: Any = RedisHook(redis_conn_id=self.conn_id)
        hook.get_connection = lambda _conn_id=None: connection
        self._client = hook.get_conn()
        self._pending_from = "0"
        try:
            self._client.xgroup_create(self.stream, self.group, id="0", mkstream=True)
        except redis.ResponseError as error:
            if "BUSYGROUP" not in str(error):
                raise SourceError(f"{self.name()}: {error}") from error
        except redis.RedisError as error:
            raise SourceError(f"{self.name()}: cannot connect ({type(error).__name__}: {error})") from error

    def pull(self, most: int, seconds: float) -> Sequence[Delivery]:
        """First what this consumer was given before and did not acknowledge, then what is new."""
        if self._pending_from is not None:
            found = self._read(self._pending_from, most, None)
            if found:
                self._pending_from = found[-1].receipt
                # An entry that was deleted from the stream is still pending, without its fields.
                gone = [each for each in found if each.message.attributes is _GONE]
                if gone:
                    self.acknowledge(gone)
                return [each for each in found if each.message.attributes is not _GONE]
            self._pending_from = None
        return self._read(">", most, max(1, int(seconds * 1000)))

    def _read(self, start: str, most: int, block: int | None) -> list[Delivery]:
        answer = self._client.xreadgroup(self.group, self.consumer, {self.stream: start}, count=most, block=block)
        streams = answer.items() if isinstance(answer, Mapping) else (answer or ())
        found = []
        for _, entries in streams:
            # The newer protocol of Redis wraps the entries once more.
            listed = entries[0] if entries and isinstance(entries[0], list) else entries
            found += [_of_redis(entry_id, fields) for entry_id, fields in listed]
        return found

    def acknowledge(self, deliveries: Sequence[Delivery]) -> None:
        """XACK."""
        self._client.xack(self.stream, self.group, *[each.receipt for each in deliveries])

    def close(self) -> None:
        """Disconnect."""
        client, self._client = self._client, None
        if client is not None:
            client.close()


_GONE: Mapping[str, str] = {"gone": "true"}


def _of_redis(entry_id: Any, fields: Mapping[Any, Any] | None) -> Delivery:
    name = _text(entry_id)
    if not fields:
        return Delivery(Message(name, b"", _GONE), name)
    texts = {_text(key): value for key, value in fields.items()}
    body = texts.pop("body", None)
    attributes = {key: _text(value) for key, value in texts.items()}
    if body is None:
        return Delivery(Message(name, json.dumps(attributes).encode()), name)
    return Delivery(Message(name, body if isinstance(body, bytes) else str(body).encode(), attributes), name)


def _text(value: Any) -> str:
    return value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else str(value)


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
        found = look_up(self.conn_id, "RabbitQueue.conn_id")
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
