"""What the tests of the sources share with those of the sinks: databases and an Airflow of their own."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.copies import made
from tests.support.databases import TestDatabase


@pytest.fixture(params=["sqlite", "postgres", "mariadb"])
def database(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[TestDatabase]:
    """Each database, known to Airflow as ``warehouse``."""
    from airflow_parallel_provider.sql import database as module

    place = made(request.param, tmp_path, "warehouse")
    monkeypatch.setattr(module, "get_connection", lambda conn_id, field: place.connection)
    yield place
    place.drop()


@pytest.fixture
def warehouse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A SQLite file, known to Airflow as ``warehouse``."""
    file = tmp_path / "warehouse.db"
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", json.dumps({"conn_type": "sqlite", "host": str(file)}))
    return file
