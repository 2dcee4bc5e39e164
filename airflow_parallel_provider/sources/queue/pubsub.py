# SPDX-License-Identifier: Apache-2.0
"""Subscriptions of Google Pub/Sub for :class:`QueueSource`, through the hook of Airflow's Google provider."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from typing import Any

from airflow_parallel_provider.checks import check_text
from airflow_parallel_provider.connections import get_connection, resolved_copy
from airflow_parallel_provider.errors import PlanError, SourceError
from airflow_parallel_provider.sources.queue.broker import Delivery
from airflow_parallel_provider.sources.queue.leasing import LeasingBroker
from airflow_parallel_provider.values.items import Message

BATCH = 1000
"""Most messages of one request: an acknowledgment may have 512 KiB, and a receipt has about 200 bytes."""

_REQUEST_SECONDS, _PAUSE = 10.0, 0.5
"""Seconds that a request may take with all its attempts, and seconds between two attempts of a pull."""

_RELEASE_SECONDS = 2.0
"""Seconds that a request to release messages may take; a run sends it at its end."""


class PubSubSubscription(LeasingBroker):
    """A pull subscription of Google Pub/Sub. Needs ``apache-airflow-providers-google``.

    :param subscription: its name, without the project.
    :param project: the project's id.
    :param conn_id: Airflow connection of type ``google_cloud_platform``.

    Messages without acknowledgment are delivered again when the run ends. After a kill they are delivered again when
    their acknowledgment deadline has passed, so a retry should start only after that.

    Known limitations: a chunk must be committed within the subscription's acknowledgment deadline. Otherwise its
    messages are delivered again; with a ``SinkTable`` they are then skipped by their ids. A subscription with ordering
    delivers no further message of a key until the one before is acknowledged: use a small ``chunk_size``.
    """

    def __init__(self, subscription: str, *, project: str, conn_id: str = "google_cloud_default") -> None:
        super().__init__()
        for name, value in (("subscription", subscription), ("project", project), ("conn_id", conn_id)):
            check_text(f"PubSubSubscription.{name}", value)
        self.subscription = subscription
        self.project = project
        self.conn_id = conn_id
        self._stop = threading.Event()
        self._ordered = False

    def name(self) -> str:
        """Project and subscription."""
        return f"pubsub {self.project}/{self.subscription}"

    @property
    def _path(self) -> str:
        return f"projects/{self.project}/subscriptions/{self.subscription}"

    def open(self) -> None:
        """Create the hook's client, which is thread-safe, and check that the subscription exists.

        :raises PlanError: when the provider, the connection or the subscription is missing.
        :raises SourceError: when Pub/Sub cannot be reached.
        """
        try:
            from airflow.providers.google.cloud.hooks.pubsub import PubSubHook
            from google.api_core.exceptions import GoogleAPIError, NotFound, PermissionDenied
            from google.api_core.retry import Retry, if_transient_error
            from google.auth.exceptions import GoogleAuthError
        except ImportError:
            cure = "the Google provider is not installed: pip install apache-airflow-providers-google"
            raise PlanError("PubSubSubscription.conn_id", self.conn_id, cure) from None
        connection = resolved_copy(get_connection(self.conn_id, "PubSubSubscription.conn_id"))
        # A subclass: the hook looks its connection up in the constructor, and other hooks must not change.
        bound: Any = type("BoundPubSubHook", (PubSubHook,), {"get_connection": lambda *_: connection})
        hook = bound(gcp_conn_id=self.conn_id)
        client: Any = None
        try:
            client = hook.subscriber_client
            retry = Retry(predicate=if_transient_error, timeout=_REQUEST_SECONDS)
            found = client.get_subscription(subscription=self._path, retry=retry, timeout=_REQUEST_SECONDS)
            self._ordered = found.enable_message_ordering
        except NotFound:
            client.close()
            cure = "the project has no such subscription"
            raise PlanError("PubSubSubscription.subscription", self.subscription, cure) from None
        except PermissionDenied:
            self._ordered = True  # a consumer may lack the permission to read it: assume that it has an order
        except (GoogleAPIError, GoogleAuthError) as error:
            if client is not None:
                client.close()
            raise SourceError(f"{self.name()}: cannot be opened ({type(error).__name__}: {error})") from error
        self._stop.clear()
        self._connect(client)

    def withholds(self) -> bool:
        """True for a subscription with ordering."""
        return self._ordered

    def receive(self, client: Any, most: int, seconds: float) -> Sequence[Delivery]:
        """Send one request, which waits at the server for the first message; retry it after a transient error.

        :raises SourceError: when the subscription cannot be read.
        """
        from google.api_core import exceptions

        request = {"subscription": self._path, "max_messages": min(most, BATCH)}
        until = time.monotonic() + _REQUEST_SECONDS
        while True:
            try:
                # Without the retry of the client itself, which cannot be interrupted for a minute.
                response = client.pull(request=request, retry=None, timeout=seconds)
                return [_delivery(each) for each in response.received_messages]
            except exceptions.DeadlineExceeded:  # no message arrived in time
                return []
            except Exception as error:
                transient = (exceptions.ServiceUnavailable, exceptions.InternalServerError, exceptions.Aborted)
                if not isinstance(error, transient) or time.monotonic() > until or self._stop.wait(_PAUSE):
                    text = f"{self.name()}: cannot be read ({type(error).__name__}: {error})"
                    raise SourceError(text) from error

    def settle(self, client: Any, deliveries: Sequence[Delivery]) -> None:
        """Acknowledge messages, a thousand per request."""
        for first in range(0, len(deliveries), BATCH):
            receipts = [each.receipt for each in deliveries[first : first + BATCH]]
            client.acknowledge(request={"subscription": self._path, "ack_ids": receipts}, timeout=_REQUEST_SECONDS)

    def release(self, client: Any, receipts: Sequence[str]) -> None:
        """Set the deadline of the messages to now."""
        for first in range(0, len(receipts), BATCH):
            request = {
                "subscription": self._path,
                "ack_ids": receipts[first : first + BATCH],
                "ack_deadline_seconds": 0,
            }
            client.modify_ack_deadline(request=request, retry=None, timeout=_RELEASE_SECONDS)

    def close(self) -> None:
        """Release the messages without acknowledgment, and disconnect."""
        self._stop.set()
        super().close()


def _delivery(received: Any) -> Delivery:
    message = received.message
    return Delivery(Message(message.message_id, bytes(message.data), dict(message.attributes)), received.ack_id)
