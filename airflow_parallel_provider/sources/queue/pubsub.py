"""Subscriptions of Google Pub/Sub for :class:`QueueSource`, through the hook of their Airflow provider."""

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
"""Messages of one request: one to acknowledge may have 512 KiB, and the receipt of a message has about 200 bytes."""

_PATIENCE, _PAUSE = 10.0, 0.5
"""Seconds that a request may take with all that is tried again, and between two attempts of a pull."""

_GIVE_BACK_SECONDS = 2.0
"""Seconds that a request to deliver messages again may take: it is made when a run ends."""


class PubSubSubscription(LeasingBroker):
    """A subscription of Google Pub/Sub, a pull one. Needs ``apache-airflow-providers-google``.

    :param subscription: its name, without the project.
    :param project: the project's id.
    :param conn_id: Airflow connection of type ``google_cloud_platform``.

    Messages that were not acknowledged are delivered again when the run ends; after a kill, when their acknowledgement
    deadline has passed, so a retry should not come before that.

    Known limitations: a chunk must be committed within the subscription's acknowledgement deadline; else its messages
    come again, and are left aside by their ids where the sink is a ``SinkTable``. A subscription with ordering gives no
    further message of a key while one of it is not acknowledged: have a small ``chunk_size``.
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
        """Have the hook log in and make its client, which may be used by several threads; see that it is there.

        :raises PlanError: when the provider, the connection or the subscription is missing.
        :raises SourceError: when Pub/Sub cannot be reached.
        """
        try:
            from airflow.providers.google.cloud.hooks.pubsub import PubSubHook
            from google.api_core.exceptions import GoogleAPIError, NotFound, PermissionDenied
            from google.api_core.retry import Retry, if_transient_error
            from google.auth.exceptions import GoogleAuthError
        except ImportError:
            cure = "its provider is not installed: pip install apache-airflow-providers-google"
            raise PlanError("PubSubSubscription.conn_id", self.conn_id, cure) from None
        connection = resolved_copy(get_connection(self.conn_id, "PubSubSubscription.conn_id"))
        # A class of its own: the hook asks while it is being made, and no other hook is to be changed.
        bound: Any = type("BoundPubSubHook", (PubSubHook,), {"get_connection": lambda *_: connection})
        hook = bound(gcp_conn_id=self.conn_id)
        client: Any = None
        try:
            client = hook.subscriber_client
            patience = Retry(predicate=if_transient_error, timeout=_PATIENCE)
            found = client.get_subscription(subscription=self._path, retry=patience, timeout=_PATIENCE)
            self._ordered = found.enable_message_ordering
        except NotFound:
            client.close()
            raise PlanError("PubSubSubscription.subscription", self.subscription, "there is no such one") from None
        except PermissionDenied:
            self._ordered = True  # who may consume need not be allowed to look: then it may be so
        except (GoogleAPIError, GoogleAuthError) as error:
            if client is not None:
                client.close()
            raise SourceError(f"{self.name()}: cannot be opened ({type(error).__name__}: {error})") from error
        self._stop.clear()
        self._connect(client)

    def withholds(self) -> bool:
        """A subscription with ordering does."""
        return self._ordered

    def receive(self, client: Any, most: int, seconds: float) -> Sequence[Delivery]:
        """One request, which waits at the server for the first message. Passing faults are waited for, for a while.

        :raises SourceError: when the subscription cannot be read.
        """
        from google.api_core import exceptions

        request = {"subscription": self._path, "max_messages": min(most, BATCH)}
        until = time.monotonic() + _PATIENCE
        while True:
            try:
                # Not the client's own way of trying again, which nobody can stop for a minute.
                answer = client.pull(request=request, retry=None, timeout=seconds)
                return [_delivery(each) for each in answer.received_messages]
            except exceptions.DeadlineExceeded:  # how one hears that no message came
                return []
            except Exception as error:
                passing = (exceptions.ServiceUnavailable, exceptions.InternalServerError, exceptions.Aborted)
                if not isinstance(error, passing) or time.monotonic() > until or self._stop.wait(_PAUSE):
                    text = f"{self.name()}: cannot be read ({type(error).__name__}: {error})"
                    raise SourceError(text) from error

    def settle(self, client: Any, deliveries: Sequence[Delivery]) -> None:
        """Acknowledge them, a thousand by a thousand."""
        for first in range(0, len(deliveries), BATCH):
            receipts = [each.receipt for each in deliveries[first : first + BATCH]]
            client.acknowledge(request={"subscription": self._path, "ack_ids": receipts}, timeout=_PATIENCE)

    def release(self, client: Any, receipts: Sequence[str]) -> None:
        """Let their deadline be now."""
        for first in range(0, len(receipts), BATCH):
            request = {
                "subscription": self._path,
                "ack_ids": receipts[first : first + BATCH],
                "ack_deadline_seconds": 0,
            }
            client.modify_ack_deadline(request=request, retry=None, timeout=_GIVE_BACK_SECONDS)

    def close(self) -> None:
        """Give back what was not acknowledged, and disconnect."""
        self._stop.set()
        super().close()


def _delivery(received: Any) -> Delivery:
    message = received.message
    return Delivery(Message(message.message_id, bytes(message.data), dict(message.attributes)), received.ack_id)
