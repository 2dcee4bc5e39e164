"""A month of weather readings, one packed CSV file a day, into one table.

::

    write_readings ──> 30 files ──> load_readings: read (threads) -> typed (threads) -> table weather

Each file is a chunk: its rows are in the table as a whole or not at all. The list of files is frozen at the first try;
a file that has changed when the task is tried again fails it, by name, instead of being loaded by halves.

Wants: a SQLite connection ``examples_db``. The files go to ``readings/`` under ``AIRFLOW_HOME``; give a path on S3 or
GCS and ``conn_id=`` to ``FilesSource``, and nothing else changes.
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
STATIONS = ("harbour", "hill", "airport")

Row = dict[str, Any]


def readings_of(day: date) -> list[Row]:
    """What three stations measured in a day, hour by hour; the one on the hill says nothing at night."""
    rows = []
    for hour in range(24):
        at = datetime(day.year, day.month, day.day, hour)  # noqa: DTZ001 - local time, as the stations write it
        for number, station in enumerate(STATIONS):
            warmth = 18 + 6 * math.sin((hour - 9) * math.pi / 12) + (day.day + number) % 4
            silent = station == "hill" and hour < 5
            rows.append({"station": station, "at": at.isoformat(), "celsius": "" if silent else f"{warmth:.1f}"})
    return rows


def typed(row: Row) -> Any:
    """The texts of CSV as what they stand for; a reading without a value is none."""
    if not row["celsius"]:
        return DROP
    return {
        "station": row["station"],
        "at": datetime.fromisoformat(row["at"]),
        "celsius": float(row["celsius"]),
    }


@dag(schedule=None, catchup=False, tags=["example", "parallel"], doc_md=__doc__)
def files_to_table() -> None:
    """Lay the files out, then load them."""

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
