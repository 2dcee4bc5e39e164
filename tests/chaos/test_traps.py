"""What a server does silently, and time limits: refused or handled."""

from __future__ import annotations

import time
from contextlib import closing
from typing import Any

import pytest

from airflow_parallel_provider.errors import SinkError
from tests.support.children import everything, rows_of
from tests.support.databases import TestDatabase

pytestmark = pytest.mark.airflow
SIZE = 20
SERVERS = pytest.mark.parametrize("database", ["postgres", "mariadb"], indirect=True)
MYSQL = pytest.mark.parametrize("database", ["mariadb", "mariadb-generic"], indirect=True)
KEYED = "id BIGINT PRIMARY KEY, name VARCHAR(100)"


def failing_hook(point: str, failures: int = 1) -> Any:
    """A hook class that stumbles at a point, so many times."""
    from airflow_parallel_provider.hooks.sink_table import SinkTableHook

    left = [ZeroDivisionError("a bug")] * failures

    class FailingHook(SinkTableHook):
        def reached(self, here: str) -> None:
            if here == point and left:
                raise left.pop()

    return FailingHook


@MYSQL
def test_table_that_is_made_does_not_commit_what_went_before(database: TestDatabase) -> None:
    """On MySQL CREATE TABLE commits: inside a chunk's transaction it would leave the claim without its rows."""
    with database.opened(cls=failing_hook("after_rows")) as hook:
        with pytest.raises(ZeroDivisionError):
            hook.write_chunk("00000000", rows_of(0, SIZE))
        assert database.rows() == []
        assert database.ledger() == []
        hook.write_chunk("00000000", rows_of(0, SIZE))

    assert database.rows(columns="id, name") == everything(1, SIZE)


@pytest.mark.parametrize("database", ["mariadb"], indirect=True)
@pytest.mark.parametrize("point", ["after_claim", "after_rows", "before_commit"])
def test_merge_commits_nothing_half_way(database: TestDatabase, point: str) -> None:
    """Neither does what a merge needs: the rows that were there before are as they were."""
    options: dict[str, Any] = {"write_disposition": "merge", "primary_key": "id"}
    with database.opened(**options) as hook:
        hook.write_chunk("00000000", rows_of(0, SIZE))
    changed = [{**row, "name": "changed"} for row in rows_of(0, SIZE)]
    with database.opened(cls=failing_hook(point), **options) as hook, pytest.raises(ZeroDivisionError):
        hook.write_chunk("00000001", changed, first_position=SIZE)

    assert database.rows(columns="id, name") == everything(1, SIZE)
    assert len(database.ledger()) == 1


@SERVERS
def test_lock_wait_in_the_rows_takes_the_claim_back(database: TestDatabase) -> None:
    """MariaDB rolls back the statement alone (error 1205): a COMMIT would then keep the claim without its rows."""
    database.execute(f"CREATE TABLE {database.place('scores')} ({KEYED})")
    with database.opened(lock_timeout=1) as hook, closing(database.raw()) as other:
        cursor = other.cursor()
        cursor.execute(f"INSERT INTO {database.place('scores')} VALUES (5, 'somebody else')")
        with pytest.raises(SinkError, match=r"chunk 00000000 could not be committed within 1 s"):
            hook.write_chunk("00000000", rows_of(0, SIZE))
        assert database.ledger() == []
        cursor.close()
        other.rollback()
        hook.write_chunk("00000000", rows_of(0, SIZE))

    assert database.rows(columns="id, name") == everything(1, SIZE)
    assert len(database.ledger()) == 1


SLOW_ROWS = {
    "postgres": (
        "CREATE FUNCTION {schema}.dawdle() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(30); END'",
        "CREATE TRIGGER slow BEFORE INSERT ON {table} FOR EACH ROW EXECUTE FUNCTION {schema}.dawdle()",
    ),
    "mariadb": ("CREATE TRIGGER {schema}.slow BEFORE INSERT ON {table} FOR EACH ROW SET NEW.name = SLEEP(30)",),
}


@SERVERS
def test_statement_that_takes_too_long_is_broken_off(database: TestDatabase) -> None:
    database.execute(f"CREATE TABLE {database.place('scores')} ({KEYED})")
    assert database.schema
    places = {"schema": database.quote(database.schema), "table": database.place("scores")}
    database.execute(*(statement.format(**places) for statement in SLOW_ROWS[database.name]))
    began = time.monotonic()
    with (
        database.opened(lock_timeout=0.5, statement_timeout=2) as hook,
        pytest.raises(SinkError, match=r"could not be committed within 0.5 s \(.*(57014|1969)"),
    ):
        hook.write_chunk("00000000", rows_of(0, 1))

    assert time.monotonic() - began < 20
    assert database.ledger() == []
    assert database.rows() == []


LIMITS = {
    "postgres": (
        "SELECT setting FROM pg_settings WHERE name ~ '^(lock|statement|idle_in_transaction.*)_timeout$' ORDER BY name",
        [("90000",), ("7000",), ("90000",)],
    ),
    "mariadb": ("SELECT @@innodb_lock_wait_timeout, @@max_statement_time", [(7, 90.0)]),
}


@SERVERS
def test_limits_are_those_that_were_declared_also_on_a_new_connection(database: TestDatabase) -> None:
    sql, limits = LIMITS[database.name]
    with database.opened(lock_timeout=7, statement_timeout=90) as hook:
        for _ in range(2):
            connection = hook._database.connection()
            assert list(map(tuple, connection.exec_driver_sql(sql).fetchall())) == limits
            hook._database.invalidate()


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_sqlite_waits_for_a_lock_as_long_as_was_declared(database: TestDatabase) -> None:
    with database.opened(lock_timeout=1.5) as hook, closing(database.raw()) as other:
        other.execute("BEGIN IMMEDIATE")
        began = time.monotonic()
        with pytest.raises(SinkError, match=r"could not be committed within 1.5 s"):
            hook.write_chunk("00000000", rows_of(0, SIZE))
        waited = time.monotonic() - began
        other.rollback()
        hook.write_chunk("00000000", rows_of(0, SIZE))

    assert 1.5 <= waited < 20
    assert database.rows(columns="id, name") == everything(1, SIZE)


@pytest.mark.parametrize("database", ["postgres", "postgres-psycopg2"], indirect=True)
def test_session_that_was_ended_for_doing_nothing_is_replaced(database: TestDatabase) -> None:
    """A machine that was asleep in the middle of a chunk: the rows are not to blame."""
    from airflow_parallel_provider.hooks.sink_table import SinkTableHook

    class SleepingHook(SinkTableHook):
        slept = False

        def reached(self, here: str) -> None:
            if here == "after_claim" and not self.slept:
                self.slept = True
                assert self._database
                raw: Any = self._database.connection().connection.driver_connection
                number = raw.info.backend_pid
                while database.fetch(f"SELECT FROM pg_stat_activity WHERE pid = {number}"):
                    time.sleep(0.05)

    with database.opened(cls=SleepingHook, statement_timeout=2) as hook:
        hook.write_chunk("00000000", rows_of(0, SIZE))

    assert database.rows(columns="id, name") == everything(1, SIZE)
