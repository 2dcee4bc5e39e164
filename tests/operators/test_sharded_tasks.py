"""``sharded()``: the group of three tasks, what is refused when the DAG is parsed, what each of them does."""

from __future__ import annotations

import json
import socket
import sqlite3
import warnings
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException
from airflow.sdk import DAG, task

from airflow_parallel_provider import (
    FilesSource,
    FilesToTableOperator,
    ListSink,
    ParallelMapOperator,
    ParallelPipelineOperator,
    PlanError,
    SinkFiles,
    SinkTable,
    Stage,
)
from airflow_parallel_provider.bridge import task_run
from airflow_parallel_provider.bridge.identity import LoadPart
from airflow_parallel_provider.bridge.settings import Settings
from airflow_parallel_provider.errors import SinkFailed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = [pytest.mark.airflow, pytest.mark.filterwarnings("ignore:.*retries=0")]


def square(number: int) -> dict[str, int]:
    return {"number": number, "square": number * number}


def numbers() -> Iterator[int]:
    yield from range(95)


def name_of(file: Any) -> dict[str, str]:
    return {"name": file["name"]}


@pytest.fixture
def database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "w.db"
    monkeypatch.setenv("AIRFLOW_CONN_W", json.dumps({"conn_type": "sqlite", "host": str(path)}))
    return path


def rows(database: Path, table: str = "squares") -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(database)) as connection:
        return connection.execute(f"SELECT * FROM {table} ORDER BY 1").fetchall()


def group(operator: Any = ParallelPipelineOperator, **arguments: Any) -> Any:
    sink = SinkTable("squares", conn_id="w", write_disposition="replace")
    given = {"source": numbers, "stages": [Stage(square)], "sink": sink, "chunk_size": 10}
    if operator is not ParallelPipelineOperator:
        given = {"sink": sink}
    with DAG("sharded", schedule=None):
        return operator.sharded(task_id="load", **{"shards": 3, **given, **arguments})


class Tasks:
    """Runs the tasks of a group as Airflow does: renders, executes, passes on what they return."""

    def __init__(self, made: Any, context_of: Callable[..., dict[str, Any]], **params: Any) -> None:
        self.children = made.children
        self.context_of = context_of
        self.params = params
        self.entries: list[dict[str, Any]] = []
        self.returned: dict[str, list[Any]] = {}
        self.metrics: list[dict[str, Any]] = []
        """What the last task has sent to the Pipeline tab last."""

    def _run(self, operator: Any, **ti: Any) -> Any:
        context = {"params": self.params, **self.context_of(task_id=operator.task_id, **ti)}
        operator.render_template_fields(context)
        context["ti"].returned = self.returned
        found = json.loads(json.dumps(operator.execute(context)))
        self.returned.setdefault(operator.task_id, []).append(found)
        self.metrics = context["ti"].values("pipeline_metrics")[-1:]
        return found

    def plan(self, **ti: Any) -> Any:
        self.entries = self._run(self.children["load.plan"], **ti)
        return self.entries

    def shard(self, index: int, **ti: Any) -> Any:
        task = self.children["load.shard"].unmap({"shard": self.entries[index]})
        return self._run(task, map_index=index, **ti)

    def finish(self, **ti: Any) -> Any:
        task = self.children["load.finish"]
        task.shard = self.entries
        return self._run(task, **ti)


def test_group_has_three_tasks_in_a_row() -> None:
    made = group(outlets=[], trigger_rule="none_failed", retries=3)

    assert list(made.children) == ["load.plan", "load.shard", "load.finish"]
    plan, shard, finish = made.children.values()
    assert (plan.downstream_task_ids, shard.downstream_task_ids) == ({"load.shard", "load.finish"}, {"load.finish"})
    assert (plan.trigger_rule, shard.trigger_rule, finish.trigger_rule) == ("none_failed", "all_success", "all_success")
    assert made.output.operator is finish


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({"shards": 0}, "shards=0"),
        ({"shards": "four"}, "shards='four'"),
        ({"shards": 2.5}, "shards=2.5"),
        ({"sink": ListSink()}, "several shards need a ledger"),
        ({"ordered": True}, "the order holds within one run"),
        ({"part": "plan"}, r"part='plan': sharded\(\) decides that"),
        ({"chunk_size": -1}, "chunk_size=-1"),
    ],
)
def test_what_cannot_work_is_refused_when_the_dag_is_parsed(arguments: dict[str, Any], complaint: str) -> None:
    with pytest.raises(PlanError, match=complaint):
        group(**arguments)


@pytest.mark.filterwarnings("default")
def test_retries_of_zero_are_warned_of() -> None:
    with pytest.warns(UserWarning, match=r"load: retries=0: a lost machine would fail the run"):
        group()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        group(retries=1)


def test_whole_load(database: Path, context_of: Callable[..., dict[str, Any]]) -> None:
    tasks = Tasks(group(shards="{{ params.count }}"), context_of, count=4)

    entries = tasks.plan()
    shards = [tasks.shard(index) for index in range(4)]
    whole = tasks.finish()

    assert [(each["shard"], each["of"]) for each in entries] == [(index, 4) for index in range(4)]
    assert len(json.dumps(entries)) < 2000
    assert sum(shard["rows_committed"] for shard in shards) == whole["rows_committed"] == 95
    assert {shard["load_key"] for shard in shards} == {whole["load_key"]} == {entries[0]["load_key"]}
    assert rows(database) == [(number, number * number) for number in range(95)]


