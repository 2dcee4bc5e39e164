"""Shards on a real Ray of this machine, with workers killed: ``make test-ray``."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from airflow_parallel_provider import Pipeline, SinkTable, Stage, StopToken, ray_executor
from airflow_parallel_provider.errors import RunStopped

ray = pytest.importorskip("ray", reason="needs Ray: make test-ray")

pytestmark = [pytest.mark.airflow, pytest.mark.system, pytest.mark.timeout(600)]


@pytest.fixture(scope="module", autouse=True)
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A Ray of two processors, whose workers know the connection."""
    folder = tmp_path_factory.mktemp("ray")
    variables = {"AIRFLOW_CONN_W": json.dumps({"conn_type": "sqlite", "host": str(folder / "w.db")})}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        for name, value in variables.items():
            patch.setenv(name, value)
        ray.init(
            num_cpus=2,
            num_gpus=0,
            include_dashboard=False,
            object_store_memory=100_000_000,
            log_to_driver=False,
            runtime_env={"env_vars": {**variables, "PYTHONPATH": str(Path(__file__).parents[3])}},
        )
        try:
            yield folder
        finally:
            ray.shutdown()


def pipeline(stage: Any, table: str) -> Pipeline:
    sink = SinkTable(table, conn_id="w", columns={"id": int}, write_disposition="replace")
    return Pipeline(range(200), [Stage(stage)], sink, chunk_size=10, load_key=table)


def ids(place: Path, table: str) -> list[int]:
    with closing(sqlite3.connect(place / "w.db")) as connection:
        return [each for (each,) in connection.execute(f"SELECT id FROM {table} ORDER BY 1")]


def test_rows_are_exact_although_workers_are_killed(place: Path) -> None:
    marks = place / "marks"
    marks.mkdir()

    def deadly(number: int) -> dict[str, int]:
        if number in (55, 125):
            try:
                os.close(os.open(f"{marks}/{number}", os.O_CREAT | os.O_EXCL))
            except FileExistsError:
                return {"id": number}
            os.kill(os.getpid(), signal.SIGKILL)
        return {"id": number}

    report = pipeline(deadly, "killed").run_sharded(4, ray_executor)

    assert ids(place, "killed") == list(range(200))
    assert (report.rows_committed, len(list(marks.iterdir()))) == (200, 2)
    assert sum(each["tries"] for each in report.shards) == 6


def test_stop_ends_the_tasks_that_run(place: Path) -> None:
    begun, gate = place / "begun", place / "gate"

    def waits(number: int) -> dict[str, int]:
        begun.touch()
        while not gate.exists():
            place.stat()
        return {"id": number}

    stop = StopToken()
    with pytest.raises(RunStopped, match="enough"):
        pipeline(waits, "stopped").run_sharded(
            2, ray_executor, stop=stop, observe=lambda _: begun.exists() and stop.stop("enough"), observe_every=0.1
        )
    # The processors are free again, although nobody opens the gate.
    assert ray_executor().submit(os.getpid).result() > 0
