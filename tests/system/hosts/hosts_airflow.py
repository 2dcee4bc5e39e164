"""An Airflow whose tasks all run on other hosts: two of them, with workers of Celery or of the Edge executor.

Scheduler and server run on this machine, where PostgreSQL and Redis are. The hosts share this machine's files, so all
see the DAGs, and the server finds the logs.
"""

from __future__ import annotations

import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

from dev import keeper
from dev.airflow_client import poll
from dev.local_airflow import LocalAirflow
from tests.system.conftest import DAGS_STAY_AS_THEY_ARE
from tests.system.hosts.network import Network, why_not
from tests.system.observed.observed_airflow import REDIS, broker, metadata_database

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path


HEARTBEAT_TIMEOUT = 15
"""Seconds until the scheduler misses a task; Airflow's own default is 300."""

Settings = dict[str, str]
Argv = list[str]


class HostsSite:
    """The running Airflow, its hosts, and the database that the loads go to."""

    def __init__(self, airflow: LocalAirflow, network: Network, warehouse: str, gate: Path) -> None:
        self.airflow = airflow
        self.client = airflow.client
        self.network = network
        self.gate = gate
        self._warehouse = warehouse
        self._worker: Callable[[str, int], Argv] = lambda name, slots: []

    def start_workers(self, **slots: int) -> None:
        """Start a worker on each host that has none, with so many slots."""
        for name, count in slots.items():
            host = self.network.hosts[name]
            if not host.processes():
                env = self.airflow.environment()
                host.start(self._worker(name, count), env, self.airflow.logs / f"worker-{name}.log")

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        """Ask the warehouse; a table that is not there yet is empty."""
        psycopg = pytest.importorskip("psycopg")
        with psycopg.connect(self._warehouse, autocommit=True) as connection:
            try:
                found: list[tuple[Any, ...]] = connection.execute(sql).fetchall()
            except psycopg.errors.UndefinedTable:
                return []
        return found

    def chunks(self, load_key: str, shard: int) -> int:
        """How many of a shard's own chunks are in, whoever has committed them."""
        loads = f"SELECT load_id FROM airflow_parallel_ledger__loads WHERE load_key = '{load_key}'"
        chunks = self.query(f"SELECT chunk_id FROM airflow_parallel_ledger WHERE load_id IN ({loads})")
        return len([chunk for (chunk,) in chunks if int(chunk) % 8 == shard])


class HostsRun:
    """One run of a sharded load over the hosts."""

    def __init__(self, site: HostsSite, dag_id: str, table: str) -> None:
        self.site = site
        self.table = table
        self.dag_id = dag_id
        self.run_id = site.client.trigger(dag_id, conf={"table": table})
        self.began = time.monotonic()

    def shards(self) -> list[dict[str, Any]]:
        """The task instances of all shards; none before they are mapped."""
        return self.site.client.mapped(self.dag_id, self.run_id, "load.shard")

    def at_work(self) -> list[str]:
        """The hosts of the shards that run now, one entry for each shard."""
        return [each["hostname"] for each in self.shards() if each["state"] == "running"]

    def summary(self, task: str = "load.finish", index: int = -1) -> Any:
        return self.site.client.xcom(self.dag_id, self.run_id, task, "return_value", index)

    def load_key(self) -> str:
        return str(self.summary("load.plan")[0]["load_key"])

    def ended(self, timeout: float = 400) -> str:
        return self.site.client.wait_for_run(self.dag_id, self.run_id, timeout=timeout)

    def rows(self) -> list[tuple[Any, ...]]:
        return self.site.query(f"SELECT number, square, host FROM {self.table} ORDER BY number")


