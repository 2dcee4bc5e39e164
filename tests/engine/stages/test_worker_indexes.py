"""Who has which index: never two workers at a time, but for a successor."""

from __future__ import annotations

import threading

import pytest

from airflow_parallel_provider.engine.dataflow.channel import Channel, ChannelBroken
from airflow_parallel_provider.engine.stages.worker_indexes import WorkerIndexes
from tests.support.sync import in_background


def test_the_lowest_that_is_free() -> None:
    indexes = WorkerIndexes(3)
    assert [indexes.take() for _ in range(3)] == [0, 1, 2]

    indexes.give_back(2)
    indexes.give_back(0)

    assert [indexes.take() for _ in range(2)] == [0, 2]


def test_a_successor_holds_the_index_after_its_predecessor() -> None:
    indexes = WorkerIndexes(2)
    assert indexes.share(indexes.take()) == 0

    indexes.give_back(0)

    assert indexes.take() == 1


def test_a_new_worker_waits_for_the_one_that_leaves() -> None:
    indexes, began, taken = WorkerIndexes(1), threading.Event(), []
    indexes.take()

    def begin() -> None:
        began.set()
        taken.append(indexes.take())

    with in_background(begin):
        assert began.wait(30)
        assert not taken
        indexes.give_back(0)

    assert taken == [0]


def test_a_run_that_is_torn_down_wakes_it() -> None:
    indexes = WorkerIndexes(1)
    indexes.take()

    def begin() -> None:
        with pytest.raises(ChannelBroken):
            indexes.take()

    with in_background(begin):
        indexes.break_()


def test_a_stage_that_grows_again_keeps_those_that_were_to_leave() -> None:
    channel = Channel(10)
    channel.retire(3)

    assert channel.take_retirements(2) == 2
    assert channel.take_retirements(5) == 1
    assert channel.take_retirements(1) == 0
    assert not channel.take_retirements()
