"""What only SQS and Pub/Sub do: hidden messages, receipts that end, groups, limits on requests, permissions."""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from airflow_parallel_provider import (
    ListSink,
    Message,
    Pipeline,
    PlanError,
    PubSubSubscription,
    QueueSource,
    RunFailed,
    SinkTable,
    SqsQueue,
    Stage,
)
from airflow_parallel_provider.errors import SourceError
from tests.sources.queue.queues import PubSubTestQueue, Queue, SqsTestQueue, announced, body, ids_in
from tests.support import cloud

pytestmark = pytest.mark.airflow


@pytest.fixture(params=[SqsTestQueue, PubSubTestQueue], ids=["sqs", "pubsub"])
def queue(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Queue]:
    with announced(request.param(), monkeypatch) as made:
        yield made


@pytest.fixture
def sqs(monkeypatch: pytest.MonkeyPatch) -> Iterator[SqsTestQueue]:
    with announced(SqsTestQueue(), monkeypatch) as made:
        yield made


@pytest.fixture
def pubsub(monkeypatch: pytest.MonkeyPatch) -> Iterator[PubSubTestQueue]:
    with announced(PubSubTestQueue(), monkeypatch) as made:
        yield made


def table() -> SinkTable:
    return SinkTable("orders", conn_id="warehouse")


