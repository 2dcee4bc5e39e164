"""What a test may leave behind: nothing. Snapshots of threads, processes, descriptors and shared memory.

A snapshot must cost little (it is taken around every test), so it only lists; names and command lines are looked up
when something is left.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import gc
import multiprocessing.process
import os
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_PR_SET_CHILD_SUBREAPER = 36
_SHARED_MEMORY = Path("/dev/shm")
_NOT_OURS = ("sem.", "tmp", "PostgreSQL.", "joblib", "psm_", "plasma", "ray", ".org.chromium.", ".com.google.")
"""Of named semaphores, temporary files (ours have a folder), database servers, other worker pools, browsers."""

_started: weakref.WeakSet[subprocess.Popen[Any]] = weakref.WeakSet()


@dataclass(frozen=True)
class Snapshot:
    """What exists at one moment."""

    threads: frozenset[threading.Thread]
    processes: frozenset[int]
    descriptors: dict[int, str]
    segments: frozenset[str]
    started: frozenset[int]
    """Identities of the children that were started through ``subprocess`` before."""

    @classmethod
    def take(cls) -> Snapshot:
        """Look around."""
        return cls(
            frozenset(threading.enumerate()),
            frozenset(_descendants()),
            _open_descriptors(),
            frozenset(each.name for each in os.scandir(_SHARED_MEMORY)) if _SHARED_MEMORY.is_dir() else frozenset(),
            frozenset(map(id, _started)),
        )


@dataclass
class Leftovers:
    """What is there now and was not there before."""

    threads: list[threading.Thread] = field(default_factory=list)
    processes: list[int] = field(default_factory=list)
    descriptors: dict[int, str] = field(default_factory=dict)
    segments: list[str] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.threads or self.processes or self.descriptors or self.segments)

    def describe(self) -> str:
        """In words, with where each thread is."""
        lines = [f"thread {each.name!r} {_where(each)}" for each in self.threads]
        lines += [f"process {pid}: {_command(pid)}" for pid in self.processes]
        lines += [f"descriptor {number} -> {target}" for number, target in self.descriptors.items()]
        lines += [f"shared memory segment /dev/shm/{name}" for name in self.segments]
        return "\n".join(lines)


def since(before: Snapshot) -> Leftovers:
    """Compare now with ``before``."""
    now = Snapshot.take()
    return Leftovers(
        threads=[each for each in now.threads - before.threads if each.is_alive()],
        processes=sorted(now.processes - before.processes),
        descriptors={
            number: target
            for number, target in now.descriptors.items()
            if before.descriptors.get(number) != target and not _foreign_descriptor(target)
        },
        segments=sorted(name for name in now.segments - before.segments if not _foreign_segment(name)),
    )


def wait_until_gone(before: Snapshot, seconds: float) -> Leftovers:
    """Leave what is on its way out time to go; return what is still there after ``seconds``."""
    deadline = time.monotonic() + seconds
    while True:
        left = since(before)
        if not left or time.monotonic() > deadline:
            return left
        time.sleep(0.005)


def only_garbage(left: Leftovers, before: Snapshot) -> bool:
    """Whether the garbage collector removes the leftovers: then the code relied on it instead of closing them."""
    gc.collect()
    return bool(left) and not since(before)


def end_processes(pids: list[int]) -> None:
    """Kill what a failed test left, so that it does not disturb the next one."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


@functools.cache
def adopt_orphans() -> bool:
    """Become the parent of descendants whose own parent died, so that they can be seen; Linux only."""
    if sys.platform != "linux":
        return False
    return ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0


