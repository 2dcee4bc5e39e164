"""The guards themselves: a test that leaves something behind must be seen, or the suite proves nothing."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tests.support import leftovers
from tests.support.sync import Gate
from tests.support.turns import has_turn


def test_nothing_is_seen_where_nothing_is_left() -> None:
    before = leftovers.Snapshot.take()

    assert not leftovers.since(before)


def test_a_thread_is_seen_and_where_it_stands() -> None:
    gate, before = Gate(), leftovers.Snapshot.take()
    thread = threading.Thread(target=gate.pass_through, name="forgotten")
    thread.start()

    left = leftovers.wait_until_gone(before, 0.0)
    gate.open()
    thread.join()

    assert left.threads == [thread]
    assert "forgotten" in left.describe()
    assert not leftovers.since(before)


def test_a_child_and_its_children_are_seen() -> None:
    before = leftovers.Snapshot.take()
    command = "import subprocess, sys, time; c = subprocess.Popen([sys.executable, '-c', 'input()'], stdin=-1)"
    code = f"{command}; print(c.pid, flush=True); sys.stdin.read(); c.kill()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        grandchild = int(child.stdout.readline())
        left = leftovers.since(before)

    assert left.processes == sorted([child.pid, grandchild])


@pytest.mark.skipif(not leftovers.adopt_orphans(), reason="only Linux lets a process adopt orphans")
def test_an_orphan_is_seen() -> None:
    """A worker that outlives the fork server would otherwise be a child of ``init``: out of sight."""
    before = leftovers.Snapshot.take()
    code = "import subprocess; print(subprocess.Popen(['sleep', '600'], stdout=-3, stderr=-3).pid)"
    orphan = int(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout)

    left = leftovers.since(before)
    leftovers.end_processes(left.processes)

    assert left.processes == [orphan]
    assert not leftovers.wait_until_gone(before, 5.0)


def test_a_process_is_a_stranger_only_while_all_its_forebears_are_known() -> None:
    """Strangers are not asked again: one with a gap above it may be an orphan that is about to become ours."""
    first, stranger, child, gone, orphan = range(5_000_001, 5_000_006)  # more than there can be
    known = {first: ("S", 0), stranger: ("S", first), os.getpid(): ("R", first), child: ("S", os.getpid())}
    known |= {gone: ("X", 0), orphan: ("S", gone)}

    assert {pid for pid in known if leftovers._is_foreign(pid, known)} == {first, stranger}


def test_a_zombie_is_seen() -> None:
    before = leftovers.Snapshot.take()
    child = subprocess.Popen([sys.executable, "-c", ""])
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)

    found = leftovers.zombies(before)
    child.wait()

    assert len(found) == 1
    assert str(child.pid) in found[0]
    assert leftovers.zombies(before) == []


def test_a_descriptor_is_seen(tmp_path: Path) -> None:
    before = leftovers.Snapshot.take()
    number = os.open(tmp_path / "file", os.O_CREAT)

    left = leftovers.since(before)
    os.close(number)

    assert left.descriptors == {number: str(tmp_path / "file")}


@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="no /dev/shm here")
def test_a_shared_memory_segment_is_seen() -> None:
    before = leftovers.Snapshot.take()
    path = Path("/dev/shm") / f"guard-test-{os.getpid()}"
    path.write_bytes(b"x")

    left = leftovers.since(before)
    path.unlink()

    assert left.segments == [path.name]


def test_the_guards_cost_little() -> None:
    """They stand around every test: two snapshots must stay far below the time of a fast test."""
    costs = []
    for _ in range(9):
        began = time.thread_time()
        leftovers.since(leftovers.Snapshot.take())
        costs.append(time.thread_time() - began)

    assert sorted(costs)[len(costs) // 2] < 0.2


@pytest.mark.parametrize("cases", [3, 4, 9])
def test_each_case_runs_on_one_of_the_databases_that_take_turns_and_each_of_them_has_a_case(cases: int) -> None:
    others = ("mariadb", "duckdb", "postgres-psycopg2")
    turns = [[name for name in others if has_turn(name, case, others, len(others))] for case in range(cases)]

    assert [len(found) for found in turns] == [1] * cases
    assert {found[0] for found in turns} == set(others)
    assert all(has_turn("sqlite", case, others, len(others)) for case in range(cases))


def test_a_database_that_is_hardly_another_one_has_few_cases() -> None:
    assert [case for case in range(9) if has_turn("b", case, ("b",), 4)] == [0, 4, 8]


@pytest.mark.in_turn("a", "b", every=2)
@pytest.mark.parametrize("value", range(3))
@pytest.mark.parametrize("database", ["a", "b", "always"])
def test_what_has_no_turn_is_slow(request: pytest.FixtureRequest, database: str, value: int) -> None:
    slow = request.node.get_closest_marker("slow") is not None

    assert slow == (database != "always" and value % 2 != "ab".index(database))
