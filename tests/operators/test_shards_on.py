"""``shards_on=``: one task that has the shards of its load done by an executor, here a real process pool."""

from __future__ import annotations

import json
import multiprocessing
import os
import sqlite3
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from multiprocessing import forkserver, resource_tracker
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException, BaseHook
from airflow.sdk import DAG, task

from airflow_parallel_provider import (
    ListSink,
    ParallelMapOperator,
    ParallelPipelineOperator,
    PlanError,
    RunFailed,
    SinkTable,
    Stage,
    get_connection_info,
    get_task_info,
)
from airflow_parallel_provider.bridge.sent_shards import AirflowInShard
from airflow_parallel_provider.bridge.task_info import TaskInfo
from airflow_parallel_provider.errors import NotPicklable

pytestmark = pytest.mark.airflow

CONTEXT = multiprocessing.get_context("forkserver")


@pytest.fixture(autouse=True, scope="module")
def server() -> None:
    """Processes of ``multiprocessing`` that stay until the interpreter ends: no test has left them behind."""
    CONTEXT.set_forkserver_preload(["airflow.sdk", "airflow_parallel_provider.engine.run.run"])
    resource_tracker.ensure_running()
    forkserver.ensure_running()


@pytest.fixture
def database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "w.db"
    monkeypatch.setenv("AIRFLOW_CONN_W", json.dumps({"conn_type": "sqlite", "host": str(path)}))
    monkeypatch.setenv("AIRFLOW_CONN_API", json.dumps({"conn_type": "http", "host": "x", "password": "s3cret"}))
    return path


def pool() -> ProcessPoolExecutor:
    """Its processes do not have the test's variables: what they know has travelled."""
    return ProcessPoolExecutor(2, mp_context=CONTEXT)


def row(number: int) -> dict[str, Any]:
    info, connection = get_task_info(), BaseHook.get_connection("api")
    known = connection.password == get_connection_info("api").password == "s3cret"
    return {"number": number, "run": info.run_id, "known": known}


def _locked() -> Callable[[int], dict[str, int]]:
    lock = threading.Lock()

    def locked(number: int) -> dict[str, int]:
        with lock:
            return {"number": number}

    return locked


locked = _locked()


def numbers() -> Iterator[int]:
    yield from range(45)


def load(**arguments: Any) -> Any:
    sink = SinkTable("rows", conn_id="w", write_disposition="replace", aggregates={"n": "count"})
    given = {"source": numbers, "stages": [Stage(row)], "sink": sink, "chunk_size": 10, "connections": ["w", "api"]}
    with DAG("sent", schedule=None):
        return ParallelPipelineOperator.sharded(
            **{"task_id": "load", "shards": 3, "shards_on": pool, **given, **arguments}
        )


def run(operator: Any, context: dict[str, Any]) -> Any:
    operator.render_template_fields(context)
    return json.loads(json.dumps(operator.execute(context)))


def rows(database: Path) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(database)) as connection:
        return connection.execute("SELECT number, run, known FROM rows ORDER BY 1").fetchall()


@pytest.mark.parametrize("kind", ["thread", "process"])
def test_one_task_has_the_load_done_elsewhere(
    database: Path, context_of: Callable[..., dict[str, Any]], kind: Any, caplog: pytest.LogCaptureFixture
) -> None:
    operator = load(shards="{{ params.count }}", stages=[Stage(row, kind=kind, workers=1)], balance=False)
    context = {"params": {"count": 3}, **context_of(task_id="load")}

    summary = run(operator, context)

    assert isinstance(operator, ParallelPipelineOperator)
    ti = context["ti"]
    assert rows(database) == [(number, ti.run_id, 1) for number in range(45)]
    assert (summary["rows_committed"], summary["aggregates"]) == (45, {"n": 45})
    assert [each["state"] for each in summary["shards"]] == ["success"] * 3
    (*_, last) = ti.values("pipeline_metrics")
    assert (last["final"], last["state"], last["rows_committed"], len(last["shards"])) == (True, "success", 45, 3)
    assert "s3cret" not in json.dumps([summary, ti.pushed]) + caplog.text


