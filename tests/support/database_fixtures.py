"""Databases for the tests: SQLite files always, PostgreSQL and MariaDB where they answer."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.databases import (
    GENERIC,
    OWN,
    SELDOM,
    DuckDatabase,
    MariaDatabase,
    PostgresDatabase,
    SqliteDatabase,
    TestDatabase,
)


@pytest.fixture
def sqlite(tmp_path: Path) -> Iterator[SqliteDatabase]:
    """A new SQLite file."""
    database = SqliteDatabase(tmp_path / "warehouse.db")
    yield database
    database.drop()


@pytest.fixture(
    params=[pytest.param(name, marks=[pytest.mark.slow] if name in SELDOM else []) for name in OWN + GENERIC]
)
def database(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[TestDatabase]:
    """Every database with each of its backends; ``parametrize("database", OWN, indirect=True)`` takes some."""
    name = request.param
    database: TestDatabase
    if name.startswith("postgres"):
        database = PostgresDatabase("psycopg2" if name.endswith("psycopg2") else "psycopg")
    elif name.startswith("mariadb"):
        database = MariaDatabase(driver="pymysql" if name.endswith("pymysql") else "mysql.connector")
    elif name == "duckdb":
        database = DuckDatabase(tmp_path / "warehouse.duckdb")
        database.keep_open()
    else:
        database = SqliteDatabase(tmp_path / "warehouse.db")
    if name.endswith("generic"):
        from airflow_parallel_provider.sql import database as module
        from airflow_parallel_provider.sql.backends.base import Backend

        monkeypatch.setattr(module, "backend_class", lambda dialect, driver: Backend)
        database.generic = True
    yield database
    database.drop()
