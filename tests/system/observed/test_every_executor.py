"""The same DAG under other executors: LocalExecutor and CeleryExecutor on PostgreSQL, and ``airflow dags test``.

One Airflow runs both executors; the Celery tasks go through Redis to a real worker. With LocalExecutor on SQLite the
same DAG runs in ``test_real_airflow.py``.
"""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from dev.local_airflow import LocalAirflow
from tests.support import airflow_env
from tests.system.all_kinds import FIGURES, ITEMS, TOLD, check_all_kinds
from tests.system.conftest import DAGS, SECRETS

if TYPE_CHECKING:
    from tests.system.conftest import Run
    from tests.system.observed.observed_airflow import Observed

pytestmark = [pytest.mark.system, pytest.mark.timeout(900)]  # the first test also waits for Airflow to start


@pytest.fixture(scope="module")
def runs(observed: Observed) -> tuple[Run, Run]:
    """At the same time, one by Celery and one by LocalExecutor."""
    return observed.start("all_kinds_in_celery", table="celery_rows"), observed.start("all_kinds", table="local_rows")


def test_celery_executor(observed: Observed, runs: tuple[Run, Run]) -> None:
    check_all_kinds(runs[0], "celery_rows")

    assert "execute_workload" in (observed.airflow.logs / "celery-worker.log").read_text()


def test_local_executor_on_postgresql(runs: tuple[Run, Run]) -> None:
    check_all_kinds(runs[1], "local_rows")


ADD_SECRETS = """
import sys
from airflow.models.connection import Connection
from airflow.models.variable import Variable
from airflow.utils.session import create_session
with create_session() as session:
    session.add(Connection(conn_id="shop", conn_type="http", login="alice", password=sys.argv[1]))
    session.add(Connection(conn_id="undeclared", conn_type="http", login="bob", password=sys.argv[2]))
    session.add(Variable(key="color", val="blue"))
"""


@pytest.mark.slow  # tests/operators/test_dag_test.py does the same in one process
def test_dags_test_in_a_terminal(tmp_path: Path) -> None:
    """In a home of its own: with OpenTelemetry and OpenLineage switched on, Airflow 3.1 prints no task log there."""
    database = tmp_path / "system.db"
    connection = json.dumps({"conn_type": "sqlite", "host": str(database)})
    airflow = LocalAirflow(
        tmp_path, DAGS, connections={"system_db": connection}, database=airflow_env.migrated_database()
    )
    airflow.make_database()
    subprocess.run([sys.executable, "-c", ADD_SECRETS, *SECRETS], env=airflow.environment(), check=True, timeout=60)

    said = airflow.command("dags", "test", "all_kinds", "--conf", '{"table": "tested_rows"}')

    with closing(sqlite3.connect(database)) as raw:
        assert raw.execute("SELECT COUNT(*), SUM(number) FROM tested_rows").fetchone() == (ITEMS, sum(range(ITEMS)))
        told = raw.execute(f"SELECT DISTINCT {TOLD} FROM tested_rows").fetchall()
    assert told == [("alice", "bob", "bob", "bob", "blue", 0)]
    assert f"Pipeline pipeline: {FIGURES['state']}" in said
    assert "the worker says *** and ***" in said
    assert not any(secret in said for secret in SECRETS)
