"""Shared memory: a place is used again only after it was released, a full arena is no error, arrays stay valid."""

from __future__ import annotations

import gc
import mmap
import os
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_parallel_provider.engine.ipc.arena import Receiver, Sender, create_memory
from tests.support.given import quick

SIZE = 1 << 20


@dataclass
class Pair:
    """Both ends of one arena, as two processes have them: two mappings of one memory."""

    sender: Sender
    receiver: Receiver

    def place(self, data: bytes) -> int | None:
        return self.sender.put(memoryview(data))

    def pass_released_on(self) -> list[int]:
        released = self.receiver.take_released(1000)
        for offset in released:
            self.sender.free(offset)
        return released

    def close(self) -> None:
        self.sender.close()
        self.receiver.close()


def make_pair(size: int = SIZE) -> Pair:
    fd = create_memory(size)
    try:
        return Pair(Sender(mmap.mmap(fd, size)), Receiver(mmap.mmap(fd, size)))
    finally:
        os.close(fd)


@pytest.fixture
def pair() -> Iterator[Pair]:
    made = make_pair()
    yield made
    made.close()


def test_what_is_placed_is_read_where_it_lies(pair: Pair) -> None:
    first, second = pair.place(b"a" * 5000), pair.place(b"b" * 70_000)
    assert first is not None
    assert second is not None

    assert bytes(pair.receiver.buffer(first, 5000)) == b"a" * 5000
    assert bytes(pair.receiver.buffer(second, 70_000)) == b"b" * 70_000
    assert first != second


def test_a_full_arena_takes_nothing_more_until_something_is_released(pair: Pair) -> None:
    half = SIZE // 2
    leases = [pair.receiver.buffer(offset, half) for offset in (pair.place(b"x" * half), pair.place(b"y" * half))]
    assert pair.place(b"z" * half) is None

    del leases[1]
    assert pair.place(b"z" * half) is None, "the sender has not heard of it"
    assert pair.pass_released_on() == [half]

    assert pair.place(b"z" * half) == half
    assert bytes(leases[0])[:3] == b"xxx"


def test_a_buffer_larger_than_the_arena_has_no_place(pair: Pair) -> None:
    assert pair.place(bytes(SIZE + 1)) is None


def test_the_place_used_last_is_used_first_its_pages_are_warm(pair: Pair) -> None:
    places = [pair.place(bytes(3000)) for _ in range(3)]
    for offset in places:
        assert offset is not None
        pair.sender.free(offset)

    assert [pair.place(bytes(4000)) for _ in range(3)] == places[::-1]


def test_a_place_is_released_by_the_last_one_who_refers_to_it(pair: Pair) -> None:
    offset = pair.place(np.arange(1000).tobytes())
    assert offset is not None
    array: Any = np.frombuffer(pair.receiver.buffer(offset, 8000), dtype=np.int64)
    part = array[10:20]

    del array
    assert pair.receiver.released == [], "a view of it lives"
    assert part.tolist() == list(range(10, 20))
    del part

    assert pair.receiver.released == [offset]


def test_a_buffer_in_a_cycle_is_released_by_the_collector(pair: Pair) -> None:
    offset = pair.place(bytes(100))
    assert offset is not None
    holder: list[Any] = [pair.receiver.buffer(offset, 100)]
    holder.append(holder)

    del holder
    gc.collect()

    assert pair.receiver.released == [offset]


def test_releases_are_handed_over_in_portions(pair: Pair) -> None:
    for offset in range(5):
        pair.receiver.buffer(offset * 10, 10)

    assert pair.receiver.take_released(3) == [0, 10, 20]
    assert pair.receiver.take_released(3) == [30, 40]
    assert pair.receiver.take_released(3) == []


def test_arrays_stay_valid_after_both_ends_have_closed() -> None:
    pair = make_pair()
    offset = pair.place(b"k" * 4096)
    assert offset is not None
    array = np.frombuffer(pair.receiver.buffer(offset, 4096), dtype=np.uint8)

    pair.close()

    assert array.tobytes() == b"k" * 4096
    del array


@quick
@given(st.lists(st.integers(1, 60_000), min_size=1, max_size=60), st.randoms(use_true_random=False))
def test_no_place_is_ever_used_while_somebody_holds_it(sizes: list[int], dice: random.Random) -> None:
    """Random sizes come and go in random order; what is held never changes."""
    pair = make_pair(1 << 18)
    held: list[tuple[bytes, Any]] = []
    refused = 0
    for number, size in enumerate(sizes):
        while held and dice.random() < 0.4:
            held.pop(dice.randrange(len(held)))
        if dice.random() < 0.7:
            pair.pass_released_on()
        data = bytes([number % 256]) * size
        offset = pair.place(data)
        if offset is None:
            refused += 1
            continue
        held.append((data, pair.receiver.buffer(offset, size)))
        for expected, lease in held:
            assert bytes(lease) == expected
    del held[:]
    pair.close()

    assert refused < len(sizes)


def test_memory_costs_only_what_was_written() -> None:
    fd = create_memory(1 << 30)
    try:
        assert os.fstat(fd).st_size == 1 << 30
        assert os.fstat(fd).st_blocks == 0
        assert not os.get_inheritable(fd)
    finally:
        os.close(fd)
