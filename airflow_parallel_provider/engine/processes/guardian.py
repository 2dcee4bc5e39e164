# SPDX-License-Identifier: Apache-2.0
"""The guardian: the parent of the fork server. It ends everything below it when the task or the fork server is gone.

The kernel passes a death on to processes that asked for it: fork server and workers. It does not to the programs that
a stage's function starts, and a program with a session of its own is not in the task's process group either. Each
process that loses its parent goes to the nearest *subreaper* above it. The fork server is one for its workers'
programs. The guardian is one for the fork server's, so that even SIGKILL of the task or of the fork server leaves
nothing behind. It runs no code of a user, so it is always ready; it has a process group of its own, so that a signal to
the task's whole group does not end it; and it asks for SIGCONT as news of the task's death, which also wakes it
when it was stopped.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys

from airflow_parallel_provider.engine.processes.system import (
    adopt_orphans,
    die_with_parent,
    end_children,
    signal_on_parent_death,
)

WATCH_SECONDS = 0.5
"""How often the guardian looks whether the task still lives where the kernel does not tell it."""


def guard(task: int) -> None:
    """Fork. The child returns and becomes the fork server; this process watches over it and never returns.

    Where the kernel has no subreapers (anywhere but Linux), this process itself becomes the fork server.

    :param task: process id of the task process, the parent of this one.
    """
    if sys.platform != "linux":
        die_with_parent(task)
        return
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # where it is ignored, the kernel collects children by itself
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())  # none ends or interrupts the guardian
    adopt_orphans()
    guardian = os.getpid()
    fork_server = os.fork()
    if not fork_server:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        die_with_parent(guardian)
        return
    try:
        _close_inherited()
        os.setpgid(0, 0)
        _watch(task, fork_server)
        end_children()
    finally:
        os._exit(0)


def _close_inherited() -> None:
    """Close the fork server's descriptors: a copy of its socket would hide its end from the task process."""
    for fd in map(int, os.listdir("/proc/self/fd")):  # noqa: PTH208 - without a further import
        if fd > 2:
            with contextlib.suppress(OSError):  # the one that lists them
                os.close(fd)


def _watch(task: int, fork_server: int) -> None:
    """Return when the task has died, the fork server has ended, or SIGTERM asks for the end."""
    told = signal_on_parent_death(signal.SIGCONT)
    events = {signal.SIGCHLD, signal.SIGCONT, signal.SIGTERM}
    while os.getppid() == task and not _collect(fork_server):
        event = signal.sigtimedwait(events, 1 << 20 if told else WATCH_SECONDS)
        if event is not None and event.si_signo == signal.SIGTERM:
            return


def _collect(fork_server: int) -> bool:
    """Collect the children that have ended, adopted ones included; whether the fork server was among them."""
    while True:
        try:
            pid, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return True
        if pid in (0, fork_server):
            return pid == fork_server
