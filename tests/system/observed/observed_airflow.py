"""One Airflow with everything switched on, for the tests of executors and of what others see of a run.

LocalExecutor and CeleryExecutor, whose tasks go through Redis to a real worker; PostgreSQL for Airflow's own database;
OpenTelemetry metrics and traces; the OpenLineage provider with its HTTP transport; and between tasks and API server a
line that the tests can hold. An Airflow takes a minute of the processor, so these tests share one.
"""

from __future__ import annotations

import json
import os
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest

from dev import keeper
from dev.local_airflow import LocalAirflow
from tests.support.receivers import LineageReceiver, OtlpCollector, SlowLine
from tests.support.services import missing
from tests.system.conftest import DAGS, DAGS_STAY_AS_THEY_ARE, Site, add_secrets

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

POSTGRES = os.environ.get("PARALLEL_TESTS_POSTGRES_URL", "postgresql://root@127.0.0.1:5432/test")
REDIS = os.environ.get("PARALLEL_TESTS_REDIS_URL", "redis://127.0.0.1:6379/0")


class Observed(Site):
    """The Airflow with who observes it."""

    collector: OtlpCollector
    lineage: LineageReceiver
    line: SlowLine


@contextmanager
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


@contextmanager
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


@contextmanager
def observed_airflow(home: Path) -> Iterator[Observed]:
    """Start it below this folder, end it afterwards."""
    database, gate = home / "system.db", home / "gate"
    connections = {
        "system_db": json.dumps({"conn_type": "sqlite", "host": str(database)}),
        "warehouse": POSTGRES.replace("postgresql://", "postgres://"),
    }
    airflow = LocalAirflow(home, DAGS, connections=connections, parallelism=2, celery_worker=True)
    with (
        metadata_database() as metadata,
        broker() as prefix,
        OtlpCollector() as collector,
        LineageReceiver() as lineage,
        SlowLine(airflow.url) as line,
    ):
        airflow.extra_env = {
            **DAGS_STAY_AS_THEY_ARE,
            "SYSTEM_TESTS_GATE": str(gate),
            "NO_PROXY": "127.0.0.1",
            "AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL": "1",
            "AIRFLOW__CORE__EXECUTOR": "LocalExecutor,CeleryExecutor",
            "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{line.url}/execution/",
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": metadata,
            "AIRFLOW__CELERY__BROKER_URL": REDIS,
            "AIRFLOW__CELERY__RESULT_BACKEND": f"db+sqlite:///{home / 'results.db'}",
            "AIRFLOW__CELERY_BROKER_TRANSPORT_OPTIONS__GLOBAL_KEYPREFIX": prefix,
            "AIRFLOW__METRICS__OTEL_ON": "True",
            "AIRFLOW__METRICS__METRICS_ALLOW_LIST": "parallel_pipeline",
            "AIRFLOW__TRACES__OTEL_ON": "True",
            "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
            "OTEL_TRACES_EXPORTER": "otlp_proto_http",
            "OTEL_METRIC_EXPORT_INTERVAL": "3600000",  # only what a task sends at its end: each value once
            "AIRFLOW__OPENLINEAGE__TRANSPORT": json.dumps({"type": "http", "url": lineage.url}),
        }
        with airflow:
            add_secrets(airflow.client)
            session = airflow.session
            site = Observed(airflow, database, gate)
            site.collector, site.lineage, site.line = collector, lineage, line
            yield site
        assert keeper.session_members(session) == []
