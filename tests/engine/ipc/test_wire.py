"""Frames: whatever is sent arrives, in any pieces, in shared memory or in the stream, and memory is given back."""

from __future__ import annotations

import mmap
import random
import socket
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_parallel_provider.engine.ipc import wire
from airflow_parallel_provider.engine.ipc.arena import SHARED_FROM, Receiver, Sender
from tests.engine.ipc.test_arena import SIZE, make_pair
from tests.support.given import quick

SIZES = st.sampled_from([0, 1, 100, SHARED_FROM - 1, SHARED_FROM, SHARED_FROM + 1, 200_000])


class Line:
    """A task process and a worker, connected: a socket pair and an arena per direction."""

    def __init__(self, size: int = SIZE) -> None:
        self.left, self.right = socket.socketpair()
        self.left.setblocking(False)
        self.right.setblocking(False)
        forth, back = make_pair(size), make_pair(size)
        self.pairs = (forth, back)
        self.forth, self.back = forth, back
        self.left_out = wire.Outbox(forth.sender, back.receiver)
        self.left_in = wire.Inbox(forth.sender, back.receiver)
        self.right_out = wire.Outbox(back.sender, forth.receiver)
        self.right_in = wire.Inbox(back.sender, forth.receiver)

    def send(self, sequence: int, payload: bytes, buffers: list[bytes]) -> None:
        views = [memoryview(buffer) for buffer in buffers]
        self.left_out.add(self.left_out.frame(wire.WORK, sequence, payload, views))

    def transfer(self) -> wire.Frame:
        """Flush and read in turns, as the task process does, until a frame is whole."""
        for _ in range(10_000):
            self.left_out.flush(self.left)
            frame = self.right_in.poll(self.right)
            if frame is not None:
                return frame
        raise AssertionError("the frame never came")

    def answer(self, sequence: int) -> None:
        """An empty frame back; it carries the places that are free again."""
        self.right_out.add(self.right_out.frame(wire.DONE, sequence, b""))
        self.right_out.flush(self.right)
        assert self.left_in.poll(self.left) is not None

    def close(self) -> None:
        for sock in (self.left, self.right):
            sock.close()
        for pair in self.pairs:
            pair.close()


@pytest.fixture
def line() -> Iterator[Line]:
    made = Line()
    yield made
    made.close()


def contents(frame: wire.Frame) -> tuple[int, int, bytes, list[bytes]]:
    return frame.kind, frame.sequence, bytes(frame.payload), [bytes(buffer) for buffer in frame.buffers]


@quick
@given(st.lists(st.tuples(SIZES, st.lists(SIZES, max_size=5)), min_size=1, max_size=5), st.integers(0, 999))
def test_frames_arrive_whole_however_the_bytes_are_cut(frames: list[tuple[int, list[int]]], seed: int) -> None:
    """All bytes of several frames, pushed through the socket in random pieces."""
    line, dice = Line(), random.Random(seed)
    sent = []
    for number, (size, buffers) in enumerate(frames):
        frame = (wire.WORK, number, dice.randbytes(size), [dice.randbytes(length) for length in buffers])
        sent.append(frame)
        line.send(frame[1], frame[2], frame[3])
    stream = b"".join(bytes(part) for part in line.left_out._parts)
    received: list[wire.Frame] = []

    while len(received) < len(sent):
        length = dice.choice([1, 3, 17, 18, 19, 100, 5000, 65_536, 70_000])
        stream = stream[line.left.send(stream[:length]) :]
        while (frame_read := line.right_in.poll(line.right)) is not None:
            received.append(frame_read)

    assert [contents(frame) for frame in received] == sent
    del received, frame_read
    line.close()


def test_large_buffers_do_not_travel_through_the_socket(line: Line) -> None:
    line.send(1, b"payload", [b"x" * SHARED_FROM, b"y" * (SHARED_FROM - 1)])

    assert sum(map(len, line.left_out._parts)) < SHARED_FROM + 200
    assert contents(line.transfer()) == (wire.WORK, 1, b"payload", [b"x" * SHARED_FROM, b"y" * (SHARED_FROM - 1)])


