"""A month of weather readings, one compressed CSV file per day, into one table.

::

    write_readings ──> 30 files ──> load_readings: read (threads) -> typed (threads) -> table weather

Small files are committed together: either all their rows are in the table or none. The first try stores the list of
files. If a file has changed at a retry, the task fails and names it, instead of loading a mixture of old and new rows.

Needs: a SQLite connection ``examples_db``. The files go to ``readings/`` under ``AIRFLOW_HOME``. For files on S3 or GCS
only the path and ``conn_id=`` of ``FilesSource`` change.
"""

import csv
import gzip
import io
import math
import os
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

from airflow.sdk import dag, task

from airflow_parallel_provider import DROP, FilesSource, FilesToTableOperator, SinkTable

FIRST_DAY, DAYS = date(2026, 6, 1), 30
STATIONS = ("harbor", "hill", "airport")

Row = dict[str, Any]


def readings_of(day: date) -> list[Row]:
    """The hourly readings of three stations on one day; the station on the hill has no values at night."""
    rows = []
    for hour in range(24):
        at = datetime(day.year, day.month, day.day, hour)  # noqa: DTZ001 - local time, as the stations write it
        for number, station in enumerate(STATIONS):
            warmth = 18 + 6 * math.sin((hour - 9) * math.pi / 12) + (day.day + number) % 4
            silent = station == "hill" and hour < 5
            rows.append({"station": station, "at": at.isoformat(), "celsius": "" if silent else f"{warmth:.1f}"})
    return rows


def typed(row: Row) -> Any:
    """A row with values instead of the texts of CSV; readings without a value are dropped."""
    if not row["celsius"]:
        return DROP
    return {
        "station": row["station"],
        "at": datetime.fromisoformat(row["at"]),
        "celsius": float(row["celsius"]),
    }


@dag(schedule=None, catchup=False, tags=["example", "parallel"], doc_md=__doc__)
def files_to_table() -> None:
    """Write the files, then load them."""

    @task
    def write_readings() -> str:
        folder = Path(os.environ.get("AIRFLOW_HOME") or "~/airflow").expanduser() / "readings"
        folder.mkdir(parents=True, exist_ok=True)
        for number in range(DAYS):
            day = FIRST_DAY + timedelta(days=number)
            text = io.StringIO(newline="")
            writer = csv.DictWriter(text, ["station", "at", "celsius"])
            writer.writeheader()
            writer.writerows(readings_of(day))
            (folder / f"{day}.csv.gz").write_bytes(gzip.compress(text.getvalue().encode(), mtime=0))
        return str(folder)

    written = write_readings()
    load = FilesToTableOperator(
        task_id="load_readings",
        files=FilesSource("{{ ti.xcom_pull('write_readings') }}/*.csv.gz", at_least=DAYS),
        transform=typed,
        sink=SinkTable(
            "weather",
            conn_id="examples_db",
            write_disposition="merge",
            primary_key=["station", "at"],
        ),
    )
    written >> load


files_to_table()
