"""What the calls of a stage may take: costs, budgets, and the pause that a service asks for. In virtual time."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_parallel_provider.engine.dataflow.allowance import Allowance
from airflow_parallel_provider.engine.dataflow.channel import Channel
from tests.support.fakes import calls


def take_all(channel: Channel) -> list[Any]:
    taken: list[Any] = []
    while dispatch := channel.get(lambda _: 100, block=False):
        taken += [value for bundle in dispatch for value in bundle.values]
    return taken


def test_an_item_costs_what_the_author_says() -> None:
    allowance = Allowance(10.0, cost=len)
    assert allowance.pause(0.0) == 0.0

    assert allowance.take("x" * 30)

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
    allowance = Allowance(budget=10, cost=float)

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
