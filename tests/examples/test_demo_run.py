"""`make demo` as a whole: a real Airflow, a whole year of flights, and Ctrl-C in the middle."""

from __future__ import annotations

import os
import re
import select
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.system, pytest.mark.timeout(240)]

REPOSITORY = Path(__file__).parents[2]


class Demo:
    """The demo as a child process, its output read up to a text."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.process = subprocess.Popen(
            [sys.executable, "-m", "dev.demo", "--home", str(home)],
            cwd=REPOSITORY,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self.output = ""

    def read_until(self, text: str | None, seconds: float) -> str:
        """Read until ``text`` appears (None: until the end); return all output."""
        assert self.process.stdout is not None
        deadline = time.monotonic() + seconds
        while text is None or text not in self.output:
            ready, _, _ = select.select([self.process.stdout], [], [], max(0.0, deadline - time.monotonic()))
            assert ready, f"not within {seconds:g} s: {text!r} in\n{self.output}"
            more = os.read(self.process.stdout.fileno(), 65536)
            if not more:
                assert text is None, f"ended before {text!r}:\n{self.output}"
                break
            self.output += more.decode()
        return self.output

    def still_there(self) -> list[str]:
        """Command lines of processes that have to do with this demo's folder."""
        found = []
        for process in psutil.process_iter():
            try:
                mine = str(self.home) in process.environ().get("AIRFLOW_HOME", "")
                if mine and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(" ".join(process.cmdline()))
            except psutil.Error:
                continue
        return found


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[Demo]:
    started = Demo(tmp_path / "home")
    with started.process:
        yield started
        if started.process.poll() is None:
            started.process.terminate()
            started.process.wait(30)


def test_year_of_flights_in_a_real_airflow(demo: Demo) -> None:
    output = demo.read_until(None, 200)

    assert demo.process.wait(10) == 0, output
    assert "336,776 rows, 336,776 flights; complete" in output
    assert "Pipeline score_flights: success" in output
    progress = [int(each) for each in re.findall(r"score_flights: (\d+)/365 items", output)]
    assert progress == sorted(progress)
    assert progress[-1] == 365
    assert len(progress) > 1, "nothing was seen while it ran"
    with closing(sqlite3.connect(demo.home / "demo.db")) as connection:
        counted = connection.execute("SELECT count(*), count(DISTINCT flight_id) FROM flight_scores").fetchone()
    assert counted == (336_776, 336_776)
    assert demo.still_there() == []


def test_interrupted_demo_leaves_nothing_running(demo: Demo) -> None:
    demo.read_until("score_flights: ", 120)
    assert demo.still_there() != []

    demo.process.send_signal(signal.SIGINT)

    assert "has been ended" in demo.read_until(None, 40)
    assert demo.process.wait(10) == 130
    assert demo.still_there() == []
