"""Brokers that lend their messages: what is out is given back once, with its newest receipt. The clients are fakes."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from airflow_parallel_provider import Message, PubSubSubscription, SqsQueue
from airflow_parallel_provider.errors import SourceError
from airflow_parallel_provider.sources.queue import leasing, pubsub, sqs
from airflow_parallel_provider.sources.queue.broker import Delivery
from airflow_parallel_provider.sources.queue.leasing import LeasingBroker

pytestmark = pytest.mark.airflow


class Client:
    """What is to be closed."""

    def __init__(self) -> None:
        self.closed = 0

    def close(self) -> None:
        self.closed += 1


class Lender(LeasingBroker):
    """Lends the messages of the test, and keeps each settlement."""

    def __init__(self) -> None:
        super().__init__()
        self.client = Client()
        self.answers: list[list[Delivery]] = []
        self.settled: list[Any] = []
        self.given_back: list[Any] = []
        self._connect(self.client)

    def name(self) -> str:
        return "lender"

    def reopened(self) -> None:
        self._connect(self.client)

    def receive(self, client: Any, most: int, seconds: float) -> Sequence[Delivery]:
        return self.answers.pop(0)

    def settle(self, client: Any, deliveries: Sequence[Delivery]) -> None:
        self.settled += [each.receipt for each in deliveries]

    def release(self, client: Any, receipts: Sequence[str]) -> None:
        self.given_back += receipts


def lent(*receipts: str) -> list[Delivery]:
    """One delivery each; the first letter of a receipt is the message's id."""
    return [Delivery(Message(receipt[0], b"1"), receipt) for receipt in receipts]


def test_what_was_not_acknowledged_is_given_back_with_its_newest_receipt() -> None:
    broker = Lender()
    broker.answers = [lent("a1", "b1", "c1"), lent("b2")]
    taken = [*broker.pull(10, 1), *broker.pull(10, 1)]
    broker.acknowledge(taken[:1])

    broker.close()
    broker.close()

    assert broker.settled == ["a1"]
    assert broker.given_back == ["b2", "c1"]
    assert broker.client.closed == 1


def test_what_the_broker_refuses_to_settle_is_not_given_back() -> None:
    """It is committed: to receive it again at once would help no one."""

    class Refusing(Lender):
        def settle(self, client: Any, deliveries: Sequence[Delivery]) -> None:
            raise SourceError("its receipt is too old")

    broker = Refusing()
    broker.answers = [lent("a1", "b1")]
    taken = broker.pull(10, 1)
    with pytest.raises(SourceError, match="too old"):
        broker.acknowledge(taken[:1])

    broker.close()

    assert broker.given_back == ["b1"]


def test_nothing_is_asked_where_nothing_is_out() -> None:
    asked: list[Any] = []

    class Counting(Lender):
        def release(self, client: Any, receipts: Sequence[str]) -> None:
            asked.append(receipts)

    broker = Counting()

    broker.close()

    assert not asked
    assert broker.client.closed == 1