@contextmanager
def celery(home: Path, dags: Path) -> Iterator[HostsSite]:
    """Two hosts with Celery workers; Redis carries the tasks."""
    with broker() as prefix:

        def settings(network: Network, metadata: str) -> Settings:
            network.relay(urlsplit(REDIS).port or 6379)
            return {
                "AIRFLOW__CORE__EXECUTOR": "CeleryExecutor",
                "AIRFLOW__CELERY__BROKER_URL": _seen_from_hosts(REDIS, network),
                "AIRFLOW__CELERY__RESULT_BACKEND": f"db+{metadata}",
                "AIRFLOW__CELERY_BROKER_TRANSPORT_OPTIONS__GLOBAL_KEYPREFIX": prefix,
            }

        def worker(name: str, slots: int) -> Argv:
            quiet = ["--skip-serve-logs", "--without-mingle", "--without-gossip"]
            return ["celery", "worker", "-q", "shards", "-H", f"celery@{name}", "--concurrency", str(slots), *quiet]

        with _over_hosts(home, dags, settings, worker) as site:
            yield site


@contextmanager
def edge(home: Path, dags: Path) -> Iterator[HostsSite]:
    """Two hosts with Edge workers, which ask Airflow's server for tasks; there is no broker."""

    def settings(network: Network, metadata: str) -> Settings:
        return {
            "AIRFLOW__CORE__EXECUTOR": "airflow.providers.edge3.executors.EdgeExecutor",
            "AIRFLOW__DATABASE__EXTERNAL_DB_MANAGERS": "airflow.providers.edge3.models.db.EdgeDBManager",
            "AIRFLOW__EDGE__API_ENABLED": "True",
            "AIRFLOW__EDGE__API_URL": "{server}/edge_worker/v1/rpcapi",
            "AIRFLOW__EDGE__JOB_POLL_INTERVAL": "1",
            "AIRFLOW__EDGE__HEARTBEAT_INTERVAL": "5",
            # A request that a busy server answers later than this is refused, and not sent again.
            "AIRFLOW__API_AUTH__JWT_LEEWAY": "120",
        }

    def worker(name: str, slots: int) -> Argv:
        return ["edge", "worker", "-H", name, "-q", "shards", "-c", str(slots), "--pid", str(home / f"{name}.pid")]

    with _over_hosts(home, dags, settings, worker) as site:
        yield site


@contextmanager
def _over_hosts(
    home: Path,
    dags: Path,
    settings: Callable[[Network, str], Mapping[str, str]],
    worker: Callable[[str, int], Argv],
) -> Iterator[HostsSite]:
    if (reason := why_not()) is not None:
        pytest.skip(f"no hosts of our own on this machine: {reason}")
    with Network("h1", "h2") as network, metadata_database() as metadata, metadata_database() as warehouse:
        network.relay(urlsplit(metadata).port or 5432)
        inside = {"warehouse": _seen_from_hosts(warehouse, network).replace("postgresql+psycopg2", "postgres")}
        airflow = LocalAirflow(home, dags, connections=inside, parallelism=16, api_workers=2)
        network.relay(airflow.port)
        server, seen = f"http://{network.address}:{airflow.port}", _seen_from_hosts(metadata, network)
        airflow.extra_env = {
            **DAGS_STAY_AS_THEY_ARE,
            "HOSTS_TESTS_GATE": str(home / "gate"),
            "NO_PROXY": f"127.0.0.1,{network.address}",
            "AIRFLOW__CORE__HOSTNAME_CALLABLE": "socket.gethostname",
            "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{server}/execution/",
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": seen,
            "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": str(HEARTBEAT_TIMEOUT),
            "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "2",
            **{name: value.format(server=server) for name, value in settings(network, seen).items()},
        }
        with airflow:
            session = airflow.session
            site = HostsSite(airflow, network, warehouse.replace("+psycopg2", ""), home / "gate")
            site._worker = lambda name, slots: [sys.executable, "-m", "airflow", *worker(name, slots)]
            yield site
            for host in network.hosts.values():
                host.kill()
        poll("the end of Airflow", lambda: not keeper.session_members(session), timeout=30)
    assert network.left == ""


def _seen_from_hosts(url: str, network: Network) -> str:
    return url.replace("127.0.0.1", network.address).replace("localhost", network.address)


def lost(run: HostsRun, shards: list[int], tries: int = 2) -> bool:
    """Whether the scheduler has missed these shards: they wait for another try, or are in it."""
    found = [each for each in run.shards() if each["map_index"] in shards]
    return all(each["state"] == "up_for_retry" or each["try_number"] >= tries for each in found)
