# SPDX-License-Identifier: Apache-2.0
"""A Redis stream, read as a consumer group."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from airflow_parallel_provider.checks import check_text
from airflow_parallel_provider.connections import get_connection, resolved_copy
from airflow_parallel_provider.errors import PlanError, SourceError
from airflow_parallel_provider.sources.queue.broker import Broker, Delivery
from airflow_parallel_provider.values.items import Message


class RedisStream(Broker):
    """A stream of Redis, read as a consumer group. Needs the extra ``redis``.

    The id of a message is its id in the stream. Its field ``body`` is the body, the others are attributes; without
    such a field the body is JSON of all fields.

    :param stream: key of the stream.
    :param group: the consumer group; if it does not exist, it is created at the beginning of the stream.
    :param conn_id: Airflow connection of type ``redis``.
    :param consumer: name within the group. Messages that an earlier try with this name received and did not acknowledge
        come first. Tasks that read the same group at the same time need different names.
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
        """Connect, and create the group if it does not exist.

        :raises PlanError: when the Redis provider or the connection is missing.
        :raises SourceError: when the server cannot be reached.
        """
        try:
            import redis
            from airflow.providers.redis.hooks.redis import RedisHook
        except ImportError:
            cure = "the Redis provider is not installed: pip install 'airflow-parallel-provider[redis]'"
            raise PlanError("RedisStream.conn_id", self.conn_id, cure) from None
        connection = resolved_copy(get_connection(self.conn_id, "RedisStream.conn_id"))
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
        """Receive first the messages that this consumer has received but not acknowledged, then new ones."""
        if self._pending_from is not None:
            found = self._read(self._pending_from, most, None)
            if found:
                self._pending_from = found[-1].receipt
                # An entry that was deleted from the stream is still pending, without its fields.
                deleted = [each for each in found if each.message.attributes is _DELETED]
                if deleted:
                    self.acknowledge(deleted)
                return [each for each in found if each.message.attributes is not _DELETED]
            self._pending_from = None
        return self._read(">", most, max(1, int(seconds * 1000)))

    def _read(self, start: str, most: int, block: int | None) -> list[Delivery]:
        response = self._client.xreadgroup(self.group, self.consumer, {self.stream: start}, count=most, block=block)
        streams = response.items() if isinstance(response, Mapping) else (response or ())
        found = []
        for _, entries in streams:
            # The newer protocol of Redis wraps the entries in another list.
            listed = entries[0] if entries and isinstance(entries[0], list) else entries
            found += [_delivery(entry_id, fields) for entry_id, fields in listed]
        return found

    def acknowledge(self, deliveries: Sequence[Delivery]) -> None:
        """Send XACK."""
        self._client.xack(self.stream, self.group, *[each.receipt for each in deliveries])

    def close(self) -> None:
        """Disconnect."""
        client, self._client = self._client, None
        if client is not None:
            client.close()


_DELETED: Mapping[str, str] = {"deleted": "true"}


def _delivery(entry_id: Any, fields: Mapping[Any, Any] | None) -> Delivery:
    name = _text(entry_id)
    if not fields:
        return Delivery(Message(name, b"", _DELETED), name)
    texts = {_text(key): value for key, value in fields.items()}
    body = texts.pop("body", None)
    attributes = {key: _text(value) for key, value in texts.items()}
    if body is None:
        return Delivery(Message(name, json.dumps(attributes).encode()), name)
    return Delivery(Message(name, body if isinstance(body, bytes) else str(body).encode(), attributes), name)


def _text(value: Any) -> str:
    return value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else str(value)