@contextlib.contextmanager
def watching_children() -> Iterator[None]:
    """Remember every child started through ``subprocess``: one that was not waited for is a zombie."""
    original = subprocess.Popen.__init__

    @functools.wraps(original)
    def remember(self: subprocess.Popen[Any], *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        _started.add(self)

    subprocess.Popen.__init__ = remember  # type: ignore[method-assign]
    try:
        yield
    finally:
        subprocess.Popen.__init__ = original  # type: ignore[method-assign]


def zombies(before: Snapshot) -> list[str]:
    """Children that ended and were not waited for."""
    return [
        f"process {each.pid} ended and was not waited for: {each.args!r}"
        for each in list(_started)
        if each.returncode is None and id(each) not in before.started and _state(each.pid) == "Z"
    ]


_foreign: frozenset[tuple[int, int]] = frozenset()
"""Processes that are not below this one, by number and inode, and so never will be: orphans go to their own forebears.

There are a hundred on a machine, and asking each who its parent is was most of what a snapshot costs. The inode is
another one when the number is given to a new process.
"""


def _descendants() -> Iterator[int]:
    """Living processes below this one; an adopted orphan that has ended is collected on the way."""
    global _foreign
    listed = {(int(each.name), each.inode()) for each in os.scandir("/proc") if each.name.isdigit()}
    known = {pid: ("?", 0) for pid, _ in listed & _foreign}
    known |= {pid: _stat(pid) for pid, _ in listed - _foreign}
    _foreign = frozenset(each for each in listed if _is_foreign(each[0], known))
    children: dict[int, list[tuple[int, str]]] = {}
    for pid, (state, parent) in known.items():
        children.setdefault(parent, []).append((pid, state))
    own = {each.pid for each in [*_started, *multiprocessing.process._children]}  # type: ignore[attr-defined]
    for pid, state in children.get(os.getpid(), ()):
        if state == "Z" and pid not in own:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)
    todo = [os.getpid()]
    while todo:
        for pid, state in children.get(todo.pop(), ()):
            if state not in "ZX":
                yield pid
                todo.append(pid)


def _is_foreign(pid: int, known: dict[int, tuple[str, int]]) -> bool:
    """Whether all its forebears are known, up to the first process, and this one is not among them."""
    while pid and pid != os.getpid():
        state, pid = known.get(pid, ("X", 0))
        if state == "X":
            return False
    return pid == 0


def _stat(pid: int) -> tuple[str, int]:
    try:
        descriptor = os.open(f"/proc/{pid}/stat", os.O_RDONLY)
        try:
            state, parent = os.read(descriptor, 1024).rpartition(b")")[2].split(None, 2)[:2]
        finally:
            os.close(descriptor)
    except OSError:
        return "X", 0
    return state.decode(), int(parent)


def _state(pid: int) -> str:
    return _stat(pid)[0]


def _open_descriptors() -> dict[int, str]:
    found = {}
    for entry in os.scandir("/proc/self/fd"):
        with contextlib.suppress(OSError):  # the listing's own descriptor is gone by now
            found[int(entry.name)] = os.readlink(entry.path)  # noqa: PTH115 - a path object for each costs more than the call
    return found


def _foreign_descriptor(target: str) -> bool:
    """Opened once per process by the interpreter, the test tools or the kernel, and rightly kept."""
    own_listing = target.startswith("/proc/") and target.endswith("/fd")
    return own_listing or target.startswith(("/dev/urandom", "/dev/null")) or target.endswith((".pyc", "/.coverage"))


def _foreign_segment(segment: str) -> bool:
    """Whether others have made the segment: the machine is shared, and the engine's own memory has no name there."""
    if segment.startswith(_NOT_OURS):
        return True
    needle = str(_SHARED_MEMORY / segment)
    ours = {os.getpid(), *_descendants()}
    for maps in Path("/proc").glob("[0-9]*/maps"):
        with contextlib.suppress(OSError):
            if needle in maps.read_text() and int(maps.parent.name) not in ours:
                return True
    return False


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return "(gone)"


def _where(thread: threading.Thread) -> str:
    frame = sys._current_frames().get(thread.ident or 0)
    places: list[str] = []
    while frame is not None and len(places) < 6:
        places.append(f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno} {frame.f_code.co_name}")
        frame = frame.f_back
    return " < ".join(places)
