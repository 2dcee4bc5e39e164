# SPDX-License-Identifier: Apache-2.0
"""Shared memory for large buffers: one arena per direction between the task process and a worker process.

An arena is an anonymous, sparse memory file: it costs only the pages that were written, its pages stay warm for the
next buffer, and the kernel frees it with the last process that holds it, however that process ends. The sender copies
a buffer in and sends its offset and length; the receiver uses it in place and reports when nothing refers to it any
more. A full arena is no error: the buffer then goes through the socket.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import resource
import weakref
from typing import Any, Final

from airflow_parallel_provider.engine.resources.limits import soft_limit

ARENA_BYTES: Final = 1 << 30
"""Bytes of address space per direction and worker process; memory is used only for what is written."""

_SHARE = 64
"""Where ``ulimit -v`` limits the address space of a process, an arena takes so small a part of it."""

SHARED_FROM: Final = 1 << 16
"""Bytes from which a buffer goes through shared memory; below, the socket is faster."""


def arena_bytes() -> int:
    """How large an arena may be here: ``ulimit -v`` and ``ulimit -f`` count memory that nothing was written to."""
    address_space, file_size = soft_limit(resource.RLIMIT_AS), soft_limit(resource.RLIMIT_FSIZE)
    size = ARENA_BYTES if address_space is None else min(ARENA_BYTES, address_space // _SHARE)
    size = size if file_size is None else min(size, file_size)
    return max(mmap.PAGESIZE, size // mmap.PAGESIZE * mmap.PAGESIZE)


def create_memory(size: int) -> int:
    """A descriptor of anonymous memory; the caller closes it."""
    if hasattr(os, "memfd_create"):
        fd = os.memfd_create("parallel-pipeline", os.MFD_CLOEXEC)
    else:  # pragma: no cover - macOS
        import tempfile  # brings random, shutil and bz2: 5 ms of every fork server's start that Linux does not need

        with tempfile.TemporaryFile() as file:
            fd = os.dup(file.fileno())
    try:
        os.ftruncate(fd, size)
    except BaseException:
        os.close(fd)
        raise
    return fd


class Sender:
    """Copies buffers into an arena. The other side gives their offsets back, for :meth:`free`."""

    def __init__(self, memory: mmap.mmap) -> None:
        self._memory = memory
        self._view = memoryview(memory)
        self._top = 0
        self._free: dict[int, list[int]] = {}  # by size class; the last used comes first, because its pages are warm
        self._classes: dict[int, int] = {}  # size class by offset

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
        """The other side no longer uses the buffer at ``offset``."""
        self._free.setdefault(self._classes[offset], []).append(offset)

    def close(self) -> None:
        """Release the memory."""
        self._view.release()
        _close(self._memory)


class Receiver:
    """Gives out the buffers in an arena, and notes which of them nothing refers to any more."""

    def __init__(self, memory: mmap.mmap) -> None:
        self._memory = memory
        self.released: list[int] = []

    def buffer(self, offset: int, size: int) -> Any:
        """The buffer at an offset. It stays valid as long as anything, such as an array, refers to it."""
        # A ctypes array exports the memory and can be watched by a weak reference; a memoryview cannot.
        lease = (ctypes.c_char * size).from_buffer(self._memory, offset)
        weakref.finalize(lease, self.released.append, offset).atexit = False
        return lease

    def take_released(self, limit: int) -> list[int]:
        """Up to ``limit`` offsets that the sender may use again."""
        count = min(limit, len(self.released))
        taken = self.released[:count]
        del self.released[:count]
        return taken

    def close(self) -> None:
        """Release the memory; buffers that something still refers to stay valid."""
        _close(self._memory)


def _close(memory: mmap.mmap) -> None:
    try:
        memory.close()
    except BufferError:  # something still refers to it: the last reference frees it
        return
