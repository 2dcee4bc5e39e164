"""When a queue counts as read: ``max_items``, ``max_seconds``, ``idle``, a stop. The clock is the test's own."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from airflow_parallel_provider import Broker, ListSink, Message, Pipeline, QueueSource, RunFailed, Stage
from airflow_parallel_provider.errors import SourceError
from airflow_parallel_provider.sources.queue import queue_source
from airflow_parallel_provider.sources.queue.broker import Delivery

pytestmark = pytest.mark.airflow


class Clock:
    """Time that passes when the test moves it."""

    def __init__(self) -> None:
        self.now = 1_000.0
        self.after_look = 0.0
        """What passes with each look at it."""

    def monotonic(self) -> float:
        now, self.now = self.now, self.now + self.after_look
        return now


class Endless(Broker):
    """Has a message whenever it is asked, for which it takes its time."""

    def __init__(self, clock: Clock, takes: float, most: int = 10**9) -> None:
        self.clock = clock
        self.takes = takes
        self.left = most
        self.asked: list[tuple[int, float]] = []
        self._number = itertools.count()

    def name(self) -> str:
        return "endless"

    def open(self) -> None:
        """Nothing."""

    def pull(self, most: int, seconds: float) -> Sequence[Delivery]:
        self.asked.append((most, seconds))
        self.clock.now += self.takes
        if not self.left:
            return []
        self.left -= 1
        return [Delivery(Message(str(next(self._number)), b"1"), None)]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(queue_source, "time", SimpleNamespace(monotonic=made.monotonic))
    return made


def read(broker: Broker, **options: Any) -> int:
    source = QueueSource(broker, **options)
    source.prepare()
    return sum(1 for _ in source)


def test_no_more_is_read_after_max_seconds(clock: Clock) -> None:
    broker = Endless(clock, takes=1)

    assert read(broker, idle=100, max_seconds=5) == 5
    assert [seconds for _, seconds in broker.asked] == [1, 1, 1, 1, 1]


def test_no_pull_outlives_max_seconds_or_idle(clock: Clock) -> None:
    by_limit, by_idle = Endless(clock, takes=0.5), Endless(clock, takes=0.5, most=1)

    assert read(by_limit, idle=100, max_seconds=0.75) == 2
    assert read(by_idle, idle=0.75, max_seconds=100) == 1
    assert [seconds for _, seconds in by_limit.asked] == [0.75, 0.25]
    assert [seconds for _, seconds in by_idle.asked] == [0.75, 0.75, 0.25]


def test_no_more_is_read_than_max_items(clock: Clock) -> None:
    broker = Endless(clock, takes=1)

    assert read(broker, idle=100, max_items=3) == 3
    assert [most for most, _ in broker.asked] == [3, 2, 1]


def test_a_pull_asks_for_so_many_at_most(clock: Clock) -> None:
    broker = Endless(clock, takes=1, most=1)

    assert read(broker, idle=1) == 1
    assert {most for most, _ in broker.asked} == {500}


@pytest.mark.parametrize("limits", [{"idle": 0.5}, {"idle": 100, "max_seconds": 0.5}], ids=["idle", "max_seconds"])
def test_queue_is_asked_once_however_late_it_is(clock: Clock, limits: dict[str, float]) -> None:
    """A process that the machine holds up is not to take a full queue for an empty one."""
    clock.after_look = 10
    broker = Endless(clock, takes=0, most=3)

    assert read(broker, **limits) > 0


def test_seconds_without_a_message_count_from_the_last_one(clock: Clock) -> None:
    broker = Endless(clock, takes=0.9, most=10)

    assert read(broker, idle=1) == 10


def test_interrupted_source_ends_with_its_next_message(clock: Clock) -> None:
    source = QueueSource(Endless(clock, takes=0), idle=100)
    source.prepare()
    items = iter(source)
    next(items)

    source.interrupt()

    with pytest.raises(SourceError, match="torn down"):
        next(items)


def test_source_that_was_interrupted_reads_again_when_it_is_prepared(clock: Clock) -> None:
    source = QueueSource(Endless(clock, takes=0), idle=100)
    source.prepare()
    source.interrupt()

    source.prepare()

    assert next(iter(source)).id == "0"


def test_failed_run_does_not_wait_until_the_queue_is_idle() -> None:
    class Silent(Endless):
        def __init__(self) -> None:
            super().__init__(Clock(), takes=0, most=1)
            self.reader: threading.Thread | None = None

        def pull(self, most: int, seconds: float) -> Sequence[Delivery]:
            self.reader = threading.current_thread()
            return super().pull(most, seconds)

    def broken(message: Message) -> None:
        raise ValueError("not today")

    broker = Silent()

    with pytest.raises(RunFailed, match="not today"):
        Pipeline(QueueSource(broker, idle=3600), [Stage(broken)], ListSink(), chunk_size=1).run()

    assert broker.reader is not None
    broker.reader.join(30)
    assert not broker.reader.is_alive()
