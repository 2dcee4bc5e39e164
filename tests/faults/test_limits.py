"""A process with limits (``ulimit``): it works with what there is, or says what to raise, wherever it fails."""

from __future__ import annotations

import errno
import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from airflow_parallel_provider import Stage
from airflow_parallel_provider.engine.processes.client import ForkServerClient
from airflow_parallel_provider.errors import RunFailed, SetupFailed
from tests.support import scripts
from tests.support.running import run_pipeline

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="what is limited, and how it fails, differs elsewhere")

SCRIPT = """
    import os, resource, sys, time
    from airflow_parallel_provider import ListSink, Pipeline, Retry, Stage
    from airflow_parallel_provider.errors import RunFailed

    name, value, when = sys.argv[1], int(sys.argv[2]), sys.argv[3]
    large = 10 if when == "tight" else 100_000

    def limit():
        limit = getattr(resource, name)
        resource.setrlimit(limit, (value, resource.getrlimit(limit)[1]))

    def load(item):
        if when == "later" and item == 500:
            limit()
        return bytearray(7 if when == "later" and item == 900 else item % 2 * large)

    async def wait(item):
        return item

    def work(item):
        if len(item) == 7:
            os._exit(1)  # another process is needed, after the limit was set
        return len(item)

    if when == "tight":  # so much more than there is now: not enough for the stacks of all threads
        value += 4096 * int(open("/proc/self/statm").read().split()[0])
    if when != "later":
        limit()
    stages = [Stage(load, workers=1), Stage(wait, kind="async", workers=2),
              Stage(work, kind="process", workers=2, retry=Retry(3))]
    sink = ListSink()
    try:
        Pipeline(range(1000), stages, sink, timeout=60.0).run()
        print("whole" if sorted(sink.rows) == [0] * 500 + [100_000] * 500 else "wrong")
    except RunFailed as failed:
        print(failed)
"""

MIB = 1 << 20


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("RLIMIT_FSIZE", 0, "may not be so large: raise the limit (`ulimit -f`, 0 bytes)"),
        ("RLIMIT_FSIZE", 1024, "raise the limit (`ulimit -f`, 1,024 bytes)"),
        ("RLIMIT_FSIZE", 8192, "whole"),
        ("RLIMIT_FSIZE", MIB, "whole"),
        ("RLIMIT_NOFILE", 10, "raise the limit (`ulimit -n`, 10)"),
        ("RLIMIT_NOFILE", 16, "raise the limit (`ulimit -n`, 16)"),
        ("RLIMIT_NOFILE", 22, "raise the limit (`ulimit -n`, 22)"),
        ("RLIMIT_NOFILE", 256, "whole"),
        ("RLIMIT_AS", 3000 * MIB, "whole"),
    ],
)
def test_a_limit_is_enough_or_is_named(name: str, value: int, words: str, tmp_path: Path) -> None:
    """No error is "internal". Less shared memory is enough: large buffers then go through the socket."""
    script = scripts.write_script(tmp_path, SCRIPT)

    output = scripts.run(script, name, str(value), "first")

    assert words in output
    assert "internal error" not in output


def test_too_little_memory_for_the_threads_is_named(tmp_path: Path) -> None:
    script = scripts.write_script(tmp_path, SCRIPT)

    output = scripts.run(script, "RLIMIT_AS", str(20 * MIB), "tight")

    assert "no further process or thread may be started" in output
    assert "`ulimit -v`" in output


def test_a_limit_that_is_reached_in_the_middle_of_a_run_is_named(tmp_path: Path) -> None:
    """No process can take the place of one that died."""
    script = scripts.write_script(tmp_path, SCRIPT)

    output = scripts.run(script, "RLIMIT_NOFILE", "5", "later")

    assert "raise the limit (`ulimit -n`, 5)" in output


class NoProcess:
    def __init__(self, *_: Any, **__: Any) -> None:
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))


def test_no_process_for_the_fork_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subprocess, "Popen", NoProcess)

    ran = run_pipeline(range(9), [Stage(abs, kind="process")])

    assert "no further process or thread may be started: raise the limit" in str(ran.error)


def test_no_process_for_a_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ForkServerClient, "_request", lambda *_: (-1, errno.EAGAIN, 0.0, 0))

    ran = run_pipeline(range(9), [Stage(abs, kind="process")])

    assert type(ran.error) is RunFailed
    assert "no further process or thread may be started: raise the limit" in str(ran.error)


def test_a_fork_server_that_does_not_start_tells_its_last_words(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "import sys; sys.exit('Traceback\\nOSError: [Errno 12] Cannot allocate memory')"
    original = subprocess.Popen
    monkeypatch.setattr(subprocess, "Popen", lambda _, **options: original([sys.executable, "-c", text], **options))

    ran = run_pipeline(range(9), [Stage(abs, kind="process")])

    assert isinstance(ran.error, SetupFailed)
    assert "OSError: [Errno 12] Cannot allocate memory (there is no memory left: raise the limit" in str(ran.error)


def test_no_thread_for_a_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    from airflow_parallel_provider.engine.workers.base import Worker

    def refuse(_: Worker) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(Worker, "start", refuse)

    async def wait(item: int) -> int:
        return item

    for stage in (Stage(abs), Stage(wait, kind="async"), Stage(abs, kind="process")):
        ran = run_pipeline(range(9), [stage])

        assert "no further process or thread may be started" in str(ran.error)
        assert ran.report.state == "failed"


def test_the_limits_of_this_process_are_as_they_were() -> None:
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY
