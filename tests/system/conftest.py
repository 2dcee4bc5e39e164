"""One real Airflow for all system tests: scheduler, API server, DAG processor, SQLite, LocalExecutor."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import re
import shutil
import socket
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from dev import keeper
from dev.airflow_client import poll
from dev.local_airflow import LocalAirflow
from tests.support import airflow_env

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dev.airflow_client import AirflowClient

DAGS = Path(__file__).parent / "dags"
EXAMPLES = Path(__file__).parents[2] / "dags_examples"
TASK = "pipeline"
BOOT = "processes/boot.py"
DAGS_STAY_AS_THEY_ARE = {"AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "600"}
"""Reading the same files every ten seconds would take a tenth of a core from the tests."""
SECRETS = ("hush-hush-42", "dont-tell-43")


class Site:
    """The running Airflow and what the tests look at: the database, the gate, the processes."""

    def __init__(self, airflow: LocalAirflow, database: Path, gate: Path) -> None:
        self.airflow = airflow
        self.client: AirflowClient = airflow.client
        self.database = database
        self.gate = gate
        self.statsd: socket.socket | None = None
        self._session = airflow.session

    def metrics(self) -> set[str]:
        """What has come in by StatsD since the last call, without the values."""
        found = set()
        with contextlib.suppress(BlockingIOError):
            while self.statsd is not None:
                for line in self.statsd.recv(65536).decode().splitlines():
                    found.add(line.partition(":")[0])
        return found

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(f"{self.database.as_uri()}?mode=ro", uri=True, timeout=10)) as connection:
            return connection.execute(sql).fetchall()

    def rows(self, table: str) -> list[tuple[Any, ...]]:
        """All rows of a table in order; empty while there is no table."""
        if not self.database.exists() or not self.query(f"SELECT 1 FROM sqlite_master WHERE name = '{table}'"):
            return []
        return self.query(f"SELECT * FROM {table} ORDER BY number")

    def committed(self, table: str, rows: int) -> None:
        """Wait until at least this many rows are in the table."""
        poll(f"{rows} rows in {table}", lambda: len(self.rows(table)) >= rows, timeout=180)

    @property
    def keeps_states(self) -> bool:
        """Whether this Airflow has a task state store."""
        return importlib.util.find_spec("airflow.state") is not None

    @property
    def observes_tasks(self) -> bool:
        """Whether this Airflow sets OpenTelemetry up in tasks."""
        return importlib.util.find_spec("airflow.sdk.observability") is not None

    def start(self, dag_id: str, **params: Any) -> Run:
        return Run(self, dag_id, self.client.trigger(dag_id, conf=params))

    def workers(self) -> list[str]:
        """Command lines of all worker processes of ours, and of their fork servers, wherever they hang in the tree."""
        found = []
        for pid in keeper.session_members(self._session):
            with contextlib.suppress(psutil.Error):
                command = " ".join(psutil.Process(pid).cmdline())
                if BOOT in command:
                    found.append(f"{pid} {command}")
        return found


class Run:
    """A DAG run with one pipeline."""

    def __init__(self, site: Site, dag_id: str, run_id: str) -> None:
        self.site = site
        self.dag_id = dag_id
        self.run_id = run_id

    def wait_for(self, *states: str, tries: int = 0, timeout: float = 40) -> dict[str, Any]:
        """Wait for the pipeline task to be in one of these states."""
        client = self.site.client
        return client.wait_for_task(self.dag_id, self.run_id, TASK, states, tries=tries, timeout=timeout)

    def processes(self) -> list[psutil.Process]:
        """The running task process and everything below it, the task process first."""
        pid = self.wait_for("running", timeout=120)["pid"]
        task = psutil.Process(pid)
        # The fork server and the workers at the second gate; the one before has done its work.
        poll("the workers", lambda: len(task.children(recursive=True)) >= 3, timeout=120)
        return [task, *task.children(recursive=True)]

    def xcom(self, key: str = "return_value") -> Any:
        return self.site.client.xcom(self.dag_id, self.run_id, TASK, key)

    def metrics_of_try(self, number: int) -> Any:
        return self.site.client.task_state(self.dag_id, self.run_id, TASK, f"pipeline_metrics/try-{number}")

    def log(self, number: int = 1) -> str:
        return "\n".join(self.site.client.log_lines(self.dag_id, self.run_id, TASK, number))

    def logged(self, text: str, number: int = 1) -> None:
        """Wait until this is in the log of a try: its supervisor may write the last lines after the end."""
        poll(f"{text!r} in the log", lambda: text in self.log(number), timeout=120)

    def load_key(self, number: int) -> str:
        """The load that a try worked on, from its log."""
        said = re.compile(r"Load (\S+), try (\d+)")
        found: re.Match[str] = poll("the load in the log", lambda: said.search(self.log(number)), timeout=120)
        assert int(found[2]) == number
        return found[1]

    def mark(self, state: str) -> None:
        self.site.client.set_task_state(self.dag_id, self.run_id, TASK, state)

    def clear(self) -> None:
        self.site.client.clear(self.dag_id, self.run_id, [TASK])


def seconds_until_gone(processes: list[psutil.Process], limit: float = 20) -> float:
    """How long it takes from now until all of them have ended; a zombie counts as ended."""
    began = time.monotonic()
    poll(f"the end of {processes}", lambda: not any(map(_runs, processes)), timeout=limit, every=0.02)
    return time.monotonic() - began


def _runs(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def add_secrets(client: AirflowClient) -> None:
    """What the stages ask for; only Airflow's database knows it."""
    client.add_connection("shop", conn_type="http", host="shop", login="alice", password=SECRETS[0])
    client.add_connection("undeclared", conn_type="http", host="shop", login="bob", password=SECRETS[1])
    client.add_variable("color", "blue")


# Of the package, not of the session: an idle scheduler and server take a fifth of a processor from later tests.
@pytest.fixture(scope="package")
def _airflow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    home = tmp_path_factory.mktemp("airflow")
    database, gate = home / "system.db", home / "gate"
    dags = Path(shutil.copytree(DAGS, home / "dags"))
    shutil.copy(EXAMPLES / "resume_after_a_kill.py", dags)  # nothing less than a real scheduler can run it
    connection = json.dumps({"conn_type": "sqlite", "host": str(database)})
    statsd = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    statsd.bind(("127.0.0.1", 0))
    statsd.setblocking(False)
    airflow = LocalAirflow(
        home,
        dags,
        connections={"system_db": connection, "examples_db": connection},
        env={
            **DAGS_STAY_AS_THEY_ARE,
            "SYSTEM_TESTS_GATE": str(gate),
            # One second instead of five: how soon a supervisor hears that its task was marked or cleared.
            "AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL": "1",
            # Ten seconds instead of five minutes: how soon the scheduler misses a task whose supervisor is gone.
            "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "10",
            "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "2",
            "AIRFLOW__PARALLEL_PIPELINE__IFRAME_TAB": "True",
            "AIRFLOW__METRICS__STATSD_ON": "True",
            "AIRFLOW__METRICS__STATSD_HOST": "127.0.0.1",
            "AIRFLOW__METRICS__STATSD_PORT": str(statsd.getsockname()[1]),
            "AIRFLOW__METRICS__STATSD_INFLUXDB_ENABLED": "True",
            "AIRFLOW__METRICS__METRICS_ALLOW_LIST": "parallel_pipeline",
        },
        database=airflow_env.migrated_database(),
    )
    with statsd, airflow:
        add_secrets(airflow.client)
        session = airflow.session
        site = Site(airflow, database, gate)
        site.statsd = statsd
        yield site
    assert keeper.session_members(session) == []


@pytest.fixture
def site(_airflow: Site) -> Iterator[Site]:
    """The Airflow with the gate closed; afterwards no worker of the test's run is left running."""
    _airflow.gate.unlink(missing_ok=True)
    yield _airflow
    _airflow.gate.touch()
    poll("the end of all workers", lambda: not _airflow.workers(), timeout=120)
