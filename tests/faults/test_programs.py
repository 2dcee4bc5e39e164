"""Programs that a stage's function starts: however the run ends, none of them outlives it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from airflow_parallel_provider import Stage
from airflow_parallel_provider.engine.plan.worker_hooks import WorkerHooks
from tests.support import scripts
from tests.support.running import run_pipeline
from tests.support.sync import WAIT_SECONDS, Clock, Meeting

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux lets a process adopt orphans")

END_SECONDS = 5.0

STAGE = """
    import multiprocessing, os, signal, subprocess, sys, time
    from airflow_parallel_provider import ListSink, Pipeline, Stage

    meeting, name = sys.argv[1:3]
    EXEC = (lambda: os.execvp("sh", ["sh", "-c", f"sleep 3600; : {name}"]))

    def forked(*, sessions):
        pid = os.fork()
        if pid == 0:
            if sessions:
                os.setsid()
                if os.fork():
                    os._exit(0)
            EXEC()
        if sessions:
            os.waitpid(pid, 0)

    def start_programs():
        run = f"sleep 3600; : {name}"
        subprocess.Popen(["sh", "-c", run])
        subprocess.Popen(["sh", "-c", run], start_new_session=True)
        subprocess.Popen(["sh", "-c", run], process_group=0)
        subprocess.run(["sh", "-c", f"sh -c '{run}' &"])
        subprocess.Popen(["sh", "-c", f"trap '' TERM INT HUP; setsid sh -c '{run}'; : {name}"])
        multiprocessing.get_context("fork").Process(target=EXEC).start()
        forked(sessions=False)
        forked(sessions=True)
        subprocess.run(["sh", "-c", f"nohup setsid sh -c '{run}' >/dev/null 2>&1 &"])

    def work(item):
        if item == 3:
            start_programs()
            with open(meeting, "w") as file:
                file.write(f"{os.getpid()} {os.getppid()}")
            if sys.argv[3] == "stay":
                time.sleep(3600)
        return item
"""

SCRIPT = (
    STAGE
    + """
    Pipeline(range(9), [Stage(work, kind="process", workers=2)], ListSink(), tolerance=9).run()
"""
)

PROGRAMS = 10
"""Shells that :data:`STAGE` starts: nine, one of which starts one more."""


def programs(name: str) -> list[psutil.Process]:
    found = []
    for each in psutil.process_iter():
        try:
            command = each.cmdline()
        except psutil.Error:
            continue
        if command[:1] == ["sh"] and name in command[-1]:
            found.append(each)
    return found


def until(name: str, count: int, seconds: float) -> list[psutil.Process]:
    """Wait until so many of the programs run; return those that do."""
    clock = Clock()
    while len(found := programs(name)) != count and clock.seconds < seconds:
        time.sleep(0.01)
    return found


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


def task_of(process: subprocess.Popen[str], worker: int, fork_server: int) -> None:
    kill(process.pid)


def group_of(process: subprocess.Popen[str], worker: int, fork_server: int) -> None:
    os.killpg(process.pid, signal.SIGKILL)


def ctrl_c(process: subprocess.Popen[str], worker: int, fork_server: int) -> None:
    os.killpg(process.pid, signal.SIGINT)


def interrupted(process: subprocess.Popen[str], worker: int, fork_server: int) -> None:
    os.kill(process.pid, signal.SIGINT)


def terminated(process: subprocess.Popen[str], worker: int, fork_server: int) -> None:
    os.killpg(process.pid, signal.SIGTERM)


def stopped_and_killed(process: subprocess.Popen[str], worker: int, fork_server: int) -> None:
    """Nothing of it runs when the task dies: the kernel wakes the guardian."""
    for each in (psutil.Process(fork_server).ppid(), fork_server, worker):
        os.kill(each, signal.SIGSTOP)
    kill(process.pid)


@pytest.mark.parametrize(
    "end", [task_of, group_of, ctrl_c, interrupted, terminated, stopped_and_killed], ids=lambda end: end.__name__
)
def test_no_program_outlives_the_task(end: Callable[[subprocess.Popen[str], int, int], None], tmp_path: Path) -> None:
    meeting, name = Meeting.at(tmp_path / "meeting"), uuid.uuid4().hex
    script = scripts.write_script(tmp_path, SCRIPT)

    with scripts.start(script, meeting.path, name, "stay") as process:
        worker, fork_server = map(int, meeting.expect().split())
        assert len(until(name, PROGRAMS, WAIT_SECONDS)) == PROGRAMS
        family = psutil.Process(process.pid).children(recursive=True)
        end(process, worker, fork_server)
        left = until(name, 0, END_SECONDS)
        process.communicate(timeout=WAIT_SECONDS)
        _, alive = psutil.wait_procs(family, END_SECONDS)
    for each in [*left, *alive]:
        each.kill()

    assert left == []
    assert alive == []


def guardian(worker: int, fork_server: int) -> int:
    return psutil.Process(fork_server).ppid()


def fork_server(worker: int, fork_server: int) -> int:
    return fork_server


def fork_server_of_a_stopped_guardian(worker: int, fork_server: int) -> int:
    os.kill(psutil.Process(fork_server).ppid(), signal.SIGSTOP)
    return fork_server


def guardian_after_its_fork_server(worker: int, fork_server: int) -> int:
    """Both die before one of them can clean up, as when all are killed by their name."""
    guardian = psutil.Process(fork_server).ppid()
    os.kill(guardian, signal.SIGSTOP)
    kill(fork_server)
    return guardian


def worker(worker: int, fork_server: int) -> int:
    return worker


@pytest.mark.parametrize(
    "victim",
    [worker, fork_server, guardian, fork_server_of_a_stopped_guardian, guardian_after_its_fork_server],
    ids=lambda victim: victim.__name__,
)
def test_programs_end_with_their_worker_and_the_run_goes_on(victim: Callable[[int, int], int], tmp_path: Path) -> None:
    """The second try of the item starts them again; they end with the run."""
    meeting, name = Meeting.at(tmp_path / "meeting"), uuid.uuid4().hex
    script = scripts.write_script(tmp_path, SCRIPT)

    with scripts.start(script, meeting.path, name, "stay") as process:
        pids = tuple(map(int, meeting.expect().split()))
        first = until(name, PROGRAMS, WAIT_SECONDS)
        kill(victim(*pids))
        gone, left = psutil.wait_procs(first, END_SECONDS)
        if victim is not worker:  # no fault of the item: it is done again
            meeting.expect()
            assert len(until(name, PROGRAMS, WAIT_SECONDS)) == PROGRAMS
            os.kill(process.pid, signal.SIGINT)
        _, errors = process.communicate(timeout=WAIT_SECONDS)
        at_last = until(name, 0, END_SECONDS)
    for each in [*left, *at_last]:
        each.kill()

    assert len(gone) == PROGRAMS
    assert left == []
    assert at_last == []
    assert process.returncode == (0 if victim is worker else -signal.SIGINT), errors


def test_programs_end_with_a_worker_that_is_replaced_while_the_run_goes_on(tmp_path: Path) -> None:
    """Its lifespan is over, so it ends by itself, and an item of its successor sees that its programs are gone."""
    meeting, name = tmp_path / "meeting", uuid.uuid4().hex
    run = """
    import psutil

    def running():
        found = [each.info["cmdline"] or [] for each in psutil.process_iter(["cmdline"])]
        return sum(command[:1] == ["sh"] and name in command[-1] for command in found)

    def look(item):
        work(item)
        if item <= 3 or open(meeting).read().split()[0] == str(os.getpid()):
            return None
        return running()

    def items():
        end = time.monotonic() + 60
        for item in range(100_000):
            if 0 in sink.rows or time.monotonic() > end:
                return
            yield item

    sink = ListSink()
    stage = Stage(look, kind="process", workers=1, worker_lifespan=4)
    Pipeline(items, [stage], sink, chunk_size=1, max_in_flight=1).run()
    print(0 in sink.rows)
    """
    script = scripts.write_script(tmp_path, STAGE + run)

    output = scripts.run(script, str(meeting), name, "go on")
    left = until(name, 0, END_SECONDS)
    for each in left:
        each.kill()

    assert output.strip() == "True"
    assert left == []


@pytest.mark.parametrize("ending", ["go on", "timeout=1.0, workers=1"])
def test_no_program_outlives_a_run_that_ends_by_itself(ending: str, tmp_path: Path) -> None:
    """At its normal end, and after a call that took too long."""
    name = uuid.uuid4().hex
    option = "workers=2" if ending == "go on" else ending
    run = f"""
    Pipeline(range(9), [Stage(work, kind="process", {option})], ListSink(), tolerance=9).run()
    """
    script = scripts.write_script(tmp_path, STAGE + run)

    scripts.run(script, os.devnull, name, "go on" if ending == "go on" else "stay")
    left = until(name, 0, END_SECONDS)
    for each in left:
        each.kill()

    assert left == []


@pytest.mark.parametrize("kind", ["thread", "async", "inline"])
def test_programs_of_the_task_process_end_with_a_stopped_run(kind: str, tmp_path: Path) -> None:
    """A thread that waits for its program is free again at once: nothing is left behind but what detached itself."""
    meeting, name = Meeting.at(tmp_path / "meeting"), uuid.uuid4().hex
    text = """
    import asyncio, subprocess, sys, threading, time
    from airflow_parallel_provider import ListSink, Pipeline, Stage, StopToken
    from airflow_parallel_provider.errors import RunStopped

    token, shell = StopToken(), f"setsid sh -c 'sleep 3600; : {sys.argv[2]}'; : {sys.argv[2]}"

    def tell():
        with open(sys.argv[1], "w") as file:
            file.write("started")

    def wait(item):
        program = subprocess.Popen(["sh", "-c", shell], start_new_session=True)
        tell()
        program.wait()

    async def wait_for(item):
        program = await asyncio.create_subprocess_exec("sh", "-c", shell)
        tell()
        await program.wait()

    function = wait_for if sys.argv[3] == "async" else wait
    threading.Thread(target=lambda: (sys.stdin.read(), token.stop("enough")), daemon=True).start()
    began = time.monotonic()
    try:
        Pipeline([1], [Stage(function, kind=sys.argv[3])], ListSink()).run(stop=token)
    except RunStopped as stopped:
        assert not stopped.report.warnings, stopped.report.warnings
        print("stopped")
    """
    script = scripts.write_script(tmp_path, text)

    with scripts.start(script, meeting.path, name, kind, stdin=subprocess.PIPE) as process:
        meeting.expect()
        assert len(until(name, 2, WAIT_SECONDS)) == 2
        output, errors = process.communicate("", timeout=WAIT_SECONDS)
        left = until(name, 0, END_SECONDS)
    for each in left:
        each.kill()

    assert left == []
    assert output == "stopped\n", errors


def test_guardian_holds_no_descriptor_and_runs_in_a_group_of_its_own(tmp_path: Path) -> None:
    """A signal to the task's group must not end it; a copy of a socket would hide the end of the fork server."""
    meeting = Meeting.at(tmp_path / "meeting")
    script = scripts.write_script(tmp_path, SCRIPT)

    with scripts.start(script, meeting.path, uuid.uuid4().hex, "stay") as process:
        worker, fork_server = map(int, meeting.expect().split())
        of = psutil.Process(fork_server).parent()
        assert of is not None
        groups = [os.getpgid(pid) for pid in (process.pid, worker, fork_server, of.pid)]
        descriptors = sorted(int(each.name) for each in Path(f"/proc/{of.pid}/fd").iterdir())
        process.kill()
        _, alive = psutil.wait_procs([of], END_SECONDS)

    assert groups == [process.pid] * 3 + [of.pid]
    assert descriptors == [0, 1, 2]
    assert alive == []


