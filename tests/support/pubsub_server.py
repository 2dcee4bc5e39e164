"""A server that speaks the gRPC protocol of Google Pub/Sub, as far as a reader of a subscription needs it.

Real clients reach it as they reach Google's emulator, through ``PUBSUB_EMULATOR_HOST``. It keeps what matters to a
reader: receipts, acknowledgement deadlines, a pull that waits, limits on requests.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

MOST_BYTES_OF_ACKNOWLEDGEMENT = 512 * 1024
"""As the service documents it."""


@dataclass
class Kept:
    """A message in a subscription."""

    message: Any
    hidden_until: float = 0.0
    receipt: str = ""
    deliveries: int = 0


@dataclass
class Subscription:
    """What is not acknowledged, oldest first."""

    topic: str
    deadline: float
    ordered: bool = False
    messages: dict[str, Kept] = field(default_factory=dict)


class PubSubServer:
    """Topics and subscriptions; all methods may be called from any thread."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._subscriptions: dict[str, Subscription] = {}
        self._topics: set[str] = set()
        self._count = 0

    def deliverable(self, path: str) -> int:
        """Messages that a pull would bring now."""
        with self._changed:
            now = time.monotonic()
            return sum(each.hidden_until <= now for each in self._subscriptions[path].messages.values())

    def waiting(self, path: str) -> int:
        """Messages that are not acknowledged."""
        with self._changed:
            return len(self._subscriptions[path].messages)

    def let_come_again(self, path: str) -> None:
        """As if the acknowledgement deadlines of all messages were over, so that no test has to wait for them."""
        with self._changed:
            for each in self._subscriptions[path].messages.values():
                each.hidden_until = 0.0
            self._changed.notify_all()

    def forget(self, path: str) -> None:
        """Delete a subscription."""
        with self._changed:
            del self._subscriptions[path]

    def create_topic(self, request: Any, context: Any) -> Any:
        with self._changed:
            self._topics.add(request.name)
        return request

    def publish(self, request: Any, context: Any) -> Any:
        from google.pubsub_v1.types import PublishResponse, PubsubMessage

        names = []
        with self._changed:
            for message in request.messages:
                self._count += 1
                names.append(str(self._count))
                for each in self._subscriptions.values():
                    if each.topic == request.topic:
                        stored = PubsubMessage(message)
                        stored.message_id = names[-1]
                        each.messages[names[-1]] = Kept(stored)
            self._changed.notify_all()
        return PublishResponse(message_ids=names)

    def create_subscription(self, request: Any, context: Any) -> Any:
        with self._changed:
            made = Subscription(request.topic, request.ack_deadline_seconds or 10, request.enable_message_ordering)
            self._subscriptions[request.name] = made
        return request

    def get_subscription(self, request: Any, context: Any) -> Any:
        from google.pubsub_v1.types import Subscription as Answer

        found = self._found(request.subscription, context)
        return Answer(
            name=request.subscription,
            topic=found.topic,
            ack_deadline_seconds=int(found.deadline),
            enable_message_ordering=found.ordered,
        )

    def pull(self, request: Any, context: Any) -> Any:
        """Wait for the first message until the client gives up, as the service does."""
        from google.pubsub_v1.types import PullResponse, ReceivedMessage

        subscription = self._found(request.subscription, context)
        with self._changed:
            while context.is_active():
                now = time.monotonic()
                ready = [each for each in subscription.messages.values() if each.hidden_until <= now]
                if ready or request.return_immediately:
                    break
                self._changed.wait(0.01)
            else:
                return PullResponse()
            found = ready[: request.max_messages]
            for each in found:
                each.deliveries += 1
                each.receipt = f"{uuid4().hex * 5}-{each.deliveries}"  # about as long as those of the service
                each.hidden_until = now + subscription.deadline
            answers = [ReceivedMessage(ack_id=each.receipt, message=each.message) for each in found]
        return PullResponse(received_messages=answers)

    def acknowledge(self, request: Any, context: Any) -> Any:
        from google.protobuf.empty_pb2 import Empty
        from grpc import StatusCode

        if sum(map(len, request.ack_ids)) > MOST_BYTES_OF_ACKNOWLEDGEMENT:
            context.abort(StatusCode.INVALID_ARGUMENT, "Request payload size exceeds the limit: 524288 bytes.")
        kept = self._found(request.subscription, context).messages
        with self._changed:
            receipts = set(request.ack_ids)
            for name in [name for name, each in kept.items() if each.receipt in receipts]:
                del kept[name]
        return Empty()

    def modify_ack_deadline(self, request: Any, context: Any) -> Any:
        from google.protobuf.empty_pb2 import Empty

        kept = self._found(request.subscription, context).messages
        with self._changed:
            receipts = set(request.ack_ids)
            for each in kept.values():
                if each.receipt in receipts:
                    each.hidden_until = time.monotonic() + request.ack_deadline_seconds
            self._changed.notify_all()
        return Empty()

    def _found(self, path: str, context: Any) -> Subscription:
        from grpc import StatusCode

        with self._changed:
            found = self._subscriptions.get(path)
        if found is None:
            context.abort(StatusCode.NOT_FOUND, f"Resource not found (resource={path.rpartition('/')[2]}).")
            raise AssertionError("abort raises")
        return found

    def handlers(self) -> Iterator[Any]:
        """One generic handler for each of the two services."""
        import grpc
        from google.protobuf.empty_pb2 import Empty
        from google.pubsub_v1 import types

        def method(do: Callable[[Any, Any], Any], request: Any, answer: Any) -> Any:
            out = Empty.SerializeToString if answer is Empty else answer.serialize
            return grpc.unary_unary_rpc_method_handler(do, request.deserialize, out)

        publisher = {
            "CreateTopic": method(self.create_topic, types.Topic, types.Topic),
            "Publish": method(self.publish, types.PublishRequest, types.PublishResponse),
        }
        subscriber = {
            "CreateSubscription": method(self.create_subscription, types.Subscription, types.Subscription),
            "GetSubscription": method(self.get_subscription, types.GetSubscriptionRequest, types.Subscription),
            "Pull": method(self.pull, types.PullRequest, types.PullResponse),
            "Acknowledge": method(self.acknowledge, types.AcknowledgeRequest, Empty),
            "ModifyAckDeadline": method(self.modify_ack_deadline, types.ModifyAckDeadlineRequest, Empty),
        }
        yield grpc.method_handlers_generic_handler("google.pubsub.v1.Publisher", publisher)
        yield grpc.method_handlers_generic_handler("google.pubsub.v1.Subscriber", subscriber)


@contextmanager
def serving() -> Iterator[tuple[PubSubServer, str]]:
    """A running server and its address."""
    import grpc

    state = PubSubServer()
    with ThreadPoolExecutor(16, thread_name_prefix="pubsub-server") as pool:
        server = grpc.server(pool)
        server.add_generic_rpc_handlers(tuple(state.handlers()))
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        try:
            yield state, f"127.0.0.1:{port}"
        finally:
            server.stop(None).wait()
