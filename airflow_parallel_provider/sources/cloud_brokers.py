"""Two queues of clouds for :class:`QueueSource`, through the hooks of their Airflow providers."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

from airflow_parallel_provider.errors import PlanError, SourceError
from airflow_parallel_provider.sources.brokers import Broker, Delivery, Message
from airflow_parallel_provider.sources.checks import check_text

SQS_BATCH, SQS_LONGEST_WAIT = 10, 20
"""What one request to SQS may ask for: messages, seconds."""


class SqsQueue(Broker):
    """A queue of Amazon SQS. Needs ``apache-airflow-providers-amazon``.

    :param url: address of the queue.
    :param conn_id: Airflow connection of type ``aws``.
    :param region: None: the connection's.

    Known limitation: a chunk must be committed within the queue's visibility timeout; else its messages come again, and
    are left aside by their ids where the sink is a ``SinkTable``.
    """

    def __init__(self, url: str, *, conn_id: str = "aws_default", region: str | None = None) -> None:
        check_text("SqsQueue.url", url)
        check_text("SqsQueue.conn_id", conn_id)
        self.url = url
        self.conn_id = conn_id
        self.region = region
        self._client: Any = None

    def name(self) -> str:
        """The address."""
        return f"sqs {self.url}"

    def open(self) -> None:
        """Make the client, which may be used by several threads."""
        try:
            from airflow.providers.amazon.aws.hooks.sqs import SqsHook
        except ImportError:
            cure = "its provider is not installed: pip install apache-airflow-providers-amazon"
            raise PlanError("SqsQueue.conn_id", self.conn_id, cure) from None
        self._client = SqsHook(aws_conn_id=self.conn_id, region_name=self.region).get_conn()

    def pull(self, most: int, seconds: float) -> Sequence[Delivery]:
        """One request: at most ten messages."""
        answer = self._client.receive_message(
            QueueUrl=self.url,
            MaxNumberOfMessages=min(most, SQS_BATCH),
            WaitTimeSeconds=min(SQS_LONGEST_WAIT, max(1, round(seconds))),
            MessageAttributeNames=["All"],
        )
        return [
            Delivery(
                Message(found["MessageId"], found["Body"].encode(), _sqs_attributes(found)), found["ReceiptHandle"]
            )
            for found in answer.get("Messages", ())
        ]

    def acknowledge(self, deliveries: Sequence[Delivery]) -> None:
        """Delete them, ten by ten.

        :raises SourceError: when the queue refused some.
        """
        for first in range(0, len(deliveries), SQS_BATCH):
            some = deliveries[first : first + SQS_BATCH]
            entries = [{"Id": str(number), "ReceiptHandle": each.receipt} for number, each in enumerate(some)]
            answer = self._client.delete_message_batch(QueueUrl=self.url, Entries=entries)
            failed = answer.get("Failed")
            if failed:
                raise SourceError(
                    f"{self.name()}: {len(failed)} messages could not be deleted ({failed[0].get('Code')})"
                )

    def close(self) -> None:
        """Let go of the client."""
        self._client = None


def _sqs_attributes(found: Any) -> dict[str, str]:
    attributes = found.get("MessageAttributes") or {}
    return {name: str(value["StringValue"]) for name, value in attributes.items() if "StringValue" in value}


class PubSubSubscription(Broker):
    """A subscription of Google Pub/Sub. Needs ``apache-airflow-providers-google``.

    :param subscription: its name, without the project.
    :param project: the project's id.
    :param conn_id: Airflow connection of type ``google_cloud_platform``.

    Known limitation: a chunk must be committed within the subscription's acknowledgement deadline, as for
    :class:`SqsQueue`.
    """

    def __init__(self, subscription: str, *, project: str, conn_id: str = "google_cloud_default") -> None:
        for name, value in (("subscription", subscription), ("project", project), ("conn_id", conn_id)):
            check_text(f"PubSubSubscription.{name}", value)
        self.subscription = subscription
        self.project = project
        self.conn_id = conn_id
        self._hook: Any = None
        self._waiting = threading.Event()

    def name(self) -> str:
        """Project and subscription."""
        return f"pubsub {self.project}/{self.subscription}"

    def open(self) -> None:
        """Make the hook, and have it log in: later calls ask Airflow for nothing."""
        try:
            from airflow.providers.google.cloud.hooks.pubsub import PubSubHook
        except ImportError:
            cure = "its provider is not installed: pip install apache-airflow-providers-google"
            raise PlanError("PubSubSubscription.conn_id", self.conn_id, cure) from None
        self._hook = PubSubHook(gcp_conn_id=self.conn_id)
        _ = self._hook.subscriber_client

    def pull(self, most: int, seconds: float) -> Sequence[Delivery]:
        """One request; when nothing is there, wait and ask once more."""
        found = self._pull(most)
        if not found:
            self._waiting.wait(seconds)
            found = self._pull(most)
        return found

    def _pull(self, most: int) -> list[Delivery]:
        received = self._hook.pull(
            subscription=self.subscription, max_messages=most, project_id=self.project, return_immediately=True
        )
        return [
            Delivery(
                Message(each.message.message_id, bytes(each.message.data), dict(each.message.attributes)), each.ack_id
            )
            for each in received
        ]

    def acknowledge(self, deliveries: Sequence[Delivery]) -> None:
        """Acknowledge them."""
        self._hook.acknowledge(
            subscription=self.subscription, project_id=self.project, ack_ids=[each.receipt for each in deliveries]
        )

    def close(self) -> None:
        """Let go of the hook."""
        self._hook = None