def start_helper() -> None:
    """As the import of a library that starts a server of its own."""
    os.environ["HELPER"] = str(subprocess.Popen(["sleep", "3600"]).pid)


def helper_lives(item: int) -> bool:
    return psutil.Process(int(os.environ["HELPER"])).status() != psutil.STATUS_ZOMBIE


def test_program_that_an_import_has_started_lives_as_long_as_the_fork_server() -> None:
    """The end of one worker is not its end: other workers use it. That of the run is (the guard of all tests looks)."""
    stage = Stage(helper_lives, kind="process", workers=2, worker_lifespan=2)

    ran = run_pipeline(range(40), [stage], chunk_size=2, worker_hooks=WorkerHooks(on_start=start_helper))

    assert ran.error is None
    assert ran.rows == [True] * 40


def test_program_of_a_thread_ends_when_its_call_has_taken_too_long() -> None:
    """As that of a process does. The thread is then free, and none is left behind."""

    def work(item: int) -> int:
        if item == 3:
            subprocess.run(["sh", "-c", "sleep 3600; :"], check=False)
        return item

    ran = run_pipeline(range(9), [Stage(work, workers=1, timeout=0.3)], tolerance=1, ordered=True)

    assert ran.error is None
    assert ran.positions == [3]
    assert ran.rows == [0, 1, 2, 4, 5, 6, 7, 8]
