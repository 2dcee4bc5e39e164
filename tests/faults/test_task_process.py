"""The task process itself: killed, daemonic, without a guard for ``__main__``, without standard streams."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import psutil
import pytest

from tests.support import scripts
from tests.support.sync import WAIT_SECONDS, Clock, Meeting

END_SECONDS = 5.0

ENDLESS = """
    import itertools, sys, time
    from pathlib import Path
    from airflow_parallel_provider import ListSink, Pipeline, Stage

    def work(item):
        if item == 20:
            Path(sys.argv[1]).write_text("working")
        if item >= 20:
            if sys.argv[2] == "sleeping":
                time.sleep(3600)
            while sys.argv[2] == "spinning":
                pass
        return bytes(100_000) * (item % 50)

    stages = [Stage(work, kind="process", workers=2), Stage(lambda item: time.sleep(0.001), workers=2)]
    Pipeline(itertools.count(), stages, lambda rows: None, chunk_size=5).run()
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=lambda number: number.name)
@pytest.mark.parametrize("doing", ["sleeping", "spinning", "streaming"])
def test_no_descendant_outlives_a_killed_task(doing: str, number: signal.Signals, tmp_path: Path) -> None:
    """As the kernel's OOM killer or a supervisor would end it: within five seconds nothing of it is left."""
    meeting = Meeting.at(tmp_path / "meeting")
    script = scripts.write_script(tmp_path, ENDLESS)

    with scripts.start(script, meeting.path, doing) as process:
        meeting.expect()
        descendants = _at_least_three(psutil.Process(process.pid))
        process.send_signal(number)
        killed = time.monotonic()
        process.wait(WAIT_SECONDS)
        _, alive = psutil.wait_procs(descendants, timeout=END_SECONDS)
        seconds = time.monotonic() - killed
        for each in alive:
            each.kill()

    assert len(descendants) >= 3, "a fork server and two workers were expected"
    assert alive == []
    assert seconds < END_SECONDS


def _at_least_three(process: psutil.Process) -> list[psutil.Process]:
    """A fork server and two workers: the first one may be at work before the second one is there."""
    clock = Clock()
    while len(found := process.children(recursive=True)) < 3 and clock.seconds < WAIT_SECONDS:
        time.sleep(0.01)
    return found


def test_ctrl_c_ends_a_script_cleanly(tmp_path: Path) -> None:
    """The whole group gets the signal: the task decides, workers say nothing, one KeyboardInterrupt is shown."""
    meeting = Meeting.at(tmp_path / "meeting")
    script = scripts.write_script(tmp_path, ENDLESS)

    with scripts.start(script, meeting.path, "sleeping") as process:
        meeting.expect()
        os.killpg(process.pid, signal.SIGINT)
        _, errors = process.communicate(timeout=WAIT_SECONDS)

    assert process.returncode == -signal.SIGINT
    assert errors.count("Traceback (most recent call last)") == 1, errors
    assert errors.rstrip().endswith("KeyboardInterrupt")


def test_the_main_module_runs_once(tmp_path: Path) -> None:
    """No ``if __name__ == '__main__'`` is needed: workers get the functions, not the module."""
    script = scripts.write_script(
        tmp_path,
        """
        import sys
        from airflow_parallel_provider import ListSink, Pipeline, Stage

        with open(sys.argv[1], "a") as file:
            file.write("ran\\n")

        FACTOR = 10

        class Row:
            def __init__(self, value):
                self.value = value

        def helper(item):
            return Row(item * FACTOR)

        def work(item):
            return helper(item)

        sink = ListSink()
        stages = [Stage(work, kind="process", workers=2), Stage(lambda row: row.value, kind="process", workers=1)]
        Pipeline(range(40), stages, sink, ordered=True).run()
        assert sink.rows == [item * 10 for item in range(40)], sink.rows
        """,
    )

    scripts.run(script, str(tmp_path / "ran"))

    assert (tmp_path / "ran").read_text() == "ran\n"


