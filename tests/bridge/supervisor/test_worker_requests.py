"""Connections, Variables and the task's own facts inside stages of every kind, in ``dag.test()``."""

from __future__ import annotations

import json
import logging
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


class Told:
    """What one run of the DAG left: rows, log records and XComs."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []
        self.log: list[str] = []
        self.xcoms: dict[str, Any] = {}


class Recorder(logging.Handler):
    def __init__(self, told: Told) -> None:
        super().__init__()
        self.told = told

    def emit(self, record: logging.LogRecord) -> None:
        self.told.log.append(record.getMessage())


@pytest.fixture(scope="module")
def told(metadata_database: None, tmp_path_factory: pytest.TempPathFactory) -> Told:
    from airflow.models.connection import Connection
    from airflow.models.variable import Variable
    from airflow.models.xcom import XComModel
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
        told = Told()
        recorder = Recorder(told)
        loggers = [logging.getLogger(name) for name in ("airflow_parallel_provider", "of.the.dag")]
        for each in loggers:
            each.addHandler(recorder)
        run = airflow_env.load_dags(folder)["everywhere"].test(logical_date=DAY)
        for each in loggers:
            each.removeHandler(recorder)
    (folder / DAG_FILE.name).unlink()
    assert str(run.state) == "success"
    told.rows = [json.loads(line) for line in file.read_text().splitlines()]
    with create_session() as session:
        found = session.query(XComModel).filter(XComModel.run_id == run.run_id).all()
        told.xcoms = {each.key: each.value for each in found}
    return told


@pytest.mark.parametrize("kind", ["thread", "process", "async"])
def test_every_kind_is_answered(told: Told, kind: str) -> None:
    assert len(told.rows) == 23
    for row in told.rows:
        answers = {name: value for name, value in row[kind].items() if name not in ("pid", "run_id", "day")}
        assert answers == {
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


def test_secrets_are_masked_in_what_workers_print_log_and_raise(told: Told) -> None:
    log, xcoms = "\n".join(told.log), json.dumps(told.xcoms)

    assert "printed ***" in log
    assert "logged ***" in log
    assert "cannot log in with ***" in xcoms
    assert "-pw-77" not in log + xcoms


def test_what_is_missing_is_said_as_airflow_says_it(told: Told) -> None:
    assert {row["error"] for row in told.rows} == {"AirflowNotFoundException: The conn_id `nowhere` isn't defined"}
