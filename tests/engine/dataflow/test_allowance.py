"""What the calls of a stage may take: costs, budgets, and the pause that a service asks for. In virtual time."""

from __future__ import annotations

from typing import Any
from unittest.mock import Mock

import pytest

from airflow_parallel_provider.engine.dataflow.allowance import Allowance
from airflow_parallel_provider.engine.dataflow.channel import Channel
from airflow_parallel_provider.engine.dataflow.source_reader import SourceReader
from airflow_parallel_provider.engine.interfaces.source import as_source
from tests.support.fakes import calls


def take_all(channel: Channel) -> list[Any]:
    taken: list[Any] = []
    while dispatch := channel.get(lambda _: 100, block=False):
        taken += [value for bundle in dispatch for value in bundle.values]
    return taken


def test_an_item_costs_what_the_author_says() -> None:
    allowance = Allowance(10.0, cost=len)
    assert allowance.pause(0.0) == 0.0

    assert allowance.take(allowance.cost_of("x" * 30))

    assert allowance.pause(0.0) == pytest.approx(3.0)
    assert allowance.pause(3.0) == 0.0


def test_a_batch_costs_what_its_items_do() -> None:
    assert Allowance(10.0, cost=len, batched=True).cost_of(["ab", "c"]) == 3.0
    assert Allowance(10.0, batched=True).cost_of(["ab", "c"]) == 2.0


@pytest.mark.parametrize("cost", [lambda item: -1, lambda item: float("nan"), lambda item: "much", lambda item: 1 / 0])
def test_a_cost_that_fails_is_told_and_counts_1(cost: Any) -> None:
    told: list[BaseException] = []

    assert Allowance(10.0, cost=cost, on_bad_cost=told.append).cost_of("item") == 1.0
    assert len(told) == 1


def test_a_budget_is_never_passed() -> None:
    allowance = Allowance(budget=10)

    assert [allowance.take(each) for each in (4, 4, 4, 2)] == [True, True, False, True]
    assert (allowance.spent, allowance.refused) == (10.0, 4.0)


def test_what_was_taken_and_not_made_is_given_back() -> None:
    channel = Channel(100, allowance=Allowance(budget=3))
    channel.put(calls(1, 2, 3, 4, 5))
    (one, *_) = dispatch = channel.get(lambda _: 100, block=False) or []
    assert sum(len(bundle.values) for bundle in dispatch) == 3
    assert channel.get(lambda _: 100, block=False) is None
    assert channel.allowance.refused == 1.0

    channel.requeue(one, made=False)
    channel.settled(3)

    assert channel.allowance.refused is None
    assert take_all(channel) == one.values
    assert channel.allowance.refused == 1.0


def test_another_attempt_is_paid_for() -> None:
    channel = Channel(100, allowance=Allowance(budget=3))
    channel.put(calls(1, 2))
    dispatch = channel.get(lambda _: 1, block=False) or []

    channel.requeue(dispatch[0])

    assert take_all(channel) == [1, 2]
    assert channel.allowance.spent == 3


def test_calls_that_come_back_together_are_taken_one_by_one() -> None:
    channel = Channel(100, allowance=Allowance(budget=2))
    channel.requeue(calls(1, 2, 3))

    assert take_all(channel) == [1, 2]
    assert channel.next_due() == 0.0


def test_a_pause_holds_for_all_calls() -> None:
    allowance = Allowance()
    assert not allowance.limited

    allowance.hold(50.0)
    allowance.hold(20.0)

    assert allowance.limited
    assert [allowance.pause(now) for now in (0.0, 49.0, 50.0)] == [50.0, 1.0, 0.0]


def test_cost_is_called_once_an_item_and_never_under_the_lock_of_the_channel() -> None:
    called: list[tuple[int, bool]] = []

    def cost(item: int) -> float:
        called.append((item, channel._lock.locked()))
        return 1.0

    channel = Channel(100, allowance=Allowance(budget=4, cost=cost))
    channel.put(calls(1, 2, 3))
    (first, *rest) = channel.get(lambda _: 3, block=False) or []
    channel.requeue(first)
    for each in rest:
        channel.requeue(each, made=False)
    channel.settled(3)

    assert sorted(take_all(channel)) == [1, 2, 3]
    assert called == [(1, False), (2, False), (3, False)]
    assert channel.allowance.spent == 4.0


def test_a_channel_that_weighs_its_calls_takes_none_from_the_reader() -> None:
    channel = Channel(100, allowance=Allowance(budget=4))

    reader = SourceReader(as_source(range(3)), Mock(), Mock(), Mock(), Mock(), chunk_size=10, stages=1, channel=channel)

    assert channel.refill is None
    assert reader.items_read == 0
