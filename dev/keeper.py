"""Runs a few programs as one group and ends all of them together.

:mod:`dev.local_airflow` starts it as the leader of a new session. All descendants of its programs stay in that session,
also a task process that Airflow moves to another process group, so the keeper finds all of them at the end.

It ends the group after SIGTERM or SIGINT, when one of the programs ends, or when its parent process ends: its standard
input is a pipe, whose other end is closed even when the parent is killed.

::

    python keeper.py SPEC.json        {"programs": {name: argv}, "logs": folder, "lock": file, "grace": seconds}

Exit code 0: ended on request. 1: a program ended by itself (its name is printed). 3: another keeper holds the lock.
"""

from __future__ import annotations

import fcntl
import json
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import FrameType

ENDED_BY_ITSELF = 1
LOCKED = 3


def main(spec_file: str) -> int:
    """Run the programs of ``spec_file`` until the group has to end."""
    spec: dict[str, Any] = json.loads(Path(spec_file).read_text(encoding="utf-8"))
    with Path(spec["lock"]).open("w", encoding="utf-8") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return LOCKED
        wake = _wake_on_signals()
        try:
            programs = {name: _start(name, argv, Path(spec["logs"])) for name, argv in spec["programs"].items()}
            return _watch(programs, wake)
        finally:
            end_session(os.getsid(0), float(spec["grace"]), reap=True)


def _wake_on_signals() -> int:
    """A file descriptor that becomes readable with SIGTERM, SIGINT or the end of a child."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    os.set_blocking(reading, False)
    signal.set_wakeup_fd(writing)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD):
        signal.signal(number, _ignore)
    return reading


def _ignore(number: int, frame: FrameType | None) -> None:
    """Do nothing: the byte in the wake-up pipe is sufficient."""


def _start(name: str, argv: list[str], logs: Path) -> subprocess.Popen[bytes]:
    with (logs / f"{name}.log").open("ab") as log:
        # The children must not inherit the standard input: they would keep the pipe to the parent open.
        return subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT)


def _watch(programs: dict[str, subprocess.Popen[bytes]], wake: int) -> int:
    """Wait for a request to end (0) or the end of a program (1)."""
    while True:
        readable, _, _ = select.select([wake, sys.stdin.fileno()], [], [])
        if sys.stdin.fileno() in readable and not os.read(sys.stdin.fileno(), 1024):
            return 0
        if wake in readable and {signal.SIGTERM, signal.SIGINT} & set(os.read(wake, 1024)):
            return 0
        for name, program in programs.items():
            if program.poll() is not None:
                print(f"{name} ended with exit code {program.returncode}", flush=True)
                return ENDED_BY_ITSELF


def session_members(session: int) -> list[int]:
    """Processes of the session that are still alive, without its leader; zombies do not count."""
    import psutil

    members = []
    for process in psutil.process_iter(["status"]):
        try:
            if os.getsid(process.pid) == session != process.pid and process.info["status"] != psutil.STATUS_ZOMBIE:
                members.append(process.pid)
        except (ProcessLookupError, PermissionError):
            continue
    return members


def end_session(session: int, grace: float, *, reap: bool = False) -> None:
    """Send SIGTERM to every process of the session but the leader, and SIGKILL to the rest after ``grace`` seconds.

    :param reap: collect all ended children of this process, also those that it did not start.
    """
    for number, seconds in ((signal.SIGTERM, grace), (signal.SIGKILL, 5.0)):
        deadline = time.monotonic() + seconds
        _signal_all(session_members(session), number)
        while session_members(session) and time.monotonic() < deadline:
            if reap:
                _reap()
            time.sleep(0.05)


def _signal_all(pids: list[int], number: signal.Signals) -> None:
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue


def _reap() -> None:
    """Collect children that have ended."""
    try:
        while os.waitpid(-1, os.WNOHANG) != (0, 0):
            pass
    except ChildProcessError:
        pass


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
