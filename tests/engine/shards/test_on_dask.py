"""Shards on a real Dask cluster of this machine, with workers killed: ``make test-dask``."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from airflow_parallel_provider import Pipeline, SinkTable, Stage, StopToken
from airflow_parallel_provider.engine.shards.executors import plain_address
from airflow_parallel_provider.errors import RunStopped

distributed = pytest.importorskip("distributed", reason="needs Dask: make test-dask")

pytestmark = [pytest.mark.airflow, pytest.mark.system, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("dask")


@pytest.fixture(scope="module")
def cluster(place: Path) -> Iterator[Any]:
    """Its workers know the connection: it is in their environment."""
    with pytest.MonkeyPatch.context() as patch:
        where = {"conn_type": "sqlite", "host": str(place / "w.db")}
        patch.setenv("AIRFLOW_CONN_W", json.dumps(where))
        options = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None}
        with distributed.LocalCluster(**options) as made:
            yield made


@pytest.fixture
def executor(cluster: Any) -> Iterator[Callable[[], Any]]:
    with distributed.Client(cluster) as client:
        yield lambda: client.get_executor(pure=False, retries=0)


def row(number: int) -> dict[str, int]:
    return {"id": number}


def pipeline(stage: Any, table: str, **options: Any) -> Pipeline:
    sink = SinkTable(table, conn_id="w", columns={"id": int}, write_disposition="replace")
    return Pipeline(range(200), [Stage(stage)], sink, chunk_size=10, load_key=table, **options)


def ids(place: Path, table: str) -> list[int]:
    with closing(sqlite3.connect(place / "w.db")) as connection:
        return [each for (each,) in connection.execute(f"SELECT id FROM {table} ORDER BY 1")]


def test_rows_are_exact_although_workers_are_killed(place: Path, executor: Callable[[], Any]) -> None:
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

    report = pipeline(deadly, "killed").run_sharded(4, executor)

    assert ids(place, "killed") == list(range(200))
    assert report.rows_committed == 200
    assert len(list(marks.iterdir())) == 2
    assert [each["state"] for each in report.shards] == ["success"] * 4


def test_stages_in_processes_and_a_second_run_that_finds_all_in(place: Path, executor: Callable[[], Any]) -> None:
    sink = SinkTable("processes", conn_id="w", columns={"id": int})
    stages = [Stage(row, kind="process", workers=1)]
    for _ in range(2):
        report = Pipeline(range(60), stages, sink, chunk_size=10, load_key="p").run_sharded(3, executor)
        assert (report.rows_committed, len(ids(place, "processes"))) == (60, 60)


def test_stop_reaches_shards_at_their_next_commit(place: Path, executor: Callable[[], Any]) -> None:
    begun, gate = place / "begun", place / "gate"

    def waits(number: int) -> dict[str, int]:
        begun.touch()
        while not gate.exists():
            place.stat()
        return {"id": number}

    stop = StopToken()
    with pytest.raises(RunStopped, match="enough"):
        pipeline(waits, "stopped").run_sharded(
            2, executor, stop=stop, observe=lambda _: begun.exists() and stop.stop("enough"), observe_every=0.1
        )
    gate.touch()
    # The workers are free again soon: what was at work has ended without a commit.
    assert executor().submit(os.getpid).result() > 0
    with closing(sqlite3.connect(place / "w.db")) as connection:
        of_load = "SELECT load_id FROM airflow_parallel_ledger__loads WHERE load_key = 'stopped'"
        committed = f"SELECT COUNT(*) FROM airflow_parallel_ledger WHERE load_id = ({of_load})"
        assert connection.execute(committed).fetchone() == (0,)


def test_plain_address_is_told(cluster: Any, executor: Callable[[], Any], monkeypatch: pytest.MonkeyPatch) -> None:
    made = executor()
    assert cluster.scheduler_address.startswith("tcp://127.0.0.1")
    assert plain_address(made) is None  # of this machine
    monkeypatch.setattr(made._client.scheduler, "addr", "tcp://10.1.2.3:8786")
    assert plain_address(made) == "tcp://10.1.2.3:8786"
