"""ForkServer and workers: nothing of them outlives the task, and none of them holds what is another one's."""

from __future__ import annotations

import contextlib
import gc
import os
import sys
from pathlib import Path

import psutil
import pytest

from airflow_parallel_provider import Stage
from tests.support import scripts
from tests.support.running import run_pipeline
from tests.support.sync import WAIT_SECONDS, Meeting

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the kernel's signal, and /proc")

SLEEPING = """
    import sys, time
    from pathlib import Path
    from airflow_parallel_provider import ListSink, Pipeline, Stage

    def work(item):
        Path(sys.argv[1]).write_text("working")
        time.sleep(3600)

    Pipeline([1], [Stage(work, kind="process", workers=1)], ListSink()).run()
"""


def test_descendants_that_cannot_look_at_their_sockets_die_with_a_killed_task(tmp_path: Path) -> None:
    """Stopped, as by a debugger or in a call that does not return, they see no end of file: the kernel ends them."""
    meeting = Meeting.at(tmp_path / "meeting")

    with scripts.start(scripts.write_script(tmp_path, SLEEPING), meeting.path) as process:
        meeting.expect()
        descendants = psutil.Process(process.pid).children(recursive=True)
        for each in descendants:
            each.suspend()
        process.kill()
        process.wait(WAIT_SECONDS)
        _, alive = psutil.wait_procs(descendants, timeout=WAIT_SECONDS)
        for each in alive:
            each.kill()

    assert len(descendants) >= 2, "a fork server and a worker were expected"
    assert alive == []


def sockets_of(pid: int | str) -> set[str]:
    found = set()
    for each in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):  # the one that lists them
            found.add(str(each.readlink()))
    return {name for name in found if name.startswith("socket:")}


def look_around(item: int) -> tuple[bool, bool, set[str]]:
    mine = sockets_of("self")
    return gc.isenabled(), bool(mine), mine & sockets_of(os.getppid())


def test_worker_collects_garbage_and_holds_no_socket_of_the_fork_server() -> None:
    """A copy in a worker, or in what a worker starts, would hide the fork server's end from the task."""
    ran = run_pipeline(range(4), [Stage(look_around, kind="process", workers=2)])

    assert ran.rows == [(True, True, set())] * 4
