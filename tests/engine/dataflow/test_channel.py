"""Channel: bounded in items and bytes, cut to what a worker may take, nothing lost and nothing doubled."""

from __future__ import annotations

import itertools
import threading
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from airflow_parallel_provider.engine.dataflow.bundle import Bundle
from airflow_parallel_provider.engine.dataflow.channel import END, MAX_BYTES, Channel
from tests.support.fakes import Sized, batches, calls, taken, up_to, watch_writers
from tests.support.given import quick
from tests.support.sync import WAIT_SECONDS, in_background

ALL = up_to(1 << 30)


def drain(channel: Channel, limit: int = 1 << 30) -> list[Any]:
    """Everything that can be taken now, settled at once."""
    values: list[Any] = []
    while dispatch := channel.get(up_to(limit), block=False):
        values += taken(dispatch)
        channel.settled(sum(len(bundle.values) for bundle in dispatch))
    return values


# -- the bound --------------------------------------------------------------------------------------------------------


def test_what_is_put_comes_out_in_order() -> None:
    channel = Channel(10)

    channel.put(calls(1, 2, 3))
    channel.put(calls(4))

    assert drain(channel) == [1, 2, 3, 4]


def test_a_bundle_larger_than_the_bound_goes_in_piece_by_piece() -> None:
    channel, seen = Channel(4), list[int]()
    writable = watch_writers(channel)

    with in_background(lambda: channel.put(calls(*range(25)))):
        writable.expect_waiter()
        while len(seen) < 25:
            dispatch = channel.get(up_to(3))
            seen += taken(dispatch)

    assert seen == list(range(25))
    assert channel.peak == 4


def test_a_writer_waits_until_there_is_room_and_says_how_long() -> None:
    channel, waited = Channel(2), []
    channel.put(calls(1, 2))
    writable = watch_writers(channel)

    with in_background(lambda: waited.append(channel.put(calls(3)))):
        writable.expect_waiter()
        assert channel.items == 2
        channel.get(ALL)

    assert waited[0] > 0
    assert channel.items == 1
    assert Channel(2).put(calls(1)) == 0.0


def test_writers_sleep_until_half_of_the_places_are_free() -> None:
    channel = Channel(8)
    channel.put(calls(*range(8)))
    writable = watch_writers(channel)
    channel.get(up_to(1))
    assert writable.notified == []  # no thread waits
    channel.put(calls(8))

    with in_background(lambda: channel.put(calls(9))):
        writable.expect_waiter()
        for _ in range(3):
            channel.get(up_to(1))
        assert writable.notified == []
        channel.get(up_to(1))
        assert writable.notified == [4]


def test_batches_are_counted_by_their_items_and_never_torn() -> None:
    channel = Channel(5, batched=True)
    writable = watch_writers(channel)

    with in_background(lambda: channel.put(batches([1, 2], [3, 4], [5, 6]))):
        writable.expect_waiter()
        assert (channel.items, channel.calls) == (4, 2), "the third batch would be the fifth and sixth item"
        first = channel.get(ALL)

    assert taken(first) == [[1, 2], [3, 4]]
    assert taken(channel.get(ALL)) == [[5, 6]]


