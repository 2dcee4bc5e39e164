"""What SQS and Pub/Sub have in common: a message that was delivered is hidden for a while, then comes again."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from typing import Any

from airflow_parallel_provider.errors import SourceError
from airflow_parallel_provider.sources.queue.broker import Broker, Delivery

_LONGEST_PULL = 2.0
"""Seconds that closing waits for a pull which is under way: it would be given what is given back."""

log = logging.getLogger(__name__)


class LeasingBroker(Broker):
    """A broker that lends its messages: it keeps the receipts of those that are out and gives them back on closing.

    Otherwise a retry that comes before the messages are seen again would find an empty queue, and end with success.
    """

    def __init__(self) -> None:
        self._client: Any = None
        self._pulling = threading.Lock()
        self._lock = threading.Lock()
        self._out: dict[str, str] = {}  # message id -> its newest receipt

    def receive(self, client: Any, most: int, seconds: float) -> Sequence[Delivery]:
        """As :meth:`pull`, with an open client."""
        raise NotImplementedError

    def settle(self, client: Any, deliveries: Sequence[Delivery]) -> None:
        """As :meth:`acknowledge`, with an open client."""
        raise NotImplementedError

    def release(self, client: Any, receipts: Sequence[str]) -> None:
        """Have these messages delivered again at once. A few seconds at most; any error is only noted."""
        raise NotImplementedError

    def pull(self, most: int, seconds: float) -> Sequence[Delivery]:
        """Receive messages.

        :raises SourceError: when the queue cannot be read.
        """
        with self._pulling:
            found = self.receive(self._opened(), most, seconds)
            with self._lock:
                self._out.update((each.message.id, each.receipt) for each in found)
        return found

    def acknowledge(self, deliveries: Sequence[Delivery]) -> None:
        """Settle them. What the broker refuses to settle is not given back either: it is committed."""
        try:
            self.settle(self._opened(), deliveries)
        finally:
            with self._lock:
                for each in deliveries:
                    self._out.pop(each.message.id, None)

    def close(self) -> None:
        """Give back what was not acknowledged, and disconnect."""
        with self._lock:
            client, self._client = self._client, None
        if client is None:
            return
        waited = self._pulling.acquire(timeout=_LONGEST_PULL)
        try:
            with self._lock:
                receipts, self._out = list(self._out.values()), {}
            if receipts:
                self.release(client, receipts)
        except Exception as error:  # noqa: BLE001  # they come again by themselves, later
            text = "%s: %d messages come again only when the broker's own time is over (%s: %s)"
            log.info(text, self.name(), len(receipts), type(error).__name__, error)
        finally:
            client.close()
            if waited:
                self._pulling.release()

    def _connect(self, client: Any) -> None:
        """From now on this client is used."""
        with self._lock:
            self._out = {}
            self._client = client

    def _opened(self) -> Any:
        client = self._client
        if client is None:
            raise SourceError(f"{self.name()}: it is closed")
        return client
