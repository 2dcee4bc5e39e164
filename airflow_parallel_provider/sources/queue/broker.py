"""Message brokers as :class:`QueueSource` sees them, and two of them: Redis streams and RabbitMQ."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from airflow_parallel_provider.values.items import Message


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
