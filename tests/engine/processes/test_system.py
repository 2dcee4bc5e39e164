"""The few calls to the operating system, each in a process of its own where it changes the process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_parallel_provider.engine.processes import system
from airflow_parallel_provider.engine.processes.system import children_of, exit_text, was_signalled
from tests.support.scripts import ROOT

if TYPE_CHECKING:
    import pytest


def run(code: str) -> subprocess.CompletedProcess[str]:
    program = f"from airflow_parallel_provider.engine.processes.system import *\nimport os, signal, sys\n{code}"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", program]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=30, check=False)


def test_who_asks_too_late_ends_at_once() -> None:
    """The parent had died before the kernel was asked to tell."""
    done = run("die_with_parent(1 << 22); print('still here')")

    assert (done.returncode, done.stdout) == (1, "")


def test_who_still_has_his_parent_goes_on() -> None:
    done = run("die_with_parent(os.getppid()); print('still here')")

    assert (done.returncode, done.stdout) == (0, "still here\n")


def test_a_process_dies_with_its_parent() -> None:
    """Grandchild and child hold one pipe: its end is the end of both."""
    code = """
reader, writer = os.pipe()
child = os.getpid()
if os.fork() == 0:
    die_with_parent(child)
    os.write(writer, b'.')
    signal.pause()
os.read(reader, 1)
os.kill(os.getpid(), signal.SIGKILL)
"""
    done = run(code)  # waits for the end of the output, which the grandchild holds too

    assert done.returncode == -signal.SIGKILL


def test_inherited_signal_handling_is_undone_and_ctrl_c_ignored() -> None:
    code = """
for number in (signal.SIGTERM, signal.SIGCHLD, signal.SIGUSR1, signal.SIGINT):
    signal.signal(number, lambda *_: None)
reset_signals()
print(*[signal.getsignal(number).name for number in (signal.SIGTERM, signal.SIGCHLD, signal.SIGUSR1, signal.SIGINT)])
"""
    assert run(code).stdout.split() == ["SIG_DFL", "SIG_DFL", "SIG_DFL", "SIG_IGN"]


def test_orphans_are_adopted_and_seen() -> None:
    code = """
adopt_orphans()
reader, writer = os.pipe()
if os.fork() == 0:
    if os.fork() == 0:
        os.write(writer, str(os.getpid()).encode())
        signal.pause()
    os._exit(0)
orphan = int(os.read(reader, 20))
while orphan not in children_of(os.getpid()):
    os.sched_yield()
print(os.waitpid(-1, 0)[0] != orphan)
os.kill(orphan, signal.SIGKILL)
print(os.waitpid(orphan, 0)[0] == orphan)
"""
    assert run(code).stdout.split() == ["True", "True"]


def test_children_living_and_dead_are_listed() -> None:
    child = subprocess.Popen([sys.executable, "-S", "-c", "input()"], stdin=subprocess.PIPE)
    try:
        assert child.pid in children_of(os.getpid())
    finally:
        child.communicate()
    assert child.pid not in children_of(os.getpid())


def test_a_process_that_is_not_there_has_no_children() -> None:
    assert not Path(f"/proc/{1 << 30}").exists()
    assert children_of(1 << 30) == set()


def test_children_are_found_where_the_kernel_has_no_list_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    child = subprocess.Popen([sys.executable, "-S", "-c", "input()"], stdin=subprocess.PIPE)
    monkeypatch.setattr(system, "_kernel_lists_children", lambda: False)
    monkeypatch.setattr(system, "children_of_thread", lambda pid, thread: set())
    try:
        assert child.pid in children_of(os.getpid())
        assert children_of(child.pid) == set()
    finally:
        child.communicate()


def test_children_of_a_thread_other_than_the_main_one_are_listed() -> None:
    started: list[subprocess.Popen[bytes]] = []
    over = threading.Event()

    def start() -> None:
        started.append(subprocess.Popen(["sleep", "3600"]))
        over.wait(30)

    thread = threading.Thread(target=start)
    thread.start()
    while not started:
        os.sched_yield()
    try:
        assert started[0].pid in children_of(os.getpid())
        system.end_programs_of(thread)
        assert started[0].wait(10) == -signal.SIGKILL
    finally:
        started[0].kill()
        over.set()
        thread.join()


def test_programs_of_the_main_thread_are_never_ended() -> None:
    """Under gevent each thread is a greenlet of it, and a fork server is started from it."""
    with subprocess.Popen([sys.executable, "-S", "-c", "input()"], stdin=subprocess.PIPE) as child:
        system.end_programs_of(threading.main_thread())
        ender = threading.Thread(target=lambda: system.end_programs_of(threading.main_thread()))
        ender.start()
        ender.join()
        child.communicate(b"\n", timeout=10)

    assert child.returncode == 0


def test_children_end_with_all_below_them_but_the_spared_one() -> None:
    code = """
import subprocess
adopt_orphans()
spared = subprocess.Popen(["sleep", "3600"])
for _ in range(3):
    subprocess.Popen(["sh", "-c", "setsid sh -c 'sleep 3600 & sleep 3600' & sleep 3600 & sleep 3600"])
end_children(spared={spared.pid})
print(children_of(os.getpid()) == {spared.pid})
end_children()
print(children_of(os.getpid()))
"""
    assert run(code).stdout.split("\n")[:2] == ["True", "set()"]


def test_child_that_may_not_be_killed_costs_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a program with the rights of another user."""

    def refuse(pid: int, number: int) -> None:
        raise PermissionError

    with subprocess.Popen([sys.executable, "-S", "-c", "input()"], stdin=subprocess.PIPE) as child:
        monkeypatch.setattr(os, "kill", refuse)
        began = time.monotonic()
        system.end_children(spared=children_of(os.getpid()) - {child.pid}, seconds=20)
        seconds = time.monotonic() - began
        child.communicate(b"\n", timeout=10)

    assert seconds < 10


def test_wait_statuses_in_words() -> None:
    assert exit_text(3 << 8) == "exit code 3"
    assert exit_text(signal.SIGKILL) == "killed by SIGKILL"
    assert exit_text(60) == "killed by signal 60"
    assert was_signalled(signal.SIGTERM, signal.SIGTERM, signal.SIGINT)
    assert not was_signalled(3 << 8, signal.SIGTERM)
