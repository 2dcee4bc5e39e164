"""The same DAG under other executors: LocalExecutor and CeleryExecutor on PostgreSQL, and ``airflow dags test``.

One Airflow runs both executors; the Celery tasks go through Redis to a real worker. With LocalExecutor on SQLite the
same DAG runs in ``test_real_airflow.py``.
"""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest

from dev import keeper
from dev.local_airflow import LocalAirflow
from tests.support.services import missing
from tests.system.all_kinds import FIGURES, ITEMS, TOLD, check_all_kinds
from tests.system.conftest import DAGS, SECRETS, Site, add_secrets

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.system, pytest.mark.timeout(900)]

POSTGRES = os.environ.get("PARALLEL_TESTS_POSTGRES_URL", "postgresql://root@127.0.0.1:5432/test")
REDIS = os.environ.get("PARALLEL_TESTS_REDIS_URL", "redis://127.0.0.1:6379/0")


@pytest.fixture(scope="module")
def metadata_database() -> Iterator[str]:
    """A new database on the PostgreSQL server, as SQLAlchemy's URL."""
    psycopg = pytest.importorskip("psycopg")
    name = f"airflow_{uuid4().hex[:12]}"
    try:
        server = psycopg.connect(POSTGRES, autocommit=True)
    except psycopg.OperationalError:
        missing("no PostgreSQL answers; say where it is with PARALLEL_TESTS_POSTGRES_URL")
    with closing(server):
        server.execute(f"CREATE DATABASE {name}")
        yield f"{POSTGRES.rpartition('/')[0]}/{name}".replace("postgresql://", "postgresql+psycopg2://")
        server.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(scope="module")
def broker() -> Iterator[str]:
    """A prefix of our own for all keys on the Redis server."""
    redis = pytest.importorskip("redis")
    client = redis.Redis.from_url(REDIS)
    try:
        client.ping()
    except redis.ConnectionError:
        missing("no Redis answers; say where it is with PARALLEL_TESTS_REDIS_URL")
    prefix = f"parallel-tests-{uuid4().hex[:8]}:"
    yield prefix
    for key in client.scan_iter(f"{prefix}*"):
        client.delete(key)
    client.close()


@pytest.fixture(scope="module")
def both_executors(metadata_database: str, broker: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    home = tmp_path_factory.mktemp("both")
    database, gate = home / "system.db", home / "gate"
    airflow = LocalAirflow(
        home,
        DAGS,
        connections={"system_db": json.dumps({"conn_type": "sqlite", "host": str(database)})},
        env={
            "SYSTEM_TESTS_GATE": str(gate),
            "AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL": "1",
            "AIRFLOW__CORE__EXECUTOR": "LocalExecutor,CeleryExecutor",
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": metadata_database,
            "AIRFLOW__CELERY__BROKER_URL": REDIS,
            "AIRFLOW__CELERY__RESULT_BACKEND": f"db+sqlite:///{home / 'results.db'}",
            "AIRFLOW__CELERY_BROKER_TRANSPORT_OPTIONS__GLOBAL_KEYPREFIX": broker,
        },
        parallelism=2,
        celery_worker=True,
    )
    with airflow:
        add_secrets(airflow.client)
        session = airflow.session
        yield Site(airflow, database, gate)
    assert keeper.session_members(session) == []


def test_celery_executor(both_executors: Site) -> None:
    run = both_executors.start("all_kinds_in_celery", table="celery_rows")

    check_all_kinds(run, "celery_rows")

    assert "execute_workload" in (both_executors.airflow.logs / "celery-worker.log").read_text()


def test_local_executor_on_postgresql(both_executors: Site) -> None:
    run = both_executors.start("all_kinds", table="local_rows")

    check_all_kinds(run, "local_rows")


# -- airflow dags test ------------------------------------------------------------------------------------------------

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


def test_dags_test_in_a_terminal(tmp_path: Path) -> None:
    database = tmp_path / "system.db"
    connection = json.dumps({"conn_type": "sqlite", "host": str(database)})
    airflow = LocalAirflow(tmp_path, DAGS, connections={"system_db": connection})
    airflow.command("db", "migrate")
    subprocess.run([sys.executable, "-c", ADD_SECRETS, *SECRETS], env=airflow.environment(), check=True, timeout=60)

    said = airflow.command("dags", "test", "all_kinds", "--conf", '{"table": "tested_rows"}')

    with closing(sqlite3.connect(database)) as raw:
        assert raw.execute("SELECT COUNT(*), SUM(number) FROM tested_rows").fetchone() == (ITEMS, sum(range(ITEMS)))
        told = raw.execute(f"SELECT DISTINCT {TOLD} FROM tested_rows").fetchall()
    assert told == [("alice", "bob", "bob", "bob", "blue", 0)]
    assert f"Pipeline pipeline: {FIGURES['state']}" in said
    assert "the worker says *** and ***" in said
    assert not any(secret in said for secret in SECRETS)
