"""Shared memory for large buffers: one arena per direction between a worker and its worker.

An arena is an anonymous, sparse memory file: it costs only the pages that were written, its pages stay warm for the
next buffer, and the kernel frees it with the last process that holds it, however that process ends. The sender places
a buffer (one copy) and sends its place and length; the receiver uses it where it lies and says when nobody refers to
it any more. A full arena is no error: the buffer then goes through the socket.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import tempfile
import weakref
from typing import Any, Final

ARENA_BYTES: Final = 1 << 30
"""Bytes of address space per direction and worker; memory is used only for what is in it."""

SHARED_FROM: Final = 1 << 16
"""Bytes from which a buffer is placed in shared memory; below, the socket is faster."""


def create_memory(size: int) -> int:
    """A descriptor of anonymous memory; the caller closes it."""
    if hasattr(os, "memfd_create"):
        fd = os.memfd_create("parallel-pipeline", os.MFD_CLOEXEC)
    else:  # pragma: no cover - macOS
        with tempfile.TemporaryFile() as file:
            fd = os.dup(file.fileno())
    os.ftruncate(fd, size)
    return fd


class Sender:
    """Places buffers. Offsets come back through :meth:`free` when the other side is done with them."""

    def __init__(self, memory: mmap.mmap) -> None:
        self._memory = memory
        self._view = memoryview(memory)
        self._top = 0
        self._free: dict[int, list[int]] = {}  # by size class: last used first, its pages are warm
        self._classes: dict[int, int] = {}  # offset to size class

    def put(self, buffer: memoryview) -> int | None:
        """Copy a buffer in; return its offset, or None when there is no room."""
        size = buffer.nbytes
        rounded = 1 << (size - 1).bit_length()
        free = self._free.get(rounded)
        if free:
            offset = free.pop()
        elif self._top + rounded <= len(self._memory):
            offset = self._top
            self._top += rounded
            self._classes[offset] = rounded
        else:
            return None
        self._view[offset : offset + size] = buffer.cast("B")
        return offset

    def free(self, offset: int) -> None:
        """The other side has let go of what was placed there."""
        self._free.setdefault(self._classes[offset], []).append(offset)

    def close(self) -> None:
        """Let go of the memory."""
        self._view.release()
        _close(self._memory)


class Receiver:
    """Hands out placed buffers as objects that tell when nobody refers to them any more."""

    def __init__(self, memory: mmap.mmap) -> None:
        self._memory = memory
        self.released: list[int] = []

    def buffer(self, offset: int, size: int) -> Any:
        """The buffer at an offset; whoever refers to it (an array, say) keeps it."""
        # A ctypes array exports the memory and can be watched by a weak reference; a memoryview cannot.
        lease = (ctypes.c_char * size).from_buffer(self._memory, offset)
        weakref.finalize(lease, self.released.append, offset).atexit = False
        return lease

    def take_released(self, most: int) -> list[int]:
        """Offsets that the sender may use again, at most so many."""
        count = min(most, len(self.released))
        taken = self.released[:count]
        del self.released[:count]
        return taken

    def close(self) -> None:
        """Let go of the memory; buffers that are still referred to keep their part of it."""
        _close(self._memory)


def _close(memory: mmap.mmap) -> None:
    try:
        memory.close()
    except BufferError:  # something still refers to it: it goes with the last reference
        return