def test_with_a_full_arena_buffers_travel_in_the_stream_and_arrive_all_the_same(line: Line) -> None:
    sent = [bytes([number]) * (SIZE // 4) for number in range(7)]
    line.send(1, b"", sent)

    frame = line.transfer()

    assert contents(frame)[3] == sent
    kinds = [type(buffer) is bytearray for buffer in frame.buffers]
    assert kinds == [False] * 4 + [True] * 3
    del frame


def test_places_come_back_with_the_next_frame_and_are_used_again(line: Line) -> None:
    for number in range(20):
        line.send(number, b"", [bytes([number]) * (SIZE // 2)])
        frame = line.transfer()
        assert type(frame.buffers[0]) is not bytearray, "the place of the last one is free again"
        assert bytes(frame.buffers[0])[:1] == bytes([number])
        del frame
        line.answer(number)


def test_what_is_still_held_is_not_overwritten(line: Line) -> None:
    kept = []
    for number in range(6):
        line.send(number, b"", [bytes([number]) * (SIZE // 4)])
        kept.append(line.transfer())
        line.answer(number)

    assert [bytes(frame.buffers[0]) for frame in kept] == [bytes([number]) * (SIZE // 4) for number in range(6)]
    del kept


def test_both_sides_may_send_much_at_once(line: Line) -> None:
    """Neither blocks: each reads while it still has bytes to send."""
    line.send(1, b"f" * 3_000_000, [])
    line.right_out.add(line.right_out.frame(wire.DONE, 1, b"b" * 3_000_000))
    forth = back = None

    for _ in range(10_000):
        line.left_out.flush(line.left)
        line.right_out.flush(line.right)
        forth = forth or line.right_in.poll(line.right)
        back = back or line.left_in.poll(line.left)
        if forth and back:
            break

    assert forth is not None
    assert back is not None
    assert (len(forth.payload), len(back.payload)) == (3_000_000, 3_000_000)


def test_the_other_side_gone_is_the_end_of_file(line: Line) -> None:
    line.send(1, b"never whole", [])
    line.left.send(bytes(line.left_out._parts[0])[:10])
    assert line.right_in.poll(line.right) is None
    line.left.close()

    with pytest.raises(EOFError):
        line.right_in.poll(line.right)


@pytest.mark.parametrize("by_value", [False, True])
def test_values_are_dumped_and_loaded_with_their_arrays_out_of_band(line: Line, by_value: bool) -> None:
    value = {"large": np.arange(50_000), "small": np.ones(3), "text": "x" * 100}

    payload, buffers = wire.dump(value, by_value=by_value)
    assert len(payload) < 2000
    line.left_out.add(line.left_out.frame(wire.WORK, 1, payload, buffers))
    frame = line.transfer()
    loaded: Any = frame.load()
    del frame

    assert loaded["text"] == value["text"]
    assert np.array_equal(loaded["large"], value["large"])
    assert np.array_equal(loaded["small"], value["small"])
    assert loaded["large"].flags.writeable
    del loaded
    assert line.forth.receiver.released == [0]


# An earlier version raised struct.error: a frame's header had 16 bits for the number of its buffers, and each array
# is one, however small. In a worker that error ended the process, and a good result became a dead letter.
def test_a_message_may_hold_any_number_of_small_arrays() -> None:
    memory = mmap.mmap(-1, 4096)
    outbox = wire.Outbox(Sender(memory), Receiver(memory))
    buffer = memoryview(b"12345678")

    parts = outbox.frame(wire.DONE, 1, b"payload", [buffer] * 70_000)

    assert sum(map(len, parts)) > 70_000 * 8


def test_many_buffers_arrive() -> None:
    line = Line()
    sent = [number.to_bytes(4, "big") for number in range(3000)]
    line.send(1, b"", sent)

    assert contents(line.transfer())[3] == sent
    line.close()