@pytest.mark.parametrize("kind", [SqsTestQueue, PubSubTestQueue], ids=["sqs", "pubsub"])
def test_message_that_comes_again_while_its_chunk_is_open_is_in_once(
    kind: Any, warehouse: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The stage is slower than the broker hides messages: both deliveries reach this run, the newer one is settled."""
    with announced(kind(hidden=1), monkeypatch) as queue:
        queue.publish(*range(3))
        broker = queue.broker()
        seen: list[str] = []
        again = threading.Event()
        pull = broker.pull

        def watched(most: int, seconds: float) -> Any:
            found = pull(most, seconds)
            seen.extend(each.message.id for each in found)
            if len(set(seen)) == 3 and all(seen.count(each) > 1 for each in seen):
                source.idle = 0.01  # nothing to wait for any longer
                again.set()
            return found

        def slow(message: Message) -> Any:
            assert again.wait(30), "not all messages came again"
            return message.json()

        broker.pull = watched  # type: ignore[method-assign]
        source = QueueSource(broker, idle=40)
        report = Pipeline(source, [Stage(slow, workers=3)], table(), chunk_size=100, load_key="nightly").run()

        assert report.items_read == 3
        if left := queue.waiting():  # the answer to a pull came too late, and with it the only receipts that count
            queue.wait_until_deliverable(left)
            assert Pipeline(QueueSource(queue.broker(), idle=1), [], table(), load_key="next").run().items_read == 0
        assert ids_in(warehouse) == [0, 1, 2]
        assert queue.waiting() == 0


def test_failed_run_gives_its_messages_back_at_once(queue: Queue, warehouse: Path) -> None:
    queue.publish(*range(15))

    def broken(message: Message) -> Any:
        raise ValueError("not today")

    with pytest.raises(RunFailed, match="not today"):
        Pipeline(QueueSource(queue.broker(), idle=0.05), [Stage(broken)], table(), load_key="nightly").run()

    assert queue.deliverable() == queue.waiting() == 15


def test_broker_that_is_closed_says_so(queue: Queue) -> None:
    broker = queue.broker()
    broker.open()
    broker.close()
    broker.close()

    with pytest.raises(SourceError, match="the queue is closed"):
        broker.pull(1, 1)


def test_queue_that_is_gone_is_named(queue: Any) -> None:
    broker = queue.broker()
    broker.open()
    queue.delete()

    with pytest.raises(SourceError, match=f"{queue.name}: cannot be read"):
        broker.pull(1, 0.2)

    broker.close()


@pytest.mark.parametrize(
    ("broker", "complaint"),
    [
        (lambda: SqsQueue(f"{cloud.aws_address()}/123456789012/absent", conn_id="broker_aws"), r"SqsQueue\.url"),
        (lambda: SqsQueue(f"{cloud.aws_address()}/1/absent", conn_id="nowhere"), r"SqsQueue\.conn_id='nowhere'"),
        (
            lambda: PubSubSubscription("absent", project="shop", conn_id="broker_google"),
            r"PubSubSubscription\.subscription",
        ),
        (lambda: PubSubSubscription("x", project="y", conn_id="nowhere"), r"PubSubSubscription\.conn_id='nowhere'"),
    ],
)
def test_what_is_missing_is_said_before_anything_starts(
    sqs: SqsTestQueue, pubsub: PubSubTestQueue, broker: Any, complaint: str
) -> None:
    with pytest.raises(PlanError, match=complaint):
        Pipeline(QueueSource(broker()), [], ListSink()).run()


def test_sqs_without_a_connection_uses_what_the_machine_has(sqs: SqsTestQueue, monkeypatch: pytest.MonkeyPatch) -> None:
    """``aws_default`` need not exist: boto3 then looks for credentials itself."""
    for name, value in {
        "AWS_ENDPOINT_URL": cloud.aws_address(),
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": "eu-central-1",
    }.items():
        monkeypatch.setenv(name, value)
    sqs.publish(7)
    sink = ListSink()

    Pipeline(QueueSource(SqsQueue(sqs.name), idle=0.1), [Stage(body)], sink).run()

    assert sink.rows == [{"id": 7}]


def test_sqs_attributes_are_texts(sqs: SqsTestQueue) -> None:
    sqs.publish(7)
    sink = ListSink()

    Pipeline(QueueSource(sqs.broker(), idle=0.1), [], sink).run()

    (message,) = sink.rows
    assert message.attributes == {"kind": "order", "number": "7"}


def test_sqs_messages_that_cannot_be_deleted_do_not_keep_the_others(sqs: SqsTestQueue) -> None:
    sqs.publish(*range(12))
    broker = sqs.broker()
    broker.open()
    taken = [*broker.pull(10, 1), *broker.pull(10, 1)]
    broken = [type(each)(each.message, "nonsense") if number == 3 else each for number, each in enumerate(taken)]

    with pytest.raises(SourceError, match=r"1 messages could not be deleted \(ReceiptHandleIsInvalid\)"):
        broker.acknowledge(broken)

    assert sqs.waiting() == 1
    broker.close()


def test_sqs_fault_of_the_service_is_tried_once_more(sqs: SqsTestQueue, monkeypatch: pytest.MonkeyPatch) -> None:
    sqs.publish(*range(3))
    broker: Any = sqs.broker()
    broker.open()
    taken = broker.pull(10, 1)
    real, asked = broker._client.delete_message_batch, []

    def shaky(**options: Any) -> Any:
        asked.append(len(options["Entries"]))
        if len(asked) == 1:
            first, *others = options["Entries"]
            real(**{**options, "Entries": others})
            return {"Failed": [{"Id": first["Id"], "SenderFault": False, "Code": "InternalError"}]}
        return real(**options)

    monkeypatch.setattr(broker._client, "delete_message_batch", shaky)
    broker.acknowledge(taken)

    assert asked == [3, 1]
    assert sqs.waiting() == 0
    broker.close()


def test_sqs_fifo_queue_is_drained_in_order_by_small_chunks(monkeypatch: pytest.MonkeyPatch, warehouse: Path) -> None:
    """No message of a group comes while an earlier one is not deleted."""
    with announced(SqsTestQueue(FifoQueue="true", ContentBasedDeduplication="true", hidden=60), monkeypatch) as queue:
        queue.publish(*range(25), MessageGroupId="one")
        source = QueueSource(queue.broker(), idle=0.1)
        report = Pipeline(source, [Stage(body)], table(), chunk_size=5, ordered=True, load_key="nightly").run()

        assert report.items_read == 25
        with closing(sqlite3.connect(warehouse)) as connection:
            assert [row[0] for row in connection.execute("SELECT id FROM orders ORDER BY rowid")] == list(range(25))
        assert queue.waiting() == 0


@pytest.mark.parametrize("ordered", [False, True])
def test_pubsub_subscription_withholds_messages_if_it_keeps_an_order(
    ordered: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    with announced(PubSubTestQueue(ordered=ordered), monkeypatch) as queue:
        broker = queue.broker()
        broker.open()
        assert broker.withholds() is ordered
        broker.close()


def test_pubsub_pull_waits_at_the_server_for_the_first_message(pubsub: PubSubTestQueue) -> None:
    broker = pubsub.broker()
    broker.open()
    late = threading.Timer(0.1, pubsub.publish, (1,))
    late.start()
    try:
        (found,) = broker.pull(10, 20)
        assert json.loads(found.message.body) == {"id": 1}
        assert list(broker.pull(10, 0.05)) == []
    finally:
        late.join()
        broker.close()


def test_pubsub_acknowledges_many_in_requests_that_the_service_takes(pubsub: PubSubTestQueue) -> None:
    """One request of 5000 receipts would be refused."""
    pubsub.publish(*range(5000))

    sink = ListSink()
    source = QueueSource(pubsub.broker(), idle=60, max_items=5000)  # on a busy machine a request takes its time
    Pipeline(source, [], sink, chunk_size=5000, max_in_flight=5000).run()

    assert len(sink.rows) == 5000
    assert pubsub.waiting() == 0


@pytest.mark.parametrize("kind", ["sqs", "pubsub"])
def test_service_that_does_not_answer_is_an_error_in_time(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    monkeypatch.setenv("PUBSUB_EMULATOR_HOST", "127.0.0.1:1")
    once = {"config_kwargs": {"retries": {"max_attempts": 1}}}  # boto3 tries five times by default
    aws: Any = cloud.aws_connection()
    aws["extra"] |= {"endpoint_url": "http://127.0.0.1:1", **once}
    google = {"conn_type": "google_cloud_platform", "extra": {"is_anonymous": True}}
    for name, value in cloud.as_variables(broker_aws=aws, broker_google=google).items():
        monkeypatch.setenv(name, value)
    broker = {
        "sqs": SqsQueue("http://127.0.0.1:1/1/orders", conn_id="broker_aws"),
        "pubsub": PubSubSubscription("orders", project="shop", conn_id="broker_google"),
    }[kind]
    began = time.monotonic()

    with pytest.raises(SourceError, match="cannot be opened"):
        broker.open()

    assert time.monotonic() - began < 30


@pytest.mark.parametrize(
    ("broker", "module"),
    [
        (lambda: SqsQueue("https://x"), "airflow.providers.amazon.aws.hooks.sqs"),
        (lambda: PubSubSubscription("x", project="y"), "airflow.providers.google.cloud.hooks.pubsub"),
    ],
)
def test_missing_provider_says_what_to_install(broker: Any, module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, module, None)

    with pytest.raises(PlanError, match="pip install apache-airflow-providers-"):
        broker().open()
