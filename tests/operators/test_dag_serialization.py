"""A DAG with pipelines goes into Airflow's database and comes back, the same text after every parse."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support import airflow_env

pytestmark = pytest.mark.airflow

SCRIPT = """
import json, pathlib, sys
from tests.support.airflow_env import dag_serializer, load_dags
dag = load_dags(pathlib.Path(sys.argv[1]))["tiny"]
print("RESULT" + json.dumps(dag_serializer().to_dict(dag), sort_keys=True))
"""
TINY = Path(__file__).parent / "dags" / "tiny.py"


def parsed() -> str:
    """The serialized DAG, from a process of its own, as the DAG processor makes it."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(TINY)],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=55,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return next(line for line in done.stdout.splitlines() if line.startswith("RESULT")).removeprefix("RESULT")


@pytest.fixture(scope="module")
def text() -> str:
    return parsed()


@pytest.fixture(scope="module")
def tasks(text: str) -> dict[str, dict[str, Any]]:
    return {each["__var"]["task_id"]: each["__var"] for each in json.loads(text)["dag"]["tasks"]}


def test_two_parses_give_the_same_text(text: str) -> None:
    """Otherwise every parse makes a new version of the DAG."""
    assert parsed() == text


def test_no_address_gets_into_it(text: str) -> None:
    assert " at 0x" not in text


def test_it_can_be_read_back(text: str) -> None:
    dag = airflow_env.dag_serializer().from_dict(json.loads(text))

    assert set(dag.task_ids) == {"exported", "files", "numbers", "parts", "plain", "shifted", "mapped"}
    assert dag.get_task("plain").upstream_task_ids == {"numbers"}
    assert dag.get_task("mapped").upstream_task_ids == {"parts"}
    assert dag.get_task("shifted").upstream_task_ids == {"numbers"}


def test_rendered_fields_read_well(tasks: dict[str, dict[str, Any]]) -> None:
    assert tasks["plain"]["sink"] == "keep"
    assert tasks["plain"]["chunk_size"] == "{{ 2 + 3 }}"
    assert tasks["shifted"]["_operator_name"] == "@task.parallel_pipeline"
