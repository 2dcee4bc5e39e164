"""Properties of a catalogue by an Airflow connection: its secrets go only where it says itself."""

from __future__ import annotations

import json
from typing import Any

import pytest

pytest.importorskip("pyiceberg")

from airflow.sdk import Connection

from airflow_parallel_provider import PlanError
from airflow_parallel_provider.sinks.lakes.iceberg.catalogs import open_catalog, with_connection

pytestmark = pytest.mark.airflow


def connection(**fields: Any) -> Any:
    extra = fields.pop("extra", None)
    return Connection(conn_id="lake", extra=None if extra is None else json.dumps(extra), **fields)


def test_connection_of_airflows_own_provider() -> None:
    made = connection(
        conn_type="iceberg",
        host="https://catalog.example.com/ws/v1",
        login="id",
        password="secret",
        extra={"warehouse": "s3://lake", "s3.region": "eu-central-1", "odd": 3},
    )

    assert with_connection({"name": "lake", "prefix": "x"}, made) == {
        "uri": "https://catalog.example.com/ws/v1",
        "credential": "id:secret",
        "warehouse": "s3://lake",
        "s3.region": "eu-central-1",
        "name": "lake",
        "prefix": "x",
    }
    assert with_connection({}, connection(conn_type="http", host="c", port=81)) == {"uri": "https://c:81"}


def test_databases() -> None:
    made = connection(
        conn_type="postgres", host="h", port=5, login="u", password="p/w", schema="d",
        extra={"sslmode": "require", "warehouse": "file:///w"},
    )  # fmt: skip

    assert with_connection({}, made) == {
        "type": "sql",
        "uri": "postgresql+psycopg2://u:p%2Fw@h:5/d?sslmode=require",
        "warehouse": "file:///w",
    }
    assert with_connection({}, connection(conn_type="sqlite", host="/a/b.db")) == {
        "type": "sql",
        "uri": "sqlite:////a/b.db",
    }


@pytest.mark.parametrize("name", ["uri", "s3.endpoint", "oauth2-server-uri", "s3.signer", "warehouse", "credential"])
def test_the_author_sends_no_secret_elsewhere(name: str) -> None:
    made = connection(
        conn_type="iceberg", host="https://c", login="id", password="secret", extra={"warehouse": "s3://lake"}
    )

    with pytest.raises(PlanError, match=rf"the connection 'lake' has secrets, .*put '{name}' into its extra"):
        with_connection({name: "https://elsewhere"}, made)


def test_a_catalogue_that_cannot_be_opened_shows_no_password() -> None:
    with pytest.raises(PlanError, match="the catalogue cannot be opened") as caught:
        open_catalog({"type": "sql", "uri": "postgresql+psycopg2://u:topsecret@127.0.0.1:1/d"}, None)
    assert "topsecret" not in str(caught.value)
    with pytest.raises(PlanError, match="the catalogue cannot be opened"):
        open_catalog({"type": "rest"}, None)
