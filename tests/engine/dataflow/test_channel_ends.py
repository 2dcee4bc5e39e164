"""Channel: three ways to end, attempts that come back, workers that leave, a rate."""

from __future__ import annotations

import threading

import pytest

from airflow_parallel_provider.engine.dataflow import channel as channel_module
from airflow_parallel_provider.engine.dataflow.allowance import Allowance
from airflow_parallel_provider.engine.dataflow.channel import END, Channel, ChannelBroken
from tests.support.fakes import FakeTime, batches, calls, taken, up_to, watch_readers, watch_writers
from tests.support.sync import WAIT_SECONDS, in_background

ALL = up_to(1 << 30)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> FakeTime:
    """The time channels see."""
    fake = FakeTime()
    monkeypatch.setattr(channel_module, "time", fake)
    return fake


# -- the three ends ---------------------------------------------------------------------------------------------------


def test_a_closed_channel_is_drained_and_then_ends() -> None:
    channel = Channel(10)
    channel.put(calls(1))
    channel.close()

    assert taken(channel.get(ALL)) == [1]
    channel.settled(1)
    assert channel.get(ALL) is END
    assert channel.get(ALL, block=False) is END


def test_a_closed_channel_does_not_end_while_a_call_is_out_that_may_come_back() -> None:
    channel = Channel(10)
    channel.put(calls("late"))
    dispatch = channel.get(ALL)
    channel.close()
    assert channel.get(ALL, block=False) is None
    readable, got = watch_readers(channel), []

    with in_background(lambda: got.append(channel.get(ALL))):
        readable.expect_waiter()
        assert dispatch is not None
        channel.requeue(dispatch[0])
        channel.settled(1)

    assert taken(got[0]) == ["late"]
    channel.settled(1)
    assert channel.get(ALL) is END


def test_every_waiting_reader_learns_of_the_end() -> None:
    channel, got = Channel(10), []
    channel.put(calls(1))
    channel.get(ALL)
    channel.close()
    threads = [threading.Thread(target=lambda: got.append(channel.get(ALL)), daemon=True) for _ in range(3)]
    for thread in threads:
        thread.start()

    channel.settled(1)

    for thread in threads:
        thread.join(WAIT_SECONDS)
    assert [dispatch is END for dispatch in got] == [True, True, True]


@pytest.mark.parametrize("action", ["put", "take"])
def test_a_broken_channel_raises_for_those_who_wait_and_those_who_come(action: str) -> None:
    channel = Channel(1)
    if action == "put":
        channel.put(calls(1))
    condition = watch_writers(channel) if action == "put" else watch_readers(channel)

    def act() -> None:
        with pytest.raises(ChannelBroken):
            channel.put(calls(2)) if action == "put" else channel.get(ALL)

    with in_background(act):
        condition.expect_waiter()
        channel.break_()
    act()


# -- attempts that come back ------------------------------------------------------------------------------------------


def test_what_comes_back_waits_until_it_is_due_and_in_order_of_that(clock: FakeTime) -> None:
    channel = Channel(10)
    channel.requeue(calls("late"), 5.0)
    channel.requeue(calls("soon"), 1.0)

    assert channel.get(ALL, block=False) is None
    assert channel.next_due() == pytest.approx(1.0)
    clock.advance(1.0)
    assert taken(channel.get(ALL, block=False)) == ["soon"]
    assert channel.get(ALL, block=False) is None
    assert channel.next_due() == pytest.approx(4.0)
    clock.advance(4.5)
    assert channel.next_due() == 0.0
    assert taken(channel.get(ALL, block=False)) == ["late"]
    assert channel.next_due() is None


def test_what_is_due_goes_before_what_waits_and_does_not_take_room(clock: FakeTime) -> None:
    channel = Channel(2)
    channel.put(calls(1, 2))
    channel.requeue(calls("again"))

    assert channel.items == 2
    assert taken(channel.get(ALL, block=False)) == ["again"]


def test_what_is_not_due_does_not_hold_up_what_waits(clock: FakeTime) -> None:
    channel = Channel(2)
    channel.requeue(calls("later"), 60.0)
    channel.put(calls(1))

    assert taken(channel.get(ALL, block=False)) == [1]


