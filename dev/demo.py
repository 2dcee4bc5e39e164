"""``make demo``: score a year of flights in a real Airflow, show the progress, then query the table.

It starts its own Airflow in ``.airflow/``, runs the DAG ``nyc_flights``, draws the progress from the live metrics that
the task publishes as XCom, and prints the report and the results of two queries. However it ends, it stops everything
that it has started. The exit code is 0 only if every flight of the year is in the table exactly once.
"""

from __future__ import annotations

import argparse
import json
import signal
import sqlite3
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from rich import box
from rich.console import Console
from rich.table import Table

from airflow_parallel_provider.formats import format_duration
from dev.airflow_client import AirflowTimeoutError
from dev.local_airflow import AirflowStartError, LocalAirflow
from dev.progress import progress_on, report_of

if TYPE_CHECKING:
    from dev.airflow_client import AirflowClient
    from dev.progress import Progress

REPOSITORY = Path(__file__).resolve().parent.parent
DAG, TASK, TABLE = "nyc_flights", "score_flights", "flight_scores"
FLIGHTS = 336_776
RUN_TIMEOUT = 300.0
"""Seconds the DAG run may take; about 40 on two cores."""


def main(arguments: list[str] | None = None) -> int:
    """Run the demo; return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m dev.demo", description=__doc__.split("\n", 1)[0])
    parser.add_argument("--home", type=Path, default=REPOSITORY / ".airflow", help="AIRFLOW_HOME (default: .airflow)")
    options = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, _interrupt)
    console = Console(highlight=False)
    try:
        return run_demo(options.home.resolve(), console)
    except KeyboardInterrupt:
        console.print("Stopped; the demo has ended everything that it had started.")
        return 130
    except (AirflowStartError, AirflowTimeoutError) as error:
        console.print(f"The demo failed: {error}", markup=False)
        return 1


def run_demo(home: Path, console: Console) -> int:
    """Run the DAG, print the results, return the exit code."""
    database = home / "demo.db"
    connection = json.dumps({"conn_type": "sqlite", "host": str(database)})
    began = time.monotonic()
    console.print(f"Starting Airflow in {home} ...", markup=False, soft_wrap=True)
    dags, connections = REPOSITORY / "dags_examples", {"flights_db": connection}

    def tell(text: str) -> None:
        console.print(f"  {text}", markup=False, soft_wrap=True)

    with LocalAirflow(home, dags, connections=connections, tell=tell) as airflow:
        console.print(f"Airflow is up after {format_duration(time.monotonic() - began)}: {airflow.url} (no log-in)")
        remove(database)  # not earlier: only now it is certain that no other demo uses it
        run_id = airflow.client.trigger(DAG)
        console.print(f"DAG run {run_id} of {DAG} has been triggered.", markup=False, soft_wrap=True)
        tab = f"{airflow.url}/dags/{DAG}/runs/{quote(run_id, safe='')}/tasks/{TASK}/plugin/pipeline"
        console.print(f"Watch it live, until it ends, in the Pipeline tab: {tab}", markup=False, soft_wrap=True)
        with progress_on(console, "score_flights") as progress:
            state = watch(airflow.client, run_id, progress)
        metrics = airflow.client.xcom(DAG, run_id, TASK, "pipeline_metrics")
        if state != "success":
            show_failure(airflow.client, run_id, console)
        if metrics:
            console.print(f"\n{report_of(metrics)}\n", markup=False, soft_wrap=True)
        console.print("Stopping Airflow ...")
    complete = show_table(database, console)
    console.print("\n`make ui` starts the same Airflow again: the Pipeline tab of the task still has all metrics.")
    console.print(f"DAG run: {state}; {format_duration(time.monotonic() - began)} in all, start of Airflow included.")
    return 0 if state == "success" and complete else 1


def remove(database: Path) -> None:
    """Delete the database of an earlier demo."""
    for suffix in ("", "-wal", "-shm", "-journal"):
        database.with_name(database.name + suffix).unlink(missing_ok=True)


def watch(client: AirflowClient, run_id: str, progress: Progress) -> str:
    """Show the progress until the DAG run has ended; return its state."""

    def show() -> None:
        metrics = client.xcom(DAG, run_id, TASK, "pipeline_metrics")
        if metrics:
            progress.show(metrics)
        else:
            progress.waiting(_awaited(client, run_id))

    return client.wait_for_run(DAG, run_id, timeout=RUN_TIMEOUT, on_poll=show)


def _awaited(client: AirflowClient, run_id: str) -> str:
    """The task that the run is at, and its state."""
    for task_id in ("lay_out_days", TASK):
        state = client.task(DAG, run_id, task_id)["state"]
        if state != "success":
            return f"waiting for the task {task_id}: {state or 'not scheduled yet'}"
    return "waiting for the end of the run"


def show_failure(client: AirflowClient, run_id: str, console: Console) -> None:
    """Print the end of the log of each task that failed."""
    for task_id in ("lay_out_days", TASK):
        instance = client.task(DAG, run_id, task_id)
        if instance["state"] == "failed":
            console.print(f"\nThe end of the log of {task_id}:")
            for line in client.log_lines(DAG, run_id, task_id, instance["try_number"])[-30:]:
                console.print(f"  {line}", markup=False, soft_wrap=True)


def show_table(database: Path, console: Console) -> bool:
    """Print the results of the queries; return whether the table has every flight exactly once."""
    if not database.exists():
        console.print(f"{database} does not exist.", markup=False, soft_wrap=True)
        return False
    with closing(sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True)) as connection:
        if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = ?", (TABLE,)).fetchone():
            console.print(f"{database} has no table {TABLE}.", markup=False, soft_wrap=True)
            return False
        counts = connection.execute(
            f"SELECT count(*), count(DISTINCT flight_id), min(flight_id), max(flight_id) FROM {TABLE}"
        ).fetchone()
        complete = bool(counts == (FLIGHTS, FLIGHTS, 1, FLIGHTS))
        console.print(f"{database}, table {TABLE}:", markup=False, soft_wrap=True)
        verdict = "complete" if complete else f"NOT complete: {FLIGHTS:,} expected"
        console.print(f"  {counts[0]:,} rows, {counts[1]:,} flights; {verdict}\n")
        for title, query in QUERIES.items():
            console.print(_as_table(title, connection.execute(query)))
    return complete


QUERIES = {
    "Some flights": """
        SELECT flight_id AS id, day, carrier || flight AS flight, origin || '-' || dest AS route, status,
               arr_delay AS late, great_circle_miles AS miles, delay_score AS score
        FROM flight_scores WHERE flight_id IN (1, 472, 839, 7073, 234103, 275946) ORDER BY flight_id""",
    "Carriers, best first": """
        SELECT carrier, count(*) AS flights, sum(status = 'canceled') AS canceled,
               round(avg(arr_delay), 1) AS mean_late, round(avg(delay_score), 2) AS mean_score
        FROM flight_scores GROUP BY carrier ORDER BY mean_score""",
}
"""The queries of the demo, by title."""


def _as_table(title: str, cursor: sqlite3.Cursor) -> Table:
    table = Table(title=title, title_justify="left", box=box.SIMPLE)
    rows = cursor.fetchall()
    for index, column in enumerate(cursor.description):
        numbers = all(isinstance(row[index], (int, float, type(None))) for row in rows)
        table.add_column(column[0], justify="right" if numbers else "left")
    for row in rows:
        table.add_row(*map(_cell, row))
    return table


def _cell(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)


def _interrupt(*_: Any) -> None:
    """End the demo at SIGTERM as at Ctrl-C: through the context managers."""
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
