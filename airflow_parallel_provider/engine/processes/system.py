"""Calls to the operating system that the standard library does not offer."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
import time
from pathlib import Path

_PR_SET_PDEATHSIG = 1

_PR_SET_CHILD_SUBREAPER = 36

RSS_UNIT = 1 if sys.platform == "darwin" else 1024
"""Bytes of one unit of ``ru_maxrss``."""


def die_with_parent(expected_parent: int) -> None:
    """Have the kernel kill this process when its parent dies; where the kernel cannot, watch the parent.

    The parent may have died before the call, hence the check after it.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    else:  # pragma: no cover - no such platform in CI
        threading.Thread(target=_watch, args=(expected_parent,), daemon=True).start()
    if os.getppid() != expected_parent:
        os._exit(1)


def adopt_orphans() -> None:
    """Become the parent of every process that a worker process leaves behind, so that it can be found and ended."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1)


def children_of(pid: int) -> set[int]:
    """Process ids of the living and dead children of a process; empty where the system does not say."""
    try:
        return {int(text) for text in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()}
    except (OSError, ValueError):
        return set()


def _watch(expected_parent: int) -> None:  # pragma: no cover - see above
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
