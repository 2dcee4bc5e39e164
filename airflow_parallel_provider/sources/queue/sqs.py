# SPDX-License-Identifier: Apache-2.0
"""Queues of Amazon SQS for :class:`QueueSource`, through the hook of Airflow's Amazon provider."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from airflow_parallel_provider.checks import check_text
from airflow_parallel_provider.connections import get_connection, resolved_copy
from airflow_parallel_provider.errors import PlanError, SourceError
from airflow_parallel_provider.sources.queue.broker import Delivery
from airflow_parallel_provider.sources.queue.leasing import LeasingBroker
from airflow_parallel_provider.values.items import Message

BATCH, LONGEST_WAIT = 10, 20
"""Most messages of one request, and most seconds that it may wait."""

DEFAULT_CONN_ID = "aws_default"
"""The provider's hook works without this connection: then it uses the machine's own role or environment."""

_RELEASE_SECONDS = 2.0
"""Most seconds that closing spends on making messages visible again; the rest wait for their visibility timeout."""


class SqsQueue(LeasingBroker):
    """A queue of Amazon SQS. Needs ``apache-airflow-providers-amazon``.

    The id of a message is its ``MessageId``. Attributes with a text or a number are read; binary ones are ignored.

    :param url: address of the queue.
    :param conn_id: Airflow connection of type ``aws``. If the connection ``aws_default`` does not exist, boto3 finds
        the credentials by itself.
    :param region: None: the connection's region.

    Messages without acknowledgment become visible again when the run ends. After a kill they stay hidden for the rest
    of the queue's visibility timeout, so a retry should start only after that.

    Known limitations: a chunk must be committed within the visibility timeout. Otherwise its messages are delivered
    again; with a ``SinkTable`` they are then skipped by their ids. A FIFO queue delivers no further message of a group
    until the one before is acknowledged: use a ``chunk_size`` of 10 or less, or few messages per group. Otherwise the
    run ends after the first messages of each group.
    """

    def __init__(self, url: str, *, conn_id: str = DEFAULT_CONN_ID, region: str | None = None) -> None:
        super().__init__()
        check_text("SqsQueue.url", url)
        check_text("SqsQueue.conn_id", conn_id)
        self.url = url
        self.conn_id = conn_id
        self.region = region

    def name(self) -> str:
        """The address of the queue."""
        return f"sqs {self.url}"

    def open(self) -> None:
        """Create the client, which is thread-safe, and check that the queue exists.

        :raises PlanError: when the provider, the connection or the queue is missing.
        :raises SourceError: when the queue cannot be reached.
        """
        try:
            from airflow.providers.amazon.aws.hooks.sqs import SqsHook
            from botocore.exceptions import BotoCoreError, ClientError
        except ImportError:
            cure = "the Amazon provider is not installed: pip install apache-airflow-providers-amazon"
            raise PlanError("SqsQueue.conn_id", self.conn_id, cure) from None
        hook: Any = SqsHook(aws_conn_id=self.conn_id, region_name=self.region)
        connection = self._connection()
        if connection is not None:
            hook.get_connection = lambda _conn_id=None: connection
        try:
            client = hook.get_conn()
            client.get_queue_attributes(QueueUrl=self.url, AttributeNames=["VisibilityTimeout"])
        except ClientError as error:
            code = str(error.response.get("Error", {}).get("Code", ""))
            if "NonExistentQueue" in code or "QueueDoesNotExist" in code:
                raise PlanError("SqsQueue.url", self.url, "there is no such queue") from None
            if not code.startswith("AccessDenied"):  # a consumer may lack the permission to read attributes
                raise SourceError(f"{self.name()}: cannot be opened ({code}: {error})") from error
        except (BotoCoreError, ValueError) as error:
            raise SourceError(f"{self.name()}: cannot be opened ({type(error).__name__}: {error})") from error
        self._connect(client)

    def _connection(self) -> Any:
        """The Airflow connection, looked up once; None when the hook has to work without one."""
        try:
            return resolved_copy(get_connection(self.conn_id, "SqsQueue.conn_id"))
        except PlanError:
            if self.conn_id == DEFAULT_CONN_ID:
                return None
            raise

    def withholds(self) -> bool:
        """True for a FIFO queue, whose name ends in ``.fifo``."""
        return self.url.endswith(".fifo")

    def receive(self, client: Any, most: int, seconds: float) -> Sequence[Delivery]:
        """Send one request for at most ten messages. It waits at least a second: only then SQS asks all its servers.

        :raises SourceError: when the queue cannot be read.
        """
        try:
            response = client.receive_message(
                QueueUrl=self.url,
                MaxNumberOfMessages=min(most, BATCH),
                WaitTimeSeconds=min(LONGEST_WAIT, max(1, round(seconds))),
                MessageAttributeNames=["All"],
            )
        except Exception as error:
            raise SourceError(f"{self.name()}: cannot be read ({type(error).__name__}: {error})") from error
        return [_delivery(each) for each in response.get("Messages", ())]

    def settle(self, client: Any, deliveries: Sequence[Delivery]) -> None:
        """Delete messages, ten per request; retry once those that SQS itself could not delete.

        :raises SourceError: when SQS rejected some; the others are deleted.
        """
        receipts = {str(number): each.receipt for number, each in enumerate(deliveries)}
        failed = self._delete(client, receipts)
        retried = {entry["Id"]: receipts[entry["Id"]] for entry in failed if not entry.get("SenderFault")}
        if retried:
            failed = [entry for entry in failed if entry["Id"] not in retried] + self._delete(client, retried)
        if failed:
            codes = ", ".join(sorted({str(entry.get("Code")) for entry in failed}))
            raise SourceError(f"{self.name()}: {len(failed)} messages could not be deleted ({codes})")

    def _delete(self, client: Any, receipts: dict[str, str]) -> list[Any]:
        """Delete by receipt; return the response's entries for the messages that were not deleted."""
        entries = [{"Id": each, "ReceiptHandle": receipt} for each, receipt in receipts.items()]
        failed: list[Any] = []
        for first in range(0, len(entries), BATCH):
            response = client.delete_message_batch(QueueUrl=self.url, Entries=entries[first : first + BATCH])
            failed += response.get("Failed") or ()
        return failed

    def release(self, client: Any, receipts: Sequence[str]) -> None:
        """Make messages visible again, as many as possible within :data:`_RELEASE_SECONDS`."""
        until = time.monotonic() + _RELEASE_SECONDS
        for first in range(0, len(receipts), BATCH):
            if time.monotonic() > until:
                return
            some = enumerate(receipts[first : first + BATCH])
            entries = [{"Id": str(n), "ReceiptHandle": each, "VisibilityTimeout": 0} for n, each in some]
            client.change_message_visibility_batch(QueueUrl=self.url, Entries=entries)


def _delivery(found: Any) -> Delivery:
    attributes = found.get("MessageAttributes") or {}
    texts = {name: str(value["StringValue"]) for name, value in attributes.items() if "StringValue" in value}
    return Delivery(Message(found["MessageId"], found["Body"].encode(), texts), found["ReceiptHandle"])
