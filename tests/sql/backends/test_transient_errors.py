"""Errors of a server that shuts down, fails over or is read-only: no row is to blame, and the same may go in later."""

from __future__ import annotations

import sqlite3
from typing import Any

import pytest

from airflow_parallel_provider.errors import SchemaMismatch, SinkError
from airflow_parallel_provider.sql.backends.mysql.error_classifier import MysqlErrorClassifier
from airflow_parallel_provider.sql.backends.sqlite.error_classifier import SqliteErrorClassifier
from tests.support.databases import TestDatabase

pytestmark = pytest.mark.airflow
ROWS = [{"id": 1}, {"id": 2}]


def with_failing_server(database: TestDatabase, code: str) -> None:
    """A table into which nothing goes while there is a row in ``broken``: the server itself gives the error."""
    scores, broken = database.place("scores"), database.place("broken")
    database.execute(f"CREATE TABLE {scores} (id INTEGER PRIMARY KEY)", f"CREATE TABLE {broken} (n INTEGER)")
    database.execute(f"INSERT INTO {broken} VALUES (1)")
    if database.name == "postgres":
        there = database.place("fail")
        database.execute(
            f"CREATE FUNCTION {there}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
            f"IF EXISTS (SELECT FROM {broken}) THEN RAISE SQLSTATE '{code}'; END IF; RETURN NEW; END $$",
            f"CREATE TRIGGER fail BEFORE INSERT ON {scores} FOR EACH ROW EXECUTE FUNCTION {there}()",
        )
    else:
        database.execute(
            f"CREATE TRIGGER {database.place('fail')} BEFORE INSERT ON {scores} FOR EACH ROW "
            f"IF EXISTS (SELECT 1 FROM {broken}) THEN "
            f"SIGNAL SQLSTATE 'HY000' SET MYSQL_ERRNO = {code}, MESSAGE_TEXT = 'failing over'; END IF"
        )


@pytest.mark.parametrize(
    ("database", "code"),
    [
        *(("postgres", code) for code in ("25006", "57P01", "57P02", "57P03", "40001", "40P01", "58030")),
        ("postgres-psycopg2", "25006"),
        *(("mariadb", code) for code in ("1053", "1290", "1836", "1792", "1047")),
        ("mariadb-pymysql", "1290"),
    ],
    indirect=["database"],
)
def test_no_row_is_blamed_for_a_failing_server(database: TestDatabase, code: str) -> None:
    with_failing_server(database, code)

    with database.opened(lock_timeout=0.2, max_rejected=10) as hook:
        with pytest.raises(SinkError, match="run the task again: nothing is lost or doubled") as caught:
            hook.write_chunk("00000000", ROWS)
        database.execute(f"DELETE FROM {database.place('broken')}")
        receipt = hook.write_chunk("00000000", ROWS)

    assert not isinstance(caught.value, SchemaMismatch)
    assert receipt.rows == 2
    assert database.rows() == [(1,), (2,)]


@pytest.mark.parametrize(("database", "code"), [("postgres", "23514"), ("mariadb", "4025")], indirect=["database"])
def test_row_is_still_blamed_for_what_it_breaks(database: TestDatabase, code: str) -> None:
    """The same trigger with the error of a CHECK."""
    with_failing_server(database, code)

    with database.opened(lock_timeout=0.2) as hook, pytest.raises(SchemaMismatch):
        hook.write_chunk("00000000", ROWS)


@pytest.mark.parametrize(
    ("code", "passing"),
    [
        (sqlite3.SQLITE_BUSY, True),
        (sqlite3.SQLITE_BUSY_SNAPSHOT, True),
        (sqlite3.SQLITE_LOCKED_SHAREDCACHE, True),
        (sqlite3.SQLITE_IOERR_WRITE, True),
        (sqlite3.SQLITE_CANTOPEN, True),
        (sqlite3.SQLITE_PROTOCOL, True),
        (sqlite3.SQLITE_CONSTRAINT_UNIQUE, False),
        (sqlite3.SQLITE_MISMATCH, False),
        (sqlite3.SQLITE_READONLY, False),
    ],
)
def test_what_may_pass_in_sqlite(code: int, passing: bool) -> None:
    error: Any = sqlite3.OperationalError("what it says")
    error.sqlite_errorcode = code

    assert SqliteErrorClassifier("sqlite").is_transient(error) is passing


@pytest.mark.parametrize(
    ("name", "passing"),
    [
        ("TransactionException", True),
        ("IOException", True),
        ("HTTPException", True),
        ("ConnectionException", True),
        ("OutOfMemoryException", True),
        ("FatalException", True),
        ("ConstraintException", False),
        ("ConversionException", False),
        ("InterruptException", False),
    ],
)
def test_what_may_pass_in_duckdb(name: str, passing: bool) -> None:
    duckdb = pytest.importorskip("duckdb")
    from airflow_parallel_provider.sql.backends.duckdb.error_classifier import DuckErrorClassifier

    assert DuckErrorClassifier("duckdb").is_transient(getattr(duckdb, name)("what it says")) is passing


@pytest.mark.parametrize(
    ("name", "passing"),
    [
        ("ER_SERVER_SHUTDOWN", True),
        ("ER_OPTION_PREVENTS_STATEMENT", True),
        ("ER_READ_ONLY_MODE", True),
        ("ER_CANT_EXECUTE_IN_READ_ONLY_TRANSACTION", True),
        ("ER_INNODB_READ_ONLY", True),
        ("ER_SERVER_OFFLINE_MODE", True),
        ("ER_SERVER_ISNT_AVAILABLE", True),
        ("ER_SESSION_WAS_KILLED", True),
        ("ER_TRANSACTION_ROLLBACK_DURING_COMMIT", True),
        ("ER_RUN_HOOK_ERROR", True),
        ("ER_ERROR_DURING_COMMIT", True),
        ("ER_TABLE_DEF_CHANGED", True),
        ("ER_LOCK_DEADLOCK", True),
        ("ER_WARN_I_S_SKIPPED_TABLE", True),
        ("ER_NET_READ_ERROR", True),
        ("CR_MALFORMED_PACKET", True),
        ("CR_SERVER_LOST", True),
        ("ER_DUP_ENTRY", False),
        ("ER_DATA_TOO_LONG", False),
        ("ER_NO_SUCH_TABLE", False),
        ("ER_CHECK_CONSTRAINT_VIOLATED", False),
    ],
)
def test_what_may_pass_in_mysql(name: str, passing: bool) -> None:
    """By the names that Oracle's driver gives the numbers."""
    connector = pytest.importorskip("mysql.connector")
    from mysql.connector import errorcode

    error = connector.DatabaseError("what it says", errno=getattr(errorcode, name))

    assert MysqlErrorClassifier("mysql").is_transient(error) is passing