def test_a_daemonic_parent_may_have_worker_processes(tmp_path: Path) -> None:
    """Celery's prefork workers are daemonic: ``multiprocessing`` refuses to have children there."""
    script = scripts.write_script(
        tmp_path,
        """
        import multiprocessing, sys
        from airflow_parallel_provider import ListSink, Pipeline, Stage

        def work(item):
            return item * 10

        def task():
            assert multiprocessing.current_process().daemon
            sink = ListSink()
            Pipeline(range(40), [Stage(work, kind="process", workers=2)], sink, ordered=True).run()
            assert sink.rows == [item * 10 for item in range(40)]
            open(sys.argv[1], "w").write("done")

        process = multiprocessing.get_context("fork").Process(target=task, daemon=True)
        process.start()
        process.join(30)
        sys.exit(process.exitcode)
        """,
    )

    scripts.run(script, str(tmp_path / "done"))

    assert (tmp_path / "done").read_text() == "done"


@pytest.mark.parametrize("closed", ["0", "1", "2", "0 1", "1 2", "0 1 2"])
def test_a_task_without_standard_streams(closed: str, tmp_path: Path) -> None:
    """Descriptors 0 to 2 are then given to the next socket or pipe: the fork server must not lose its own that way."""
    script = scripts.write_script(
        tmp_path,
        """
        import os, sys
        for number in map(int, sys.argv[2].split()):
            os.close(number)
        from airflow_parallel_provider import ListSink, Pipeline, Stage

        def work(item):
            print("said", item)
            return item * 10

        sink = ListSink()
        Pipeline(range(40), [Stage(work, kind="process", workers=2)], sink, ordered=True).run()
        assert sink.rows == [item * 10 for item in range(40)]
        open(sys.argv[1], "w").write("done")
        """,
    )

    scripts.run(script, str(tmp_path / "done"), closed, stdin=subprocess.DEVNULL)

    assert (tmp_path / "done").read_text() == "done"


def test_a_pipeline_in_a_thread_that_is_not_the_main_one(tmp_path: Path) -> None:
    """As a test of a DAG or a notebook might: no signal handler may be needed."""
    script = scripts.write_script(
        tmp_path,
        """
        import threading
        from airflow_parallel_provider import ListSink, Pipeline, Stage

        results = []

        def work(item):
            return item * 10

        def run():
            sink = ListSink()
            Pipeline(range(40), [Stage(work, kind="process", workers=2)], sink, ordered=True).run()
            results.append(sink.rows)

        threads = [threading.Thread(target=run) for _ in range(3)]
        for thread in threads: thread.start()
        for thread in threads: thread.join()
        assert results == [[item * 10 for item in range(40)]] * 3
        """,
    )

    scripts.run(script)


def test_a_forked_child_may_run_a_pipeline_of_its_own(tmp_path: Path) -> None:
    """Airflow forks its tasks from a process that may have run pipelines before."""
    script = scripts.write_script(
        tmp_path,
        """
        import os
        from airflow_parallel_provider import ListSink, Pipeline, Stage

        def work(item):
            return item * 10

        def run():
            sink = ListSink()
            stages = [Stage(work, kind="process", workers=1), Stage(work, workers=2)]
            Pipeline(range(40), stages, sink, ordered=True).run()
            assert sink.rows == [item * 100 for item in range(40)]

        run()
        pid = os.fork()
        if pid == 0:
            try:
                run()
            except BaseException:
                os._exit(1)
            os._exit(0)
        run()
        assert os.waitpid(pid, 0)[1] == 0
        """,
    )

    scripts.run(script)


def test_a_task_with_more_than_a_thousand_descriptors(tmp_path: Path) -> None:
    """``select`` cannot watch descriptors above 1023, and a busy task may well have that many."""
    script = scripts.write_script(
        tmp_path,
        """
        import os, resource
        resource.setrlimit(resource.RLIMIT_NOFILE, (4096, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
        held = [os.open("/dev/null", os.O_RDONLY) for _ in range(1500)]
        from airflow_parallel_provider import ListSink, Pipeline, Stage

        def work(item):
            return item * 10

        sink = ListSink()
        Pipeline(range(40), [Stage(work, kind="process", workers=2, timeout=10)], sink, ordered=True).run()
        assert sink.rows == [item * 10 for item in range(40)]
        """,
    )

    scripts.run(script)
