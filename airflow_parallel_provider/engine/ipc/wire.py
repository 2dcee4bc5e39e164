# SPDX-License-Identifier: Apache-2.0
"""Frames on the socket between the task process and a worker process.

A frame is a header, a table, a pickle (protocol 5) and out-of-band buffers. The table holds the
length of each buffer and its offset in shared memory, or that it follows in the frame; then the offsets of the other
direction's shared memory that are free again. The task process never blocks on a send: while it has bytes left to send
it also reads. Otherwise it and a worker process that is blocked on sending a large result would wait for each other.
"""

from __future__ import annotations

import pickle
import socket
import struct
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from airflow_parallel_provider.engine.ipc.arena import SHARED_FROM, Receiver, Sender

HEADER: Final = struct.Struct("<BIHIQ")  # kind, buffers, offsets freed, sequence number, length of the pickle
BUFFER: Final = struct.Struct("<Qq")  # length, offset in shared memory or INLINE
OFFSET: Final = struct.Struct("<Q")
INLINE: Final = -1

WORK, READY, SETUP_FAILED, DONE, UNREADABLE, LOG, TEARDOWN_FAILED = range(1, 8)

SOCKET_BUFFER: Final = 1 << 19
"""Bytes the kernel buffers per direction: a message of ordinary size needs no second wake-up."""

_READ_SIZE: Final = 1 << 16
_MAX_PARTS: Final = 64  # far below IOV_MAX
_MAX_FREED: Final = 1000  # in one frame

Part = bytes | bytearray | memoryview


@dataclass(slots=True)
class Frame:
    """One message."""

    kind: int
    sequence: int
    payload: Part
    buffers: list[Any]

    def load(self) -> Any:
        """Unpickle. The objects' own code may raise anything."""
        return pickle.loads(self.payload, buffers=self.buffers)  # noqa: S301 - both ends are this run's own processes


def dump(value: Any, *, by_value: bool = False) -> tuple[Part, list[memoryview]]:
    """Pickle with out-of-band buffers.

    :param by_value: carry classes and functions that the other side cannot import (DAG file) inside the message.
    """
    buffers: list[pickle.PickleBuffer] = []
    if by_value:
        import cloudpickle

        data = cloudpickle.dumps(value, protocol=5, buffer_callback=buffers.append)
    else:
        data = pickle.dumps(value, protocol=5, buffer_callback=buffers.append)
    return data, [buffer.raw() for buffer in buffers]


class Outbox:
    """Builds frames, and keeps the bytes that a non-blocking socket has not taken yet."""

    def __init__(self, sender: Sender, receiver: Receiver) -> None:
        self._sender = sender
        self._receiver = receiver
        self._parts: deque[memoryview] = deque()

    def __bool__(self) -> bool:
        return bool(self._parts)

    def frame(self, kind: int, sequence: int, payload: Part, buffers: Sequence[memoryview] = ()) -> list[Part]:
        """The parts of a frame, in the order in which they must be sent; large ones are not copied twice."""
        table, inline = [], []
        for buffer in buffers:
            offset = self._sender.put(buffer) if buffer.nbytes >= SHARED_FROM else None
            table.append(BUFFER.pack(buffer.nbytes, INLINE if offset is None else offset))
            if offset is None:
                inline.append(buffer)
        freed = self._receiver.take_released(_MAX_FREED) if self._receiver.released else []
        table += [OFFSET.pack(offset) for offset in freed]
        head = HEADER.pack(kind, len(buffers), len(freed), sequence, len(payload)) + b"".join(table)
        if len(payload) < _READ_SIZE:
            return [head + bytes(payload), *inline]
        return [head, payload, *inline]

    def add(self, parts: Sequence[Part]) -> None:
        """Queue the parts of a frame."""
        self._parts.extend(memoryview(part).cast("B") for part in parts if len(part))

    def flush(self, sock: socket.socket) -> None:
        """Send what the kernel takes now.

        :raises OSError: when the other side has closed the socket.
        """
        while self._parts:
            batch = [self._parts[at] for at in range(min(len(self._parts), _MAX_PARTS))]
            try:
                sent = sock.sendmsg(batch)
            except BlockingIOError:
                return
            while sent:
                first = self._parts[0]
                if sent < len(first):
                    self._parts[0] = first[sent:]
                    break
                sent -= len(first)
                self._parts.popleft()


