"""What opening a load costs, and that what makes it cheap gives the same answers."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest

from airflow_parallel_provider.sinks.ledger.chunks import ChunkLedger
from tests.support.databases import SPEC, PostgresDatabase, TestDatabase, on_each_backend
from tests.support.turns import in_turn

pytestmark = pytest.mark.airflow

MOST = {"sqlite": 9, "postgres": 6, "mariadb": 13, "duckdb": 8}
"""Questions about the tables themselves until a load is open, where all tables are there."""
NASTY = (
    "CREATE TABLE {} (a int, b int, PRIMARY KEY (b, a), UNIQUE (a))",
    'CREATE TABLE {} ("it""s %(a)s" int UNIQUE DEFERRABLE, "é" int, a int NOT NULL, UNIQUE (a, "é"))',
    "CREATE TABLE {} (a int, b int); CREATE UNIQUE INDEX ON {} (b) WHERE a > 0; CREATE UNIQUE INDEX ON {} (a)",
    "CREATE TABLE {} (a int, b text); CREATE UNIQUE INDEX ON {} (a, lower(b)); CREATE INDEX ON {} (a)",
    "CREATE TABLE {} (a int, b int, c int, PRIMARY KEY (a) INCLUDE (c)); CREATE UNIQUE INDEX ON {} (b) INCLUDE (c)",
    "CREATE TABLE {} (gone int, a int, b int UNIQUE); ALTER TABLE {} DROP gone; ALTER TABLE {} RENAME b TO c",
    "CREATE TABLE {} (a int, b int, PRIMARY KEY (a, b)) PARTITION BY RANGE (a)",
    "CREATE TABLE {} ()",
    "CREATE VIEW {} AS SELECT 1 AS a, 2 AS b",
)


@contextmanager
def statements() -> Iterator[list[str]]:
    """What SQLAlchemy sends meanwhile."""
    import sqlalchemy as sa

    sent: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        sent.append(statement)

    sa.event.listen(sa.engine.Engine, "before_cursor_execute", note)
    try:
        yield sent
    finally:
        sa.event.remove(sa.engine.Engine, "before_cursor_execute", note)


@on_each_backend
def test_a_load_asks_no_more_than_it_must_of_tables_that_are_there(database: TestDatabase) -> None:
    declared = {"columns": {"id": int, "name": str}, "primary_key": "id"}
    database.opened(**declared).close()
    with statements() as sent:
        database.opened(spec=replace(SPEC, load_key="another"), **declared).close()
    about_tables = [each for each in sent if "load_id" not in each]
    assert len(about_tables) <= MOST[database.name], "\n".join(about_tables)


def test_names_of_columns_are_those_of_the_whole_table(database: TestDatabase) -> None:
    name = 'it\'s "é" 100' if database.name != "mariadb" else "it's é 100"
    with database.opened(table=name, columns={"id": int, "é": str, "B b": float}) as hook:
        opened = hook.destination().database
        with opened.session() as connection:
            for table in (name, f"{name}__dead_letters", "airflow_parallel_ledger"):
                shape = opened.backend.catalog.reflect(connection, table, database.schema)
                assert opened.backend.catalog.column_names(connection, table, database.schema) == set(shape.by_name)
            assert opened.backend.catalog.column_names(connection, "absent", database.schema) is None


@pytest.mark.parametrize("database", ["postgres", "postgres-psycopg2"], indirect=True)
@pytest.mark.parametrize("named", [True, False], ids=["by schema", "on the search path"])
@pytest.mark.parametrize("ddl", NASTY)
@in_turn("postgres-psycopg2", every=6)
def test_the_catalog_of_postgresql_says_what_sqlalchemy_says(database: PostgresDatabase, ddl: str, named: bool) -> None:
    import sqlalchemy as sa

    from airflow_parallel_provider.sql.backends.catalog import Catalog

    table = "ta\"b'l%e"
    database.execute(ddl.replace("{}", database.place(table)))
    opened = database.hook().destination().database
    with opened.session() as connection:
        if not named:
            connection.exec_driver_sql(f'SET LOCAL search_path = "{database.schema}"')
        place = database.schema if named else None
        inspector, catalog = sa.inspect(connection), opened.backend.catalog
        primary, uniques = Catalog.unique_keys(catalog, inspector, table, place)
        own_primary, own_uniques = catalog.unique_keys(inspector, table, place)
        assert own_primary == list(primary)
        # To SQLAlchemy a unique constraint is a constraint and an index.
        assert {tuple(names) for names in own_uniques} == {tuple(names) for names in uniques}
        assert catalog.column_names(connection, table, place) == Catalog.column_names(catalog, connection, table, place)
        assert catalog.column_names(connection, table, "no such schema") is None
    opened.close()


@pytest.mark.parametrize("database", ["postgres"], indirect=True)
def test_keys_on_a_server_that_knows_no_included_columns(database: PostgresDatabase) -> None:
    import sqlalchemy as sa

    database.execute(f"CREATE TABLE {database.place('scores')} (a int, b int, PRIMARY KEY (b, a), UNIQUE (a))")
    opened = database.hook().destination().database
    with opened.session() as connection:
        connection.dialect.server_version_info = (10, 23)
        found = opened.backend.catalog.unique_keys(sa.inspect(connection), "scores", database.schema)
    opened.close()

    assert found == (["b", "a"], [["a"]])


def test_definitions_are_built_once_for_each_place() -> None:
    first = ChunkLedger("ledger", "here", {"mysql_engine": "InnoDB"})
    again = ChunkLedger("ledger", "here", {"mysql_engine": "InnoDB"})
    assert again.chunks is first.chunks
    assert again.loads is first.loads
    for other in (ChunkLedger("other", "here", {"mysql_engine": "InnoDB"}), ChunkLedger("ledger", "here", {})):
        assert other.chunks is not first.chunks
    assert ChunkLedger("ledger", None, {}).chunks is not ChunkLedger("ledger", "here", {}).chunks


def test_only_so_many_definitions_are_kept() -> None:
    first = weakref.ref(ChunkLedger("the first of many", None, {}).chunks)
    assert first() is not None
    for number in range(100):
        ChunkLedger(f"ledger {number}", None, {})
    gc.collect()
    assert first() is None