def test_pipeline_tab_learns_where_a_shard_runs_and_what_the_whole_is(
    database: Path, context_of: Callable[..., dict[str, Any]]
) -> None:
    tasks = Tasks(group(), context_of)
    tasks.plan()
    assert tasks.metrics == []
    for index in range(3):
        tasks.shard(index)
        (shard,) = tasks.metrics
        assert (shard["host"], shard["part"]) == (socket.gethostname(), "shard")
    tasks.finish()
    (whole,) = tasks.metrics
    assert (whole["part"], whole["items_read"], whole["chunks_committed"]) == ("finish", 95, 10)
    assert [(stage["name"], stage["items_in"]) for stage in whole["stages"]] == [("square", 95)]
    assert whole["cpu_seconds"] > sum(each["cpu_seconds"] for each in tasks.returned["load.shard"])
    assert whole["items_per_second"] == pytest.approx(95 / whole["seconds"], rel=0.01)


def test_many_shards_send_their_figures_less_often() -> None:
    settings = Settings.read()
    entry = {"load_key": "k", "family": "f", "generation": "g", "shard": 3}

    every = [task_run._push_every(settings, LoadPart.of({**entry, "of": of})) for of in (199, 200)]
    assert every == [settings.push_interval, 30.0]
    assert task_run._push_every(settings, None) == settings.push_interval


def test_shard_that_is_cleared_alone_goes_on_with_the_same_load(
    database: Path, context_of: Callable[..., dict[str, Any]]
) -> None:
    """Its ``max_tries`` is another one then."""
    tasks = Tasks(group(), context_of)
    tasks.plan()
    for index in range(3):
        tasks.shard(index)
    again = tasks.shard(1, max_tries=7, try_number=5)
    tasks.finish(max_tries=9)

    assert (again["items_committed"], again["items_skipped"]) == (0, 30)
    assert len(rows(database)) == 95


def test_clear_of_the_group_starts_over(database: Path, context_of: Callable[..., dict[str, Any]]) -> None:
    tasks = Tasks(group(), context_of)
    tasks.plan()
    first = tasks.shard(0)
    old = tasks.entries
    tasks.plan(max_tries=5)
    assert tasks.shard(0, max_tries=5)["items_committed"] == first["items_committed"]

    tasks.entries, new = old, tasks.entries
    with pytest.raises(AirflowFailException, match="has not been begun for shards, or was replaced"):
        tasks.shard(1)
    tasks.entries = new
    for index in range(3):
        tasks.shard(index, max_tries=5)
    tasks.finish(max_tries=5)
    assert len(rows(database)) == 95


def test_finish_waits_for_all_chunks(database: Path, context_of: Callable[..., dict[str, Any]]) -> None:
    tasks = Tasks(group(), context_of)
    tasks.plan()
    tasks.shard(0)

    with pytest.raises(SinkFailed, match="of 10 chunks 6 are not in"):  # a retry may help
        tasks.finish()


def test_own_load_key_is_that_of_all(database: Path, context_of: Callable[..., dict[str, Any]]) -> None:
    tasks = Tasks(group(load_key="nightly"), context_of)

    assert {entry["load_key"] for entry in tasks.plan()} == {"nightly"}
    assert tasks.shard(2)["load_key"] == "nightly"


def test_ready_operators_have_it_too(database: Path, context_of: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    for name in "abc":
        (tmp_path / f"{name}.jsonl").write_text(json.dumps({"name": name}) + "\n")
    made = group(FilesToTableOperator, files=FilesSource(f"{tmp_path}/*.jsonl"), transform=name_of, shards=2)
    tasks = Tasks(made, context_of)
    tasks.plan()
    for index in range(2):
        tasks.shard(index)
    assert tasks.finish()["items_read"] == 3
    assert rows(database) == [("a",), ("b",), ("c",)]


@pytest.mark.parametrize("shards", [1, 3])
def test_folder_is_a_target_too(tmp_path: Path, context_of: Callable[..., dict[str, Any]], shards: int) -> None:
    """As mapped task instances, which may not replace a folder otherwise; a Clear with another number starts over."""
    for count, max_tries in ((2, 2), (shards, 5)):
        made = group(sink=SinkFiles(str(tmp_path / "out"), write_disposition="replace"), shards=count)
        tasks = Tasks(made, context_of)
        tasks.plan(max_tries=max_tries)
        for index in range(count):
            tasks.shard(index, max_tries=max_tries)
        assert tasks.finish(max_tries=max_tries)["rows_committed"] == 95

    assert len(list((tmp_path / "out").glob("part-*"))) == 10
    assert len(list((tmp_path / "out").glob("_*"))) == 1


def test_map_operator_has_it_too(database: Path, context_of: Callable[..., dict[str, Any]]) -> None:
    tasks = Tasks(group(ParallelMapOperator, items=[1, 2, 3], function=square, shards=2), context_of)
    tasks.plan()
    for index in range(2):
        tasks.shard(index)
    assert tasks.finish()["rows_committed"] == 3


def test_decorator_has_it_too(database: Path, context_of: Callable[..., dict[str, Any]]) -> None:
    sink = SinkTable("squares", conn_id="w", columns={"number": int, "square": int})
    with DAG("sharded", schedule=None):

        @task.parallel_pipeline(shards=2, stages=[Stage(square)], sink=sink, chunk_size=10)
        def load(count: int, params: Any = None) -> Iterator[int]:
            yield from range(params["first"], count)

        made: Any = load(35)

    tasks = Tasks(made, context_of, first=5)
    tasks.plan()
    shards = [tasks.shard(index) for index in range(2)]
    assert [shard["items_committed"] for shard in shards] == [20, 10]
    assert tasks.finish()["rows_committed"] == 30
    assert rows(database)[0] == (5, 25)
