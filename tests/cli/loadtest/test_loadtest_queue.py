"""``loadtest`` with a queue: what it reads stays there."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from airflow_parallel_provider import Broker, ListSink, Message, Pipeline, PlanError, QueueSource
from airflow_parallel_provider.cli.loadtest.plan import prepare
from airflow_parallel_provider.cli.loadtest.settings import LoadTestSettings
from airflow_parallel_provider.engine.interfaces.records import LoadSpec
from airflow_parallel_provider.sources.queue.broker import Delivery
from tests.cli import pipelines
from tests.cli.loadtest.test_loadtest_command import load_test


class Lent(Broker):
    """A queue that keeps an order: what is out holds the rest back, and comes again when it is let go."""

    def __init__(self, *numbers: int) -> None:
        self.waiting = [Delivery(Message(str(number), b"1"), number) for number in numbers]
        self.out: list[Delivery] = []
        self.acknowledged: list[Delivery] = []
        self.is_open = False

    def name(self) -> str:
        return "lent"

    def open(self) -> None:
        self.is_open = True

    def pull(self, most: int, seconds: float) -> list[Delivery]:
        given, self.waiting = self.waiting[:most], self.waiting[most:]
        self.out += given
        return given

    def acknowledge(self, deliveries: Sequence[Delivery]) -> None:
        self.acknowledged += deliveries

    def withholds(self) -> bool:
        return True

    def close(self) -> None:
        self.waiting, self.out, self.is_open = self.out + self.waiting, [], False


@pytest.mark.parametrize("options", [[], ["--real-sink"]], ids=["counted", "real"])
def test_queue_is_read_once_and_keeps_its_messages(
    options: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    broker = Lent(*range(7))
    pipeline = Pipeline(QueueSource(broker, idle=0.01), [], ListSink(), chunk_size=2)
    monkeypatch.setattr(pipelines, "of_a_queue", pipeline, raising=False)

    code, found = load_test(capsys, "of_a_queue", "--items", "100", *options)

    assert code == 0, found["problems"]
    assert found["report"]["items_read"] == 7
    assert found["rounds"] == 1
    assert "nothing was acknowledged: the messages that were read are in the queue again" in found["notes"]
    assert not broker.acknowledged
    assert not broker.is_open
    assert sorted(each.receipt for each in broker.waiting) == list(range(7))


def test_queue_is_let_go_when_the_sink_refuses_to_begin() -> None:
    class Refusing(ListSink):
        def prepare(self, spec: LoadSpec) -> None:
            raise PlanError("sink", 1, "not today")

    broker = Lent(1)
    pipeline = Pipeline(QueueSource(broker, idle=0.01), [], Refusing())

    with pytest.raises(PlanError, match="not today"):
        prepare(pipeline, LoadTestSettings(items=10, real_sink=True)).pipeline.run()

    assert not broker.is_open


def test_other_sources_are_read_over_and_over_and_no_acknowledgement_is_spoken_of(
    capsys: pytest.CaptureFixture[str],
) -> None:
    _, found = load_test(capsys, "threads_only", "--items", "200")

    assert found["rounds"] > 1
    assert not [note for note in found["notes"] if "acknowledged" in note]
