"""Frames on the socket between a slot and its worker process.

A frame is a header, the lengths of its out-of-band buffers, a pickle (protocol 5) and the buffers themselves. The task
process never blocks on a send: while it still has bytes to send it also reads, because a worker that is blocked on
sending a large result would otherwise wait for ever for a reader that waits for it.
"""

from __future__ import annotations

import pickle
import socket
import struct
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

HEADER: Final = struct.Struct("<BxHIQ")  # kind, number of buffers, sequence number, length of the pickle
LENGTH: Final = struct.Struct("<Q")

WORK, READY, SETUP_FAILED, DONE, UNREADABLE, LOG = range(1, 7)

SOCKET_BUFFER: Final = 1 << 19
"""Bytes the kernel holds per direction: a message of ordinary size goes out without a second wake-up."""

_READ_SIZE: Final = 1 << 16
_MAX_PARTS: Final = 64  # far below IOV_MAX

Part = bytes | bytearray | memoryview


@dataclass(slots=True)
class Frame:
    """One message."""

    kind: int
    sequence: int
    payload: Part
    buffers: list[bytearray]

    def load(self) -> Any:
        """Unpickle. Raises whatever the objects' own code raises."""
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


def parts_of(kind: int, sequence: int, payload: Part, buffers: Sequence[memoryview] = ()) -> list[Part]:
    """The pieces of a frame, ready to be sent; large ones are not copied."""
    head = HEADER.pack(kind, len(buffers), sequence, len(payload))
    if buffers:
        head += b"".join(LENGTH.pack(buffer.nbytes) for buffer in buffers)
    if len(payload) < _READ_SIZE:
        return [head + bytes(payload), *buffers]
    return [head, payload, *buffers]


class Outbox:
    """Bytes that wait to be sent on a socket that must not block."""

    def __init__(self) -> None:
        self._parts: deque[memoryview] = deque()

    def __bool__(self) -> bool:
        return bool(self._parts)

    def add(self, parts: Sequence[Part]) -> None:
        """Queue the pieces of a frame."""
        self._parts.extend(memoryview(part).cast("B") for part in parts if len(part))

    def flush(self, sock: socket.socket) -> None:
        """Send what the kernel takes now.

        :raises OSError: when the other side is gone.
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

    def __init__(self) -> None:
        self._raw = bytearray(_READ_SIZE)
        self._view = memoryview(self._raw)
        self._start = 0
        self._end = 0
        self._head: tuple[int, int, int, int] | None = None
        self._regions: list[bytearray] = []  # what the current frame consists of
        self._region = 0
        self._filled = 0

    def poll(self, sock: socket.socket) -> Frame | None:
        """The next frame; None when a non-blocking socket has no whole one yet.

        :raises EOFError: when the other side has closed.
        :raises OSError: when the connection broke.
        """
        while True:
            frame = self._parse()
            if frame is not None:
                return frame
            if not self._fill(sock):
                return None

    def _fill(self, sock: socket.socket) -> bool:
        try:
            if self._regions:
                target = memoryview(self._regions[self._region])[self._filled :]
                count = sock.recv_into(target)
                self._filled += count
            else:
                self._compact()
                count = sock.recv_into(self._view[self._end :])
                self._end += count
        except BlockingIOError:
            return False
        if count == 0:
            raise EOFError
        return True

    def _compact(self) -> None:
        if self._start:
            rest = self._end - self._start
            self._raw[:rest] = self._raw[self._start : self._end]
            self._start, self._end = 0, rest

    def _parse(self) -> Frame | None:
        if self._head is None:
            if self._end - self._start < HEADER.size:
                return None
            self._head = HEADER.unpack_from(self._raw, self._start)
            self._start += HEADER.size
            if self._head[1]:
                self._regions = [bytearray(self._head[1] * LENGTH.size)]
            else:
                self._open_regions([])
        while True:
            if not self._fill_regions_from_raw():
                return None
            kind, count, sequence, _ = self._head
            if count and len(self._regions) == 1:
                lengths = [LENGTH.unpack_from(self._regions[0], at * LENGTH.size)[0] for at in range(count)]
                self._open_regions(lengths, self._regions[0])
                continue
            body = self._regions[1:] if count else self._regions
            self._head, self._regions, self._region, self._filled = None, [], 0, 0
            return Frame(kind, sequence, body[0], body[1:])

    def _open_regions(self, lengths: list[int], table: bytearray | None = None) -> None:
        assert self._head is not None
        body = [bytearray(self._head[3]), *(bytearray(length) for length in lengths)]
        self._regions = body if table is None else [table, *body]
        self._region = 0 if table is None else 1
        self._filled = 0

    def _fill_regions_from_raw(self) -> bool:
        """Copy what was read ahead into the current frame; True when the frame's regions are full."""
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
