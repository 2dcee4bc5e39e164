# SPDX-License-Identifier: Apache-2.0
"""Calls to the operating system that the standard library does not offer."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import signal
import sys
import threading
import time
from collections.abc import Collection, Iterator
from pathlib import Path

_PR_SET_PDEATHSIG = 1

_PR_SET_CHILD_SUBREAPER = 36

END_SECONDS = 3.0
"""How long :func:`end_children` waits for processes that were killed."""

RSS_UNIT = 1 if sys.platform == "darwin" else 1024
"""Bytes of one unit of ``ru_maxrss``."""


def die_with_parent(expected_parent: int) -> None:
    """Have the kernel kill this process when its parent dies; where the kernel cannot, watch the parent.

    The parent may have died before the call, hence the check after it.
    """
    if not signal_on_parent_death(signal.SIGKILL):
        threading.Thread(target=_watch, args=(expected_parent,), daemon=True).start()
    if os.getppid() != expected_parent:
        os._exit(1)


def signal_on_parent_death(number: signal.Signals) -> bool:
    """Have the kernel send this process a signal when its parent dies; False where the kernel cannot."""
    return _prctl(_PR_SET_PDEATHSIG, number)


def adopt_orphans() -> None:
    """Become the parent of every process that a descendant leaves behind, so that it can be found and ended."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def _prctl(option: int, value: int) -> bool:
    return sys.platform == "linux" and not ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)


def children_of(pid: int) -> set[int]:
    """Process ids of the living and dead children of a process; empty where the system does not say."""
    try:
        threads = os.listdir(f"/proc/{pid}/task")  # noqa: PTH208 - asked for at every worker's end
    except OSError:
        return set()
    found = {child for thread in threads for child in children_of_thread(pid, int(thread))}
    return found if found or _kernel_lists_children() else _children_by_parent(pid)


@functools.cache
def _kernel_lists_children() -> bool:
    return Path("/proc/thread-self/children").exists()


def _children_by_parent(parent: int) -> set[int]:
    found = set()
    for pid in filter(str.isdigit, os.listdir("/proc")):  # noqa: PTH208 - as above
        with contextlib.suppress(OSError), open(f"/proc/{pid}/stat", "rb") as stat:  # noqa: PTH123
            if int(stat.read().rpartition(b")")[2].split()[1]) == parent:
                found.add(int(pid))
    return found


def children_of_thread(pid: int, thread: int) -> set[int]:
    """Process ids of the children that one thread of a process has started; empty where the system does not say."""
    try:
        with open(f"/proc/{pid}/task/{thread}/children") as listed:  # noqa: PTH123 - as above
            return set(map(int, listed.read().split()))
    except OSError:
        return set()


def end_children(spared: Collection[int] = (), seconds: float = END_SECONDS) -> None:
    """Kill and collect the children of this process, and theirs, which it adopts as their parents die.

    A program that belongs to another user (``sudo``) cannot be ended. One that does not die is left after a while.

    :param spared: children that live on.
    :param seconds: how long to wait at most.
    """
    left, deadline = set(spared), time.monotonic() + seconds
    while (children := children_of(os.getpid()) - left) and time.monotonic() < deadline:
        for pid in children:
            try:
                os.kill(pid, signal.SIGKILL)
            except OSError:
                left.add(pid)
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)
        time.sleep(0.0005)  # only for the moment that a killed process needs to end


def end_marked(marker: str, seconds: float = END_SECONDS) -> None:
    """Kill the processes with this text in the environment that they were started with, wherever they are.

    For descendants that no guardian has adopted. A program that was given another environment is not found.
    """
    deadline, text = time.monotonic() + seconds, marker.encode()
    while (found := list(_marked(text))) and time.monotonic() < deadline:
        for pid in found:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.001)  # as above


def _marked(text: bytes) -> Iterator[int]:
    for pid in filter(str.isdigit, os.listdir("/proc") if sys.platform == "linux" else ()):  # noqa: PTH208 - as above
        with contextlib.suppress(OSError), open(f"/proc/{pid}/environ", "rb") as environment:  # noqa: PTH123 - as above
            if text in environment.read():  # that of one that has ended is empty
                yield int(pid)


def end_programs_of(thread: threading.Thread) -> None:
    """Kill the processes that another thread of this process has started, with all below them.

    A program that has detached itself (a double fork) is no longer below the thread and is not found. Nothing happens
    for the main thread, nor for a greenlet, which has no children of its own.
    """
    number = thread.native_id if thread.is_alive() else None
    if number in (None, os.getpid(), threading.get_native_id()):
        return
    found, todo = [], list(children_of_thread(os.getpid(), number))
    while todo:
        found.append(pid := todo.pop())
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGSTOP)  # so that it starts no further one
        todo += children_of(pid)
    for pid in found:
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGKILL)


def _watch(expected_parent: int) -> None:  # pragma: no cover - no such platform in CI
    while os.getppid() == expected_parent:
        time.sleep(0.5)
    os._exit(1)


def reset_signals() -> None:
    """Restore the default signal handling, whatever was inherited.

    A forked child of an Airflow task inherits a SIGTERM handler that returns at once in any process but the task.
    Ctrl-C reaches the whole process group: children ignore it, because the task process decides what it means.
    """
    for number in (signal.SIGTERM, signal.SIGALRM, signal.SIGCHLD, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def exit_text(status: int) -> str:
    """A wait status in words: ``exit code 3``, ``killed by SIGKILL``."""
    code = os.waitstatus_to_exitcode(status)
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"


def was_signalled(status: int, *signals: signal.Signals) -> bool:
    """Whether one of the signals ended the process."""
    return -os.waitstatus_to_exitcode(status) in signals
