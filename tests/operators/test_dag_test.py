"""``dag.test()`` of a DAG file whose functions exist nowhere else: operator, decorator and mapped operator."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.support import airflow_env

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.airflow, pytest.mark.timeout(900)]  # each task brings up a whole API server of its own

TINY = Path(__file__).parent / "dags" / "tiny.py"


class Outcome:
    """What one ``dag.test()`` left."""

    def __init__(self, run: Any, rows: list[dict[str, Any]]) -> None:
        from airflow.models.xcom import XComModel
        from airflow.utils.session import create_session

        self.state = str(run.state)
        self.rows = rows
        with create_session() as session:
            entries = session.query(XComModel).filter(XComModel.run_id == run.run_id).all()
            self.xcoms = {(each.task_id, each.map_index, each.key): each.value for each in entries}

    def products(self, first: int, last: int) -> list[int]:
        return sorted(row["product"] for row in self.rows if first <= row["number"] <= last)


@pytest.fixture(scope="module")
def dags(metadata_database: None) -> Iterator[dict[str, Any]]:
    """The DAGs, loaded from their file as Airflow does: under a module name that no other process can import."""
    folder = airflow_env.isolate() / "dags"
    shutil.copy(TINY, folder)
    yield airflow_env.load_dags(folder)
    (folder / TINY.name).unlink()


def run_it(dag: Any, file: Path) -> Outcome:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TINY_ROWS", str(file))
        run = dag.test()
    return Outcome(run, [json.loads(line) for line in file.read_text().splitlines()])


@pytest.fixture(scope="module")
def tested(dags: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    return run_it(dags["tiny"], tmp_path_factory.mktemp("tiny") / "rows.jsonl")


def test_functions_of_the_dag_file_run_in_worker_processes(tested: Outcome) -> None:
    assert tested.state == "success"
    assert tested.products(0, 99) == [number * 10 for number in range(0, 20, 2)]
    assert os.getpid() not in {row["pid"] for row in tested.rows}


def test_decorated_function_takes_upstream_output_and_context(tested: Outcome) -> None:
    assert tested.products(100, 199) == [number * 10 for number in range(100, 120, 2)]


def test_mapped_pipelines_run_each_their_part(tested: Outcome) -> None:
    assert tested.products(200, 399) == [2000, 2020, 3000]
    loads = {tested.xcoms["mapped", index, "return_value"]["load_key"] for index in (0, 1)}
    assert len(loads) == 2


def test_files_are_those_that_an_upstream_task_returns(tested: Outcome) -> None:
    assert tested.products(500, 599) == [5000, 5010]
    assert tested.xcoms["files", -1, "return_value"]["items_read"] == 2


def test_summary_is_the_return_value(tested: Outcome) -> None:
    summary = tested.xcoms["plain", -1, "return_value"]

    assert (summary["state"], summary["items_read"], summary["items_filtered"]) == ("success", 20, 10)
    assert summary["chunks_committed"] == 4  # chunk_size was a template
    assert [stage["kind"] for stage in summary["stages"]] == ["process", "thread"]


def test_last_metrics_stay(tested: Outcome) -> None:
    metrics = tested.xcoms["plain", -1, "pipeline_metrics"]

    assert (metrics["final"], metrics["state"], metrics["items_committed"]) == (True, "success", 10)


def test_testing_again_works_again(dags: dict[str, Any], tested: Outcome, tmp_path: Path) -> None:
    """Another run, another load: nothing is taken for done."""
    again = run_it(dags["tiny"], tmp_path / "rows.jsonl")

    assert again.products(0, 999) == tested.products(0, 999)
    assert again.xcoms["plain", -1, "return_value"]["load_key"] != tested.xcoms["plain", -1, "return_value"]["load_key"]


def test_source_and_threads_may_ask_airflow_at_the_same_time(dags: dict[str, Any], tmp_path: Path) -> None:
    """Without help, nearly all of them raise that the Variable is not defined."""
    from airflow.models.variable import Variable

    Variable.set("tiny_variable", "the answer")

    outcome = run_it(dags["asking"], tmp_path / "rows.jsonl")

    assert outcome.state == "success"
    assert sorted((row["number"], row["answer"]) for row in outcome.rows) == [
        (each, "the answer") for each in range(60)
    ]