class Inbox:
    """Reads frames from a socket, blocking or not."""

    def __init__(self, sender: Sender, receiver: Receiver) -> None:
        self._sender = sender
        self._receiver = receiver
        self._raw = bytearray(_READ_SIZE)
        self._view = memoryview(self._raw)
        self._start = 0
        self._end = 0
        self._head: tuple[int, int, int, int, int] | None = None
        self._locations: list[tuple[int, int]] | None = None  # of the current frame, once its table is read
        self._regions: list[bytearray] = []  # being read: the table, then the pickle and the inline buffers
        self._region = 0
        self._filled = 0

    def poll(self, sock: socket.socket) -> Frame | None:
        """The next frame; None when a non-blocking socket has no whole one yet.

        :raises EOFError: when the other side has closed.
        :raises OSError: when the connection is broken.
        """
        while True:
            frame = self._parse()
            if frame is not None:
                return frame
            if not self._read(sock):
                return None

    def _read(self, sock: socket.socket) -> bool:
        try:
            if self._region < len(self._regions):
                count = sock.recv_into(memoryview(self._regions[self._region])[self._filled :])
                self._filled += count
            else:
                rest = self._end - self._start
                self._raw[:rest] = self._raw[self._start : self._end]
                self._start, self._end = 0, rest
                count = sock.recv_into(self._view[self._end :])
                self._end += count
        except BlockingIOError:
            return False
        if count == 0:
            raise EOFError
        return True

    def _parse(self) -> Frame | None:
        if self._head is None:
            if self._end - self._start < HEADER.size:
                return None
            self._head = HEADER.unpack_from(self._raw, self._start)
            self._start += HEADER.size
            self._expect([self._head[1] * BUFFER.size + self._head[2] * OFFSET.size])
        if self._locations is None:
            if not self._complete():
                return None
            self._read_table()
        return self._frame() if self._complete() else None

    def _read_table(self) -> None:
        assert self._head is not None
        table, (_, buffers, freed, _, size) = self._regions[0], self._head
        self._locations = [BUFFER.unpack_from(table, at * BUFFER.size) for at in range(buffers)]
        for at in range(freed):
            self._sender.free(OFFSET.unpack_from(table, buffers * BUFFER.size + at * OFFSET.size)[0])
        self._expect([size, *(length for length, offset in self._locations if offset == INLINE)])

    def _frame(self) -> Frame:
        assert self._head is not None
        assert self._locations is not None
        payload, *inline = self._regions
        rest = iter(inline)
        buffers = [
            next(rest) if offset == INLINE else self._receiver.buffer(offset, length)
            for length, offset in self._locations
        ]
        frame = Frame(self._head[0], self._head[3], payload, buffers)
        self._head = self._locations = None
        self._regions = []
        self._region = 0
        return frame

    def _expect(self, lengths: list[int]) -> None:
        self._regions = [bytearray(length) for length in lengths]
        self._region = 0
        self._filled = 0

    def _complete(self) -> bool:
        """Fill the expected regions from what has been read; True when they are full."""
        while self._region < len(self._regions):
            region = self._regions[self._region]
            missing = len(region) - self._filled
            if missing:
                take = min(missing, self._end - self._start)
                region[self._filled : self._filled + take] = self._view[self._start : self._start + take]
                self._start += take
                self._filled += take
                if take < missing:
                    return False
            self._region += 1
            self._filled = 0
        return True
