# SPDX-License-Identifier: Apache-2.0
"""The base of SQS and Pub/Sub, which hide a delivered message for a while and then deliver it again."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from typing import Any

from airflow_parallel_provider.errors import SourceError
from airflow_parallel_provider.sources.queue.broker import Broker, Delivery

_LONGEST_PULL = 2.0
"""Seconds that closing waits for a running pull, which would otherwise receive the released messages."""

log = logging.getLogger(__name__)


class LeasingBroker(Broker):
    """A broker that leases its messages. It keeps the receipts of leased messages and releases them when it closes.

    Otherwise a retry that starts before the leases end would find an empty queue, and end with success.
    """

    def __init__(self) -> None:
        self._client: Any = None
        self._pulling = threading.Lock()
        self._lock = threading.Lock()
        self._leased: dict[str, str] = {}  # message id -> its newest receipt

    def receive(self, client: Any, most: int, seconds: float) -> Sequence[Delivery]:
        """:meth:`pull` with an open client."""
        raise NotImplementedError

    def settle(self, client: Any, deliveries: Sequence[Delivery]) -> None:
        """:meth:`acknowledge` with an open client."""
        raise NotImplementedError

    def release(self, client: Any, receipts: Sequence[str]) -> None:
        """Let the broker deliver these messages again at once. Takes a few seconds at most; errors are only logged."""
        raise NotImplementedError

    def pull(self, most: int, seconds: float) -> Sequence[Delivery]:
        """Receive messages.

        :raises SourceError: when the queue cannot be read.
        """
        with self._pulling:
            found = self.receive(self._opened(), most, seconds)
            with self._lock:
                self._leased.update((each.message.id, each.receipt) for each in found)
        return found

    def acknowledge(self, deliveries: Sequence[Delivery]) -> None:
        """Acknowledge messages. None of them is released later, even if this fails: they are committed."""
        try:
            self.settle(self._opened(), deliveries)
        finally:
            with self._lock:
                for each in deliveries:
                    self._leased.pop(each.message.id, None)

    def close(self) -> None:
        """Release the messages without acknowledgment, and disconnect."""
        with self._lock:
            client, self._client = self._client, None
        if client is None:
            return
        waited = self._pulling.acquire(timeout=_LONGEST_PULL)
        try:
            with self._lock:
                receipts, self._leased = list(self._leased.values()), {}
            if receipts:
                self.release(client, receipts)
        except Exception as error:  # noqa: BLE001  # the broker delivers them again anyway, later
            text = "%s: %d messages are delivered again only after the broker's own timeout (%s: %s)"
            log.info(text, self.name(), len(receipts), type(error).__name__, error)
        finally:
            client.close()
            if waited:
                self._pulling.release()

    def _connect(self, client: Any) -> None:
        """Use this client from now on."""
        with self._lock:
            self._leased = {}
            self._client = client

    def _opened(self) -> Any:
        client = self._client
        if client is None:
            raise SourceError(f"{self.name()}: the queue is closed")
        return client
