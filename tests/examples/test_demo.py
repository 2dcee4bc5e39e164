"""What `make demo` shows, and when it is content."""

from __future__ import annotations

import io
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from airflow_parallel_provider import ListSink, Pipeline, Stage
from dev import demo
from dev.local_airflow import AirflowStartError
from dev.progress import progress_on, report_of


def console(*, terminal: bool = False) -> tuple[Console, io.StringIO]:
    file = io.StringIO()
    return Console(file=file, force_terminal=terminal, width=140, legacy_windows=False), file


def snapshots_of(items: int) -> tuple[Any, list[dict[str, Any]]]:
    seen: list[dict[str, Any]] = []
    report = Pipeline(range(items), [Stage(repr, name="text")], ListSink(), chunk_size=10).run(observe=seen.append)
    return report, seen


def test_snapshot_reads_as_the_report() -> None:
    report, seen = snapshots_of(100)

    snapshot = {**report.as_dict(), "items_total": 100, "final": True, "key_of_a_later_version": 1}
    assert snapshot.keys() - {"key_of_a_later_version"} == seen[-1].keys()
    assert report_of(snapshot) == report
    assert str(report_of(snapshot)) == str(report)


def test_lines_without_a_terminal() -> None:
    _, seen = snapshots_of(1_000)
    final = seen[-1]
    half = {**final, "final": False, "items_committed": 500, "rows_committed": 500, "seconds": 2.0}
    screen, file = console()

    with progress_on(screen, "score") as progress:
        progress.show(half)
        progress.show(half)  # nothing new
        progress.show({**half, "rows_committed": 501})  # too soon
        progress.show(final)
        progress.show(final)

    lines = file.getvalue().splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("score: 500/1,000 items, 500 rows, 250 rows/s, text ")
    assert lines[1].startswith("score: 1,000/1,000 items, 1,000 rows, ")


def test_what_is_waited_for_is_said_when_it_changes() -> None:
    screen, file = console()

    with progress_on(screen, "score") as progress:
        for state in ("not scheduled yet", "queued", "queued", "running"):
            progress.waiting(f"waiting for the task score_flights: {state}")

    assert file.getvalue().splitlines() == [
        f"  waiting for the task score_flights: {state}" for state in ("not scheduled yet", "queued", "running")
    ]


def test_items_of_unknown_number_are_counted_all_the_same() -> None:
    _, seen = snapshots_of(10)
    screen, file = console()

    with progress_on(screen, "score") as progress:
        progress.show({**seen[-1], "items_total": None, "items_skipped": 5})

    assert file.getvalue().startswith("score: 15 items, 10 rows, ")


def test_bar_in_a_terminal() -> None:
    _, seen = snapshots_of(1_000)
    screen, file = console(terminal=True)

    with progress_on(screen, "score") as progress:
        progress.show({**seen[-1], "items_committed": 250})

    assert "25%" in file.getvalue()
    assert "250/1000" in file.getvalue()


@pytest.fixture
def flights_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A table with all of three flights."""
    monkeypatch.setattr(demo, "FLIGHTS", 3)
    file = tmp_path / "demo.db"
    with closing(sqlite3.connect(file)) as connection:
        connection.execute(
            "CREATE TABLE flight_scores (flight_id, day, carrier, flight, origin, dest, status, arr_delay,"
            " great_circle_miles, delay_score)"
        )
        rows = [(number, "2013-01-01", "UA", 1545, "EWR", "IAH", "flown", 11, 1398.4, 11.92) for number in (1, 2, 3)]
        connection.executemany("INSERT INTO flight_scores VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)
        connection.commit()
    return file


def change(file: Path, statement: str) -> None:
    with closing(sqlite3.connect(file)) as connection:
        connection.execute(statement)
        connection.commit()


def test_complete_table_is_shown(flights_table: Path) -> None:
    screen, file = console()

    assert demo.show_table(flights_table, screen) is True
    assert "3 rows, 3 flights; complete" in file.getvalue()
    assert "UA1545" in file.getvalue()
    assert "11.92" in file.getvalue()


@pytest.mark.parametrize(
    "damage",
    [
        "DELETE FROM flight_scores WHERE flight_id = 2",
        "UPDATE flight_scores SET flight_id = 2 WHERE flight_id = 3",  # three rows, one of them twice
        "UPDATE flight_scores SET flight_id = 4 WHERE flight_id = 3",  # three flights, one of them unknown
        "INSERT INTO flight_scores SELECT * FROM flight_scores WHERE flight_id = 1",
    ],
)
def test_damaged_table_is_not_complete(flights_table: Path, damage: str) -> None:
    change(flights_table, damage)
    screen, file = console()

    assert demo.show_table(flights_table, screen) is False
    assert "NOT complete: 3 expected" in file.getvalue()


def test_missing_table_and_missing_database_are_said(tmp_path: Path) -> None:
    screen, file = console()

    assert demo.show_table(tmp_path / "none.db", screen) is False
    change(tmp_path / "empty.db", "CREATE TABLE other (a)")
    assert demo.show_table(tmp_path / "empty.db", screen) is False
    assert "none.db does not exist" in file.getvalue()
    assert "no table flight_scores" in file.getvalue()


def test_demo_starts_from_nothing(tmp_path: Path) -> None:
    for name in ("demo.db", "demo.db-wal", "airflow.db"):
        (tmp_path / name).touch()

    demo.remove(tmp_path / "demo.db")

    assert [file.name for file in tmp_path.iterdir()] == ["airflow.db"]


@pytest.mark.parametrize(("error", "code"), [(KeyboardInterrupt(), 130), (AirflowStartError("the port is taken"), 1)])
def test_exit_codes(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: BaseException,
    code: int,
) -> None:
    def fail(*_: object) -> int:
        raise error

    monkeypatch.setattr(demo, "run_demo", fail)
    monkeypatch.setattr("signal.signal", lambda *_: None)

    assert demo.main(["--home", str(tmp_path)]) == code
    assert "the port is taken" in capsys.readouterr().out or code == 130
