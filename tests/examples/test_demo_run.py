"""`make demo` as a whole: a real Airflow, a whole year of flights, and Ctrl-C in the middle.

Slow: CI runs `make demo` itself, whose exit code is 0 only if every flight of the year is in the table once.
"""

from __future__ import annotations

import re
import signal
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.programs import Program

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.system, pytest.mark.slow, pytest.mark.timeout(900)]  # both bring up an Airflow of their own


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[Program]:
    with Program("dev.demo", tmp_path / "home") as started:
        yield started


def test_year_of_flights_in_a_real_airflow(demo: Program) -> None:
    output = demo.read_until(None, 700)

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


def test_interrupted_demo_leaves_nothing_running(demo: Program) -> None:
    demo.read_until("score_flights: ", 700)
    assert demo.still_there() != []

    demo.process.send_signal(signal.SIGINT)

    assert "the demo has ended everything" in demo.read_until(None, 120)
    assert demo.process.wait(10) == 130
    assert demo.still_there() == []