def test_equal_due_times_keep_their_order(clock: FakeTime) -> None:
    channel = Channel(2)
    for value in range(5):
        channel.requeue(calls(value))

    assert [taken(channel.get(ALL, block=False)) for _ in range(5)] == [[0], [1], [2], [3], [4]]


def test_a_waiting_reader_is_woken_by_what_comes_back() -> None:
    channel, got = Channel(1), []
    readable = watch_readers(channel)

    with in_background(lambda: got.append(taken(channel.get(ALL)))):
        readable.expect_waiter()
        channel.requeue(calls("again"), 0.0)

    assert got == [["again"]]


# -- workers that leave -----------------------------------------------------------------------------------------------


def test_a_retired_worker_that_waits_ends_and_the_others_stay() -> None:
    channel, got = Channel(1), []
    readable = watch_readers(channel)

    def wait() -> None:
        got.append(channel.get(ALL))

    threads = [threading.Thread(target=wait, daemon=True) for _ in range(2)]
    for thread in threads:
        thread.start()
    readable.expect_waiter()
    channel.retire(1)
    channel.put(calls("work"))
    for thread in threads:
        thread.join(WAIT_SECONDS)

    assert sorted(taken(dispatch) for dispatch in got) == [[], ["work"]]
    assert channel.retiring == 0


def test_a_retired_worker_ends_even_if_there_is_work() -> None:
    channel = Channel(5)
    channel.put(calls(1))
    channel.retire(1)

    assert channel.get(ALL) is END
    assert taken(channel.get(ALL)) == [1]


def test_as_many_workers_end_as_were_retired() -> None:
    channel = Channel(5)
    channel.retire(2)

    assert [channel.take_retirements() for _ in range(4)] == [1, 1, 0, 0]


def test_who_only_looks_is_not_the_one_to_leave() -> None:
    """A process worker with calls in flight must finish them first."""
    channel = Channel(5)
    channel.retire(1)

    assert channel.get(ALL, block=False) is None
    assert channel.retiring == 1


# -- the rate ---------------------------------------------------------------------------------------------------------


def test_a_rate_is_kept_whatever_is_asked_for(clock: FakeTime) -> None:
    channel, gone = Channel(100, allowance=Allowance(10.0)), []
    channel.put(calls(*range(50)))

    for _ in range(100):
        dispatch = channel.get(ALL, block=False)
        gone.append(len(taken(dispatch)) if dispatch else 0)
        clock.advance(0.02)

    assert sum(gone) == 20, "two seconds"
    assert max(gone) == 1


def test_batches_are_charged_by_their_items(clock: FakeTime) -> None:
    channel = Channel(100, batched=True, allowance=Allowance(10.0, batched=True))
    channel.put(batches([1, 2, 3, 4, 5], [6]))

    assert taken(channel.get(ALL, block=False)) == [[1, 2, 3, 4, 5]]
    clock.advance(0.4)
    assert channel.get(ALL, block=False) is None
    clock.advance(0.11)
    assert taken(channel.get(ALL, block=False)) == [[6]]


def test_a_second_attempt_is_charged_too(clock: FakeTime) -> None:
    channel = Channel(100, allowance=Allowance(10.0))
    channel.requeue(calls(1))
    channel.requeue(calls(2))

    assert taken(channel.get(ALL, block=False)) == [1]
    assert channel.get(ALL, block=False) is None


class CountingCondition(threading.Condition):
    """Notes how long a thread wanted to wait, and closes the channel instead."""

    def __init__(self, channel: Channel) -> None:
        super().__init__(channel._lock)
        self.channel = channel
        self.timeouts: list[float | None] = []

    def wait(self, timeout: float | None = None) -> bool:
        self.timeouts.append(timeout)
        self.channel.closed = len(self.timeouts) == 3
        return True


# An earlier version took the pause "now" (0.0) of the rate for the time to wait when there is nothing to get, so each
# starved worker of a stage with a rate_limit looped without waiting.
@pytest.mark.parametrize("rate", [None, 10.0])
def test_a_starved_worker_waits_until_it_is_woken(rate: float | None) -> None:
    channel = Channel(10, allowance=Allowance(rate))
    condition = channel._readable = CountingCondition(channel)

    assert channel.get(ALL) is END

    assert condition.timeouts == [None, None, None]