def test_closing_goes_on_when_messages_cannot_be_given_back(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(Lender):
        def release(self, client: Any, receipts: Sequence[str]) -> None:
            raise ConnectionError("gone")

    broker = Broken()
    broker.answers = [lent("a1")]
    broker.pull(10, 1)
    with caplog.at_level(logging.INFO):
        broker.close()

    assert broker.client.closed == 1
    assert (
        "lender: 1 messages are delivered again only after the broker's own timeout (ConnectionError: gone)"
        in caplog.text
    )


def test_messages_of_a_run_before_are_not_given_back() -> None:
    broker = Lender()
    broker.answers = [lent("a1")]
    broker.pull(10, 1)

    broker.reopened()
    broker.close()

    assert broker.given_back == []


class Waiting(Lender):
    """Whose answer comes when it is let come."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = threading.Event()
        self.come = threading.Event()

    def receive(self, client: Any, most: int, seconds: float) -> Sequence[Delivery]:
        self.asked.set()
        assert self.come.wait(60)
        return lent("a1")


def test_closing_waits_for_a_pull_that_is_under_way_and_gives_back_what_it_brings() -> None:
    broker = Waiting()
    pulling = threading.Thread(target=broker.pull, args=(10, 1))
    pulling.start()
    assert broker.asked.wait(60)
    acquire = broker._pulling.acquire

    def noticed(**options: Any) -> bool:
        broker.come.set()  # only now that closing waits
        return acquire(**options)

    broker._pulling = SimpleNamespace(acquire=noticed, release=broker._pulling.release)  # type: ignore[assignment]
    broker.close()
    pulling.join(60)

    assert broker.given_back == ["a1"]


def test_closing_does_not_wait_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leasing, "_LONGEST_PULL", 0.01)
    broker = Waiting()
    pulling = threading.Thread(target=broker.pull, args=(10, 1))
    pulling.start()
    assert broker.asked.wait(60)

    broker.close()

    assert pulling.is_alive()
    assert broker.client.closed == 1
    broker.come.set()
    pulling.join(60)


class Asked:
    """A client that writes down each request."""

    def __init__(self, **answers: Any) -> None:
        self.requests: list[dict[str, Any]] = []
        self._answers = answers

    def __getattr__(self, name: str) -> Any:
        def answer(**options: Any) -> Any:
            self.requests.append(options)
            found = self._answers[name]
            return found(options) if callable(found) else found

        return answer


@pytest.mark.parametrize(
    ("most", "seconds", "asked"), [(500, 1.0, (10, 1)), (3, 0.001, (3, 1)), (1, 7.4, (1, 7)), (10, 99.0, (10, 20))]
)
def test_sqs_is_asked_for_what_it_allows(most: int, seconds: float, asked: tuple[int, int]) -> None:
    client = Asked(receive_message={})

    assert list(SqsQueue("https://queue").receive(client, most, seconds)) == []

    (request,) = client.requests
    assert (request["MaxNumberOfMessages"], request["WaitTimeSeconds"]) == asked
    assert request["QueueUrl"] == "https://queue"
    assert request["MessageAttributeNames"] == ["All"]


def test_sqs_leaves_binary_attributes_out() -> None:
    attributes = {"kind": {"StringValue": "order"}, "raw": {"BinaryValue": b"x"}}
    found = {"MessageId": "a", "Body": "ä", "ReceiptHandle": "r", "MessageAttributes": attributes}

    (delivery,) = SqsQueue("https://queue").receive(Asked(receive_message={"Messages": [found]}), 1, 1)

    assert delivery == Delivery(Message("a", "ä".encode(), {"kind": "order"}), "r")


def test_sqs_message_that_is_the_senders_fault_is_not_deleted_twice() -> None:
    failed = [{"Id": "0", "SenderFault": True, "Code": "Stale"}, {"Id": "1", "SenderFault": True, "Code": "Invalid"}]
    client = Asked(delete_message_batch={"Failed": failed})

    with pytest.raises(SourceError, match=r"2 messages could not be deleted \(Invalid, Stale\)"):
        SqsQueue("https://queue").settle(client, lent("a", "b", "c"))

    assert len(client.requests) == 1


def test_sqs_messages_are_deleted_and_given_back_ten_by_ten() -> None:
    client = Asked(delete_message_batch={}, change_message_visibility_batch={})
    receipts = [f"r{number}" for number in range(23)]

    SqsQueue("https://queue").settle(client, lent(*receipts))
    SqsQueue("https://queue").release(client, receipts)

    assert [len(each["Entries"]) for each in client.requests] == [10, 10, 3] * 2
    for requests in (client.requests[:3], client.requests[3:]):
        assert [entry["ReceiptHandle"] for each in requests for entry in each["Entries"]] == receipts
        assert all(len({entry["Id"] for entry in each["Entries"]}) == len(each["Entries"]) for each in requests)
    assert {entry["VisibilityTimeout"] for each in client.requests[3:] for entry in each["Entries"]} == {0}


def test_sqs_gives_back_as_many_as_there_is_time_for(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter([0.0, 0.1, sqs._RELEASE_SECONDS, sqs._RELEASE_SECONDS + 0.1])
    monkeypatch.setattr(sqs, "time", SimpleNamespace(monotonic=lambda: next(now)))
    client = Asked(change_message_visibility_batch={})

    SqsQueue("https://queue").release(client, [str(number) for number in range(100)])

    assert len(client.requests) == 2


def subscription() -> PubSubSubscription:
    return PubSubSubscription("orders", project="shop")


def pubsub_answer(*ids: str) -> Any:
    made = [SimpleNamespace(message_id=each, data=b"1", attributes={"n": each}) for each in ids]
    return SimpleNamespace(received_messages=[SimpleNamespace(message=each, ack_id=each.message_id) for each in made])


def test_pubsub_is_asked_for_what_it_allows() -> None:
    client = Asked(pull=pubsub_answer("a"))

    (delivery,) = subscription().receive(client, 5000, 0.25)

    assert delivery == Delivery(Message("a", b"1", {"n": "a"}), "a")
    path = "projects/shop/subscriptions/orders"
    assert client.requests == [
        {"request": {"subscription": path, "max_messages": 1000}, "retry": None, "timeout": 0.25},
    ]


def failing_twice(name: str) -> Asked:
    exceptions = pytest.importorskip("google.api_core.exceptions")

    def shaky(_options: Any) -> Any:
        if len(client.requests) < 3:
            raise getattr(exceptions, name)("not now")
        return pubsub_answer("a")

    client = Asked(pull=shaky)
    return client


@pytest.mark.parametrize("name", ["ServiceUnavailable", "InternalServerError", "Aborted"])
def test_pubsub_pull_is_tried_again_while_the_fault_may_pass(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pubsub, "_PAUSE", 0.0)

    assert len(subscription().receive(failing_twice(name), 1, 1)) == 1


@pytest.mark.parametrize("name", ["PermissionDenied", "NotFound"])
def test_pubsub_pull_is_not_tried_again_where_that_cannot_help(name: str) -> None:
    client = failing_twice(name)

    with pytest.raises(SourceError, match=rf"pubsub shop/orders: cannot be read \({name}: "):
        subscription().receive(client, 1, 1)

    assert len(client.requests) == 1


def test_pubsub_pull_without_a_message_is_no_error() -> None:
    client = failing_twice("DeadlineExceeded")

    assert list(subscription().receive(client, 1, 1)) == []
    assert len(client.requests) == 1


def test_pubsub_pull_is_given_up_in_time_and_when_it_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    exceptions = pytest.importorskip("google.api_core.exceptions")

    def down(_options: Any) -> Any:
        raise exceptions.ServiceUnavailable("down")

    now = iter([0.0, pubsub._REQUEST_SECONDS, pubsub._REQUEST_SECONDS + 0.1])
    monkeypatch.setattr(pubsub, "_PAUSE", 0.0)
    monkeypatch.setattr(pubsub, "time", SimpleNamespace(monotonic=lambda: next(now)))
    late, closed = Asked(pull=down), Asked(pull=down)
    with pytest.raises(SourceError, match="cannot be read"):
        subscription().receive(late, 1, 1)
    monkeypatch.setattr(pubsub, "time", SimpleNamespace(monotonic=lambda: 0.0))
    broker = subscription()
    broker.close()
    with pytest.raises(SourceError, match="cannot be read"):
        broker.receive(closed, 1, 1)

    assert (len(late.requests), len(closed.requests)) == (2, 1)


def test_pubsub_messages_are_settled_and_given_back_a_thousand_by_a_thousand() -> None:
    client = Asked(acknowledge=None, modify_ack_deadline=None)
    receipts = [f"r{number}" for number in range(2300)]

    subscription().settle(client, lent(*receipts))
    subscription().release(client, receipts)

    found = [each["request"] for each in client.requests]
    assert [len(each["ack_ids"]) for each in found] == [1000, 1000, 300] * 2
    assert [each for request in found[:3] for each in request["ack_ids"]] == receipts
    assert [each for request in found[3:] for each in request["ack_ids"]] == receipts
    assert [each.get("ack_deadline_seconds") for each in found] == [None] * 3 + [0] * 3
    assert {each["subscription"] for each in found} == {"projects/shop/subscriptions/orders"}
