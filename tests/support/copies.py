"""Tables copied from one database to another, as ``TableToTableOperator`` does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import uuid4

from airflow_parallel_provider import Pipeline, RunReport, SinkTable, SqlSource
from airflow_parallel_provider.sql import database as connections
from tests.support.databases import DuckDatabase, MariaDatabase, PostgresDatabase, SqliteDatabase, TestDatabase

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def made(name: str, folder: Path, file: str = "copies") -> TestDatabase:
    """A new place for tables on a database, by its name; to be dropped."""
    if name == "mariadb":
        return MariaDatabase()
    if name.startswith("postgres"):
        return PostgresDatabase("psycopg2" if name.endswith("psycopg2") else "psycopg")
    return SqliteDatabase(folder / f"{file}.db") if name == "sqlite" else DuckDatabase(folder / f"{file}.duckdb")


def copy(
    monkeypatch: pytest.MonkeyPatch,
    source: TestDatabase,
    target: TestDatabase,
    table: str = "origin",
    into: str = "copied",
    *,
    key: str = "id",
    source_options: dict[str, Any] | None = None,
    stages: Any = (),
    run_options: dict[str, Any] | None = None,
    **options: Any,
) -> RunReport:
    """Copy a table.

    :param options: of the sink.
    """
    places = {"from": source.connection, "to": target.connection}
    monkeypatch.setattr(connections, "get_connection", lambda conn_id, _field: places[conn_id])
    reader = SqlSource(table, conn_id="from", key=key, schema=source.schema, **(source_options or {}))
    sink = SinkTable(into, conn_id="to", schema=target.schema, **options)
    return Pipeline(reader, list(stages), sink, load_key=uuid4().hex, **(run_options or {})).run()
