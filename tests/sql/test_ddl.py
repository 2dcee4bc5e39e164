"""Why a table cannot be made or changed: each error names its cause, and only that one's cure."""

from __future__ import annotations

import copy
import json
from typing import Any
from uuid import uuid4

import pytest

from airflow_parallel_provider.errors import SchemaMismatch, SinkError
from tests.support.databases import TestDatabase

pytestmark = pytest.mark.airflow


# Five thousand columns take a second each; the errors are the server's.
OTHER_DRIVERS = [pytest.param(name, marks=pytest.mark.slow) for name in ("postgres-psycopg2", "mariadb-pymysql")]


def on(*names: Any) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("database", names, indirect=True)


@on("postgres", *OTHER_DRIVERS, "mariadb", "sqlite")
def test_too_many_columns_advise_no_rights(database: TestDatabase) -> None:
    rows = [{f"c{number}": 1 for number in range(5_000)}]
    with database.opened() as hook, pytest.raises(SinkError, match="more columns than this database allows") as caught:
        hook.write_chunk("00000000", rows)

    assert "cannot create table 'scores'" in str(caught.value)
    assert "right" not in str(caught.value)


@on("postgres", "sqlite")
def test_too_many_columns_are_not_added_either(database: TestDatabase) -> None:
    database.execute(f"CREATE TABLE {database.place('scores')} (id INTEGER)")
    rows = [{f"c{number}": 1 for number in range(2_500)}]
    with (
        database.opened(on_schema_change="add_columns") as hook,
        pytest.raises(SinkError, match=r"cannot add column 'c.*more columns than this database allows"),
    ):
        hook.write_chunk("00000000", rows)


@on("mariadb")
def test_row_that_is_too_wide_and_key_that_is_too_long(database: TestDatabase) -> None:
    wide: dict[str, Any] = {f"c{number}": "varchar(1000)" for number in range(100)}
    with pytest.raises(SinkError, match="wider than this database allows: declare shorter texts"):
        database.opened("wide", columns=wide)
    with pytest.raises(SinkError, match="key is longer than this database allows"):
        database.opened("long", columns={"id": "varchar(3000)"}, primary_key="id")


@on("postgres")
def test_missing_right_names_the_right(database: TestDatabase) -> None:
    role = f"low_{uuid4().hex[:12]}"
    database.execute(f"CREATE ROLE {role}", f"GRANT USAGE ON SCHEMA {database.quote(database.schema or '')} TO {role}")
    low = copy.copy(database)
    low.connection = copy.copy(database.connection)
    extra = json.loads(low.connection.extra or "{}")
    low.connection.extra = json.dumps({**extra, "options": f"{extra.get('options', '')} -crole={role}"})
    try:
        with pytest.raises(SinkError, match=r"the login lacks a right: GRANT it CREATE"):
            low.opened()
    finally:
        database.execute(f"DROP OWNED BY {role}", f"DROP ROLE {role}")


@on("postgres", "mariadb", "duckdb", "sqlite")
@pytest.mark.parametrize("declared", [{"id": int}, None])
def test_declared_type_is_not_advised_again(database: TestDatabase, declared: Any) -> None:
    database.execute(f"CREATE TABLE {database.place('scores')} (id INTEGER)")
    with (
        database.opened(columns=declared) as hook,
        pytest.raises(SchemaMismatch, match="convert 'id' in a stage") as caught,
    ):
        hook.write_chunk("00000000", [{"id": "seven"}])

    assert ("declare its type before" in str(caught.value)) == (declared is None)
    assert ("change the type of the column in the table" in str(caught.value)) == (declared is not None)
