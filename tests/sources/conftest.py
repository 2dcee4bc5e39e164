"""What the tests of the sources share with those of the sinks: databases and an Airflow of their own."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.databases import DuckDatabase, MariaDatabase, PostgresDatabase, SqliteDatabase, TestDatabase


@pytest.fixture(params=["sqlite", "postgres", "mariadb"])
def database(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[TestDatabase]:
    """Each database, known to Airflow as ``warehouse``."""
    from airflow_parallel_provider.sql import database as module

    made: TestDatabase
    if request.param == "postgres":
        made = PostgresDatabase()
    elif request.param == "mariadb":
        made = MariaDatabase()
    elif request.param == "duckdb":
        made = DuckDatabase(tmp_path / "warehouse.duckdb")
    else:
        made = SqliteDatabase(tmp_path / "warehouse.db")
    monkeypatch.setattr(module, "get_connection", lambda conn_id, field: made.connection)
    yield made
    made.drop()


@pytest.fixture
def warehouse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A SQLite file, known to Airflow as ``warehouse``."""
    file = tmp_path / "warehouse.db"
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", json.dumps({"conn_type": "sqlite", "host": str(file)}))
    return file
