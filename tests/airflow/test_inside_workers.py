"""Connections, Variables and the task's own facts inside stages of every kind, in ``dag.test()``."""

from __future__ import annotations

import json
import os
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.support import airflow_env

pytestmark = [pytest.mark.airflow, pytest.mark.timeout(120)]

DAG_FILE = Path(__file__).parent / "dags" / "everywhere.py"
DAY = datetime(2026, 11, 21, 8, tzinfo=UTC)


@pytest.fixture(scope="module")
def rows(metadata_database: None, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    from airflow.models.connection import Connection
    from airflow.models.variable import Variable
    from airflow.utils.session import create_session

    Variable.set("everywhere", "the answer")
    with create_session() as session:
        for name in ("undeclared", "declared"):
            session.add(Connection(conn_id=name, conn_type="http", login=f"{name} login", password=f"{name}-pw-77"))
    file = tmp_path_factory.mktemp("everywhere") / "rows.jsonl"
    folder = airflow_env.isolate() / "dags"
    shutil.copy(DAG_FILE, folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EVERYWHERE_ROWS", str(file))
        run = airflow_env.load_dags(folder)["everywhere"].test(logical_date=DAY)
    (folder / DAG_FILE.name).unlink()
    assert str(run.state) == "success"
    return [json.loads(line) for line in file.read_text().splitlines()]


@pytest.mark.parametrize("kind", ["thread", "process", "async"])
def test_every_kind_is_answered(rows: list[dict[str, Any]], kind: str) -> None:
    assert len(rows) == 24
    for row in rows:
        told = {name: value for name, value in row[kind].items() if name not in ("pid", "run_id", "day")}
        assert told == {
            "variable": "the answer",
            "login": "undeclared login",
            "password": "undeclared-pw-77",
            "declared": "declared login",
            "declared_info": "declared-pw-77",
            "task_id": "ask",
            "try_number": 1,
            "depth": 3,
        }
        assert datetime.fromisoformat(row[kind]["day"]) == DAY
        assert (row[kind]["pid"] == os.getpid()) is (kind != "process")


def test_what_is_missing_is_said_as_airflow_says_it(rows: list[dict[str, Any]]) -> None:
    assert {row["error"] for row in rows} == {"AirflowNotFoundException: The conn_id `nowhere` isn't defined"}
