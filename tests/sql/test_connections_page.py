"""The claims of docs/connections.md: its URIs reach their hooks, and the rights that it lists are enough."""

from __future__ import annotations

import copy
import dataclasses
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from airflow_parallel_provider.sql.database import resolved_hook
from tests.support.databases import SPEC, MariaHook, TestDatabase, connection_with

pytestmark = pytest.mark.airflow
PAGE = (Path(__file__).parents[2] / "docs" / "connections.md").read_text(encoding="utf-8")
ON_THE_TABLE = {"append": "SELECT, INSERT", "merge": "SELECT, INSERT, UPDATE", "replace": "SELECT, INSERT, DELETE"}
LEDGER = ("airflow_parallel_ledger", "airflow_parallel_ledger__loads", "scores__dead_letters")
MAY_CREATE = {"postgres": "CREATE ON SCHEMA", "mariadb": "CREATE, DROP, ALTER, INSERT, DELETE, SELECT"}


def uri(scheme: str) -> str:
    found = re.search(rf"`({scheme}://[^`]+)`", PAGE)
    assert found is not None
    return found[1]


def hook_of(scheme: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", uri(scheme))
    return resolved_hook("warehouse")


def test_uri_of_postgres(monkeypatch: pytest.MonkeyPatch) -> None:
    hook = hook_of("postgres", monkeypatch)
    passed: dict[str, Any] = {}
    monkeypatch.setattr(hook, "_create_connection", passed.update)

    hook.get_conn()

    assert passed == {
        "host": "db.example.org", "port": 5432, "user": "loader", "password": "s@fe", "dbname": "shop",
        "sslmode": "verify-full", "sslrootcert": "/etc/ca.pem",
    }  # fmt: skip


def test_uris_of_files(monkeypatch: pytest.MonkeyPatch) -> None:
    assert hook_of("sqlite", monkeypatch).get_uri() == "sqlite:////data/warehouse.db"
    duckdb = hook_of("duckdb", monkeypatch)
    assert duckdb.get_database() == "/data/warehouse.duckdb"
    assert duckdb.get_connect_config()["memory_limit"] == "2GB"
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", "duckdb:////data/x.duckdb")
    assert resolved_hook("warehouse").get_database() == ":memory:"


@pytest.mark.parametrize("scheme", ["mysql", "mssql", "oracle"])
def test_uris_of_servers(scheme: str) -> None:
    """Their providers are not installed here: how Airflow takes the URI apart."""
    from airflow.sdk import Connection

    found = Connection.from_uri(uri(scheme), conn_id="warehouse")

    assert (found.conn_type, found.host, found.login, found.password) == (scheme, "db.example.org", "loader", "s@fe")
    assert (found.schema or found.extra_dejson["service_name"]) == "shop"


@pytest.fixture
def lowly(database: TestDatabase) -> Iterator[tuple[TestDatabase, str]]:
    """The same place for a login without any right, and its name."""
    name = f"low_{uuid4().hex[:12]}"
    low = copy.copy(database)
    if database.name == "postgres":
        database.execute(
            f"CREATE ROLE {name}", f"GRANT USAGE ON SCHEMA {database.quote(database.schema or '')} TO {name}"
        )
        low.connection = copy.copy(database.connection)
        extra = json.loads(low.connection.extra or "{}")
        low.connection.extra = json.dumps({**extra, "options": f"{extra.get('options', '')} -crole={name}"})
    else:
        database.execute(f"CREATE USER {name} IDENTIFIED BY 'low'")
        where = {**database._where, "database": database.schema, "user": name, "password": "low"}
        low.connection = connection_with(MariaHook(where))
    yield low, name
    database.execute(
        *([f"DROP OWNED BY {name}", f"DROP ROLE {name}"] if database.name == "postgres" else [f"DROP USER {name}"])
    )


@pytest.mark.parametrize("database", ["postgres", "mariadb"], indirect=True)
@pytest.mark.parametrize("disposition", ["append", "merge", "replace"])
def test_rights_of_the_page_are_enough(
    database: TestDatabase, lowly: tuple[TestDatabase, str], disposition: str
) -> None:
    low, name = lowly
    with database.hook(columns={"id": int, "x": int}, primary_key="id") as hook:
        hook.open(SPEC)  # makes the tables, as the page says
        hook.write_chunk("00000000", [{"id": 1, "x": 0}])  # a merge into an empty table only inserts
    rights = [f"GRANT SELECT, INSERT, UPDATE, DELETE ON {database.place(each)} TO {name}" for each in LEDGER]
    rights.append(f"GRANT {ON_THE_TABLE[disposition]} ON {database.place('scores')} TO {name}")
    if disposition == "replace":
        place = database.quote(database.schema or "") + ("" if database.name == "postgres" else ".*")
        to_create = MAY_CREATE[database.name]
        rights.append(
            f"GRANT {to_create} {place} TO {name}"
            if "SCHEMA" in to_create
            else f"GRANT {to_create} ON {place} TO {name}"
        )
    database.execute(*rights)

    options: dict[str, Any] = {"write_disposition": disposition, "primary_key": "id"}
    with low.hook(**options) as hook:
        hook.open(dataclasses.replace(SPEC, load_key="low"))
        hook.write_chunk("00000000", [{"id": 2, "x": 1}, {"id": 3 if disposition == "append" else 1, "x": 1}])
        hook.consolidate()

    expected = {1: 0, 2: 1, 3: 1} if disposition == "append" else {1: 1, 2: 1}
    assert {row[0]: row[1] for row in database.rows("scores", "id, x")} == expected