def test_retry_resumes_and_a_clear_starts_over(database: Path, context_of: Callable[..., dict[str, Any]]) -> None:
    first = run(load(), {"params": {}, **context_of(task_id="load")})
    again = run(load(), {"params": {}, **context_of(task_id="load", try_number=2)})
    cleared = run(load(shards=2), {"params": {}, **context_of(task_id="load", try_number=3, max_tries=5)})

    assert again["load_key"] == first["load_key"] != cleared["load_key"]
    assert [each["rows_committed"] for each in (first, again, cleared)] == [45, 45, 45]
    assert len(rows(database)) == 45


def test_undeclared_connection_is_missing_there(database: Path, context_of: Callable[..., dict[str, Any]]) -> None:
    with pytest.raises(AirflowFailException, match="no such connection"):
        run(load(connections=["api"]), {"params": {}, **context_of(task_id="load")})


def test_kill_stops_it(database: Path, context_of: Callable[..., dict[str, Any]]) -> None:
    operator = load()
    operator.on_kill()
    with pytest.raises(RunFailed, match="Airflow asked the task to end"):
        run(operator, {"params": {}, **context_of(task_id="load")})


def test_ready_operator_and_decorator_have_it_too(database: Path, context_of: Callable[..., dict[str, Any]]) -> None:
    sink = SinkTable("rows", conn_id="w")
    with DAG("sent", schedule=None):
        mapped: Any = ParallelMapOperator.sharded(
            task_id="map", items=[1, 2, 3], function=row, sink=sink, shards=2, shards_on=pool, connections=["w", "api"]
        )

        @task.parallel_pipeline(shards=2, shards_on=pool, stages=[Stage(row)], sink=sink, connections=["w", "api"])
        def decorated(count: int, params: Any = None) -> Iterator[int]:
            yield from range(params["first"], count)

        made: Any = decorated(20)

    assert run(mapped, {"params": {}, **context_of(task_id="map")})["rows_committed"] == 3
    assert run(made, {"params": {"first": 10}, **context_of(task_id="decorated")})["rows_committed"] == 10


@pytest.mark.parametrize(
    ("arguments", "error", "complaint"),
    [
        ({"shards_on": "dask"}, PlanError, "shards_on='dask': give a function"),
        ({"shards": 0}, PlanError, "shards=0"),
        ({"shard_tries": 0}, PlanError, "shard_tries=0"),
        ({"sink": ListSink()}, PlanError, "several shards need a ledger"),
        ({"stages": [Stage(locked)]}, NotPicklable, "travels to other"),
    ],
)
def test_what_cannot_work_is_refused_when_the_dag_is_parsed(
    arguments: dict[str, Any], error: type[Exception], complaint: str
) -> None:
    with pytest.raises(error, match=complaint):
        load(**arguments)


def test_shards_without_a_place_are_refused() -> None:
    with pytest.raises(PlanError, match=r"shards=3: one task does not spread.*ParallelPipelineOperator.sharded"):
        ParallelPipelineOperator(task_id="x", source=[1], stages=[], sink=SinkTable("t", conn_id="w"), shards=3)


def test_connections_leave_the_process_with_the_last_shard(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_MINE", "before")
    around = AirflowInShard(TaskInfo(), {"mine": "given", "other": "{}"})
    pipeline: Any = load()._build(source=[], stages=[])

    with around(pipeline):
        with around(pipeline):
            assert os.environ["AIRFLOW_CONN_MINE"] == "given"
        assert os.environ["AIRFLOW_CONN_OTHER"] == "{}"
    assert os.environ["AIRFLOW_CONN_MINE"] == "before"
    assert "AIRFLOW_CONN_OTHER" not in os.environ
    assert "given" not in repr(around)
