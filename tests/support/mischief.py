"""What a call may do to its worker process and get away with: the bad item still succeeds."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading

from tests.support.saboteurs import BAD, sleep_for_ever


def close_stdout() -> int:
    sys.stdout.close()
    for number in (1, 2):
        os.close(number)
    return BAD * 10


def flood_output() -> int:
    """More than any pipe holds, half of it without an end of line."""
    for number in (1, 2):
        os.write(number, b"x" * 500_000)
        os.write(number, b"y" * 99 + b"\n")
        for _ in range(5_000):
            os.write(number, b"z" * 99 + b"\n")
    return BAD * 10


def fork_and_wait() -> int:
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    return BAD * 10


def fork_and_both_return() -> int:
    """The classic mistake: the result of fork is not checked, so two processes continue with the worker's socket."""
    os.fork()
    return BAD * 10


def fork_and_leave_child() -> int:
    """A child that outlives the call and holds every descriptor of the worker."""
    if os.fork() == 0:
        sleep_for_ever()
    return BAD * 10


def leave_subprocess() -> int:
    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(3600)"], start_new_session=True)
    return BAD * 10


def ignore_signals() -> int:
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        signal.signal(number, signal.SIG_IGN)
    return BAD * 10


def leave_thread() -> int:
    """A non-daemon thread would keep an ordinary process from ending."""
    threading.Thread(target=sleep_for_ever).start()
    return BAD * 10


def change_directory() -> int:
    os.chdir("/")
    sys.path.clear()
    return BAD * 10
