# SPDX-License-Identifier: Apache-2.0
"""The interface between :class:`QueueSource` and a message broker."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from airflow_parallel_provider.values.items import Message


@dataclass(frozen=True, slots=True)
class Delivery:
    """A message, and the receipt that acknowledges it."""

    message: Message
    receipt: Any


class Broker:
    """The interface of a queue. Subclass it to support another broker.

    ``open`` runs on the thread that called ``run`` (in Airflow the task's main thread), ``pull`` on the source's thread
    and ``acknowledge`` on the sink's. If its client is not thread-safe, an implementation needs a lock.
    """

    def name(self) -> str:
        """Name of the queue; the sink stores the ids of its messages under this name."""
        raise NotImplementedError

    def open(self) -> None:
        """Connect. The only call that may talk to Airflow.

        :raises PlanError: when the connection or the queue is missing.
        """
        raise NotImplementedError

    def pull(self, most: int, seconds: float) -> Sequence[Delivery]:
        """Receive messages.

        :param most: most messages.
        :param seconds: longest wait for the first message.
        :return: empty when none arrived in that time.
        """
        raise NotImplementedError

    def acknowledge(self, deliveries: Sequence[Delivery]) -> None:
        """Mark messages as processed, so that the broker does not deliver them again."""
        raise NotImplementedError

    def withholds(self) -> bool:
        """Whether the queue may withhold messages until earlier ones are acknowledged, as ordered queues do.

        Then an empty pull does not mean that the queue is empty, as long as a chunk is in flight.
        """
        return False

    def close(self) -> None:
        """Disconnect. The broker delivers messages without acknowledgment again. May be called twice."""
