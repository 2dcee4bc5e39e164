"""One pipeline for each tenant: mapped task instances, each with a log, a retry and a Clear of its own.

::

    write_meters ──> load [0] ─┐   meters of a tenant: files -> readings (threads) -> table meter_readings
                     load [1] ─┼──> tell
                     load [2] ─┘

The first task writes some files for each tenant and returns a list of files per tenant. ``load`` is mapped over it: the
tenants run beside each other, the files of one tenant are the items of its pipeline. A tenant whose files are broken
fails alone. To load it again, clear its task instance: its rows take the place of those that are there, and no other
tenant is touched.

Needs: a SQLite connection ``examples_db``. Files go to ``meters/`` under ``AIRFLOW_HOME``.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from airflow.sdk import Param, dag, task

from airflow_parallel_provider import ParallelPipelineOperator, SinkTable, Stage

TENANTS = ("north", "south", "west")
HOURS = 24


def readings(path: str) -> Iterator[dict[str, Any]]:
    """The rows of a meter's file: a line for each hour.

    :raises ValueError: for a line that is no number; the file is then a dead letter.
    """
    file = Path(path)
    for hour, line in enumerate(file.read_text(encoding="utf-8").splitlines()):
        yield {"tenant": file.parent.name, "meter": file.stem, "hour": hour, "kilowatt_hours": float(line)}


@dag(
    schedule=None,
    catchup=False,
    params={
        "meters": Param(40, type="integer", minimum=1, maximum=1000, description="How many meters a tenant has"),
        "broken": Param(0, type="integer", minimum=0, description="How many files of the last tenant are broken"),
    },
    tags=["example", "parallel"],
    doc_md=__doc__,
)
def tenants_mapped() -> None:
    """Load the meters of each tenant, then tell how many readings each has."""

    @task
    def write_meters(params: dict[str, Any] | None = None) -> list[list[str]]:
        wanted = params or {}
        root = Path(os.environ.get("AIRFLOW_HOME") or "~/airflow").expanduser() / "meters"
        written = []
        for tenant in TENANTS:
            folder = root / tenant
            folder.mkdir(parents=True, exist_ok=True)
            files = [folder / f"meter-{number:04}.txt" for number in range(wanted.get("meters", 40))]
            for number, file in enumerate(files):
                broken = tenant == TENANTS[-1] and number < wanted.get("broken", 0)
                lines = ["no reading"] if broken else [str((number + hour) % 7 / 2) for hour in range(HOURS)]
                file.write_text("\n".join(lines), encoding="utf-8")
            written.append([str(file) for file in files])
        return written

    load: Any = ParallelPipelineOperator.partial(
        task_id="load",
        stages=[Stage(readings, workers=4)],
        sink=SinkTable(
            "meter_readings",
            conn_id="examples_db",
            write_disposition="merge",
            primary_key=["tenant", "meter", "hour"],
            columns={"tenant": str, "meter": str, "hour": int, "kilowatt_hours": float},
        ),
        chunk_size=10,  # files in one transaction
        max_active_tis_per_dagrun=2,  # two tenants at a time
    ).expand(source=write_meters())

    @task(trigger_rule="all_done")
    def tell(summaries: list[dict[str, Any]]) -> dict[str, int]:
        return {name: summary["rows_committed"] for name, summary in zip(TENANTS, summaries, strict=False)}

    tell(load.output)


tenants_mapped()