def test_large_values_wait_although_there_are_places() -> None:
    channel = Channel(100)
    channel.put(calls(Sized(MAX_BYTES // 2)))
    writable = watch_writers(channel)

    with in_background(lambda: channel.put(calls(Sized(MAX_BYTES // 2 + 1)))):
        writable.expect_waiter()
        assert channel.items == 1
        channel.get(ALL)

    assert channel.bytes == MAX_BYTES // 2 + 1


def test_one_call_larger_than_all_bytes_gets_in_alone() -> None:
    channel = Channel(100)

    assert channel.put(calls(Sized(10 * MAX_BYTES))) == 0.0


# An earlier version took a bundle of any size whole into an empty channel: it checked only the number of calls.
def test_a_bundle_of_many_large_calls_stays_within_the_bound_in_bytes() -> None:
    channel = Measured(100)
    taken_calls = 0

    with in_background(lambda: put_all(channel, calls(*[Sized(MAX_BYTES // 4) for _ in range(12)]))):
        while channel.get(up_to(1)) is not END:
            taken_calls += 1
            channel.settled(1)

    assert taken_calls == 12
    assert channel.largest_bytes == MAX_BYTES


class Measured(Channel):
    """Notes the most bytes it ever held, at the moment they come in: a reader's look is too late."""

    largest_bytes = 0

    def _append(self, bundle: Bundle) -> None:
        super()._append(bundle)
        self.largest_bytes = max(self.largest_bytes, self.bytes)


def put_all(channel: Channel, bundle: Bundle) -> None:
    channel.put(bundle)
    channel.close()


def test_widening_lets_a_waiting_writer_in() -> None:
    channel = Channel(1)
    channel.put(calls(1))
    writable = watch_writers(channel)

    with in_background(lambda: channel.put(calls(2))):
        writable.expect_waiter()
        channel.grow(2)

    assert channel.items == 2


def test_the_bound_never_shrinks() -> None:
    channel = Channel(8)

    channel.grow(3)

    assert channel.capacity == 8


# -- taking -----------------------------------------------------------------------------------------------------------


def test_the_limit_depends_on_what_waits_and_a_bundle_is_cut_to_it() -> None:
    channel, asked = Channel(100), []
    channel.put(calls(*range(10)))

    dispatch = channel.get(lambda waiting: asked.append(waiting) or 4)  # type: ignore[func-returns-value]

    assert asked == [10]
    assert taken(dispatch) == [0, 1, 2, 3]
    assert (channel.items, channel.calls) == (6, 6)


def test_a_dispatch_may_hold_several_bundles() -> None:
    channel = Channel(100)
    for value in range(5):
        channel.put(calls(value))

    dispatch = channel.get(up_to(3))

    assert dispatch is not None
    assert [bundle.values for bundle in dispatch] == [[0], [1], [2]]


def test_a_limit_of_nothing_is_taken_for_one() -> None:
    channel = Channel(100)
    channel.put(calls(1, 2))

    assert taken(channel.get(up_to(0))) == [1]


def test_not_blocking_returns_none_when_there_is_nothing() -> None:
    assert Channel(1).get(ALL, block=False) is None


def test_an_empty_channel_asks_for_what_its_writer_has_collected() -> None:
    channel, stock = Channel(10), [[calls(1, 2)], []]
    channel.refill = lambda: stock.pop(0)

    assert taken(channel.get(ALL, block=False)) == [1, 2]
    assert channel.get(ALL, block=False) is None


@quick
@given(st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), max_size=30), st.booleans())
def test_counters_agree_with_what_is_in_it(steps: list[tuple[int, int]], batched: bool) -> None:
    channel, number, inside = Channel(1 << 20, batched=batched), itertools.count(), 0
    put: list[Any] = []
    got: list[Any] = []
    for size, most in steps:
        values: list[Any] = [next(number) for _ in range(size)]
        channel.put(batches(*[values[at : at + 2] for at in range(0, size, 2)]) if batched else calls(*values))
        put += values
        inside += size
        for part in taken(channel.get(up_to(most))):
            got += part if batched else [part]
        inside = len(put) - len(got)
        assert channel.items == inside
        assert channel.calls == sum(len(bundle.values) for bundle in channel._bundles)
        assert channel.bytes == sum(bundle.bytes for bundle in channel._bundles)
    for part in drain(channel):
        got += part if batched else [part]

    assert got == put
    assert (channel.items, channel.calls, channel.bytes) == (0, 0, 0)


def test_many_writers_and_readers_lose_nothing_and_double_nothing() -> None:
    channel, got, lock = Channel(7), [], threading.Lock()
    writers = [threading.Thread(target=write, args=(channel, number * 500), daemon=True) for number in range(4)]

    def read() -> None:
        while (dispatch := channel.get(up_to(3))) is not END:
            values = taken(dispatch)
            channel.settled(len(values))
            with lock:
                got.extend(values)

    readers = [threading.Thread(target=read, daemon=True) for _ in range(4)]
    for thread in [*writers, *readers]:
        thread.start()
    for thread in writers:
        thread.join(WAIT_SECONDS)
    channel.close()
    for thread in readers:
        thread.join(WAIT_SECONDS)

    assert sorted(got) == list(range(2000))
    assert channel.peak <= 7


def write(channel: Channel, first: int) -> None:
    for at in range(first, first + 500, 5):
        channel.put(calls(*range(at, at + 5)))
