"""Time limits that databases without a backend of their own are given."""

from __future__ import annotations

import contextlib
import sqlite3
from types import SimpleNamespace
from typing import Any

import pytest

from airflow_parallel_provider.errors import SinkError
from airflow_parallel_provider.sql.backends.error_classifier import has_transient_code
from airflow_parallel_provider.sql.backends.session import Session
from airflow_parallel_provider.sql.backends.timeouts import set_limits
from tests.support.databases import TestDatabase

pytestmark = pytest.mark.airflow
POSTGRES = pytest.mark.parametrize("database", ["postgres-generic"], indirect=True)


@POSTGRES
def test_limits_are_set_in_the_session_and_outlive_a_rollback(database: TestDatabase) -> None:
    with contextlib.closing(database.raw()) as raw:
        Session("postgresql", 7.5, 99).configure(raw)
        raw.rollback()
        with raw.cursor() as cursor:
            found = [cursor.execute(f"SHOW {name}").fetchone()[0] for name in ("lock_timeout", "statement_timeout")]

    assert found == ["7500ms", "99s"]


@POSTGRES
def test_lock_is_given_up_by_the_server(database: TestDatabase) -> None:
    with database.opened(lock_timeout=0.2) as hook, contextlib.closing(database.raw()) as other:
        hook.write_chunk("00000000", [{"id": 1}])
        other.execute(f"LOCK TABLE {database.place('scores')} IN ACCESS EXCLUSIVE MODE")
        with pytest.raises(SinkError, match="LockNotAvailable"):
            hook.write_chunk("00000001", [{"id": 2}], first_position=100)
        other.rollback()
        hook.write_chunk("00000001", [{"id": 2}], first_position=100)

    assert database.rows() == [(1,), (2,)]


class Recorder:
    """A driver's connection that remembers what it was told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def cursor(self) -> Any:
        return SimpleNamespace(execute=self.told.append, close=lambda: None)

    def commit(self) -> None:
        self.told.append("COMMIT")


@pytest.mark.parametrize(
    ("dialect", "told"),
    [
        ("mssql", ["SET LOCK_TIMEOUT 1500"]),
        ("oracle", ["ALTER SESSION SET DDL_LOCK_TIMEOUT = 2"]),
        (
            "snowflake",
            ["ALTER SESSION SET LOCK_TIMEOUT = 2", "ALTER SESSION SET STATEMENT_TIMEOUT_IN_SECONDS = 60"],
        ),
        ("ibm_db_sa", ["SET CURRENT LOCK TIMEOUT 2"]),
        ("redshift", ["SET statement_timeout TO 60000"]),
        ("bigquery", []),
    ],
)
def test_each_dialect_gets_the_limit_in_its_own_words_and_units(dialect: str, told: list[str]) -> None:
    raw = Recorder()

    set_limits(raw, dialect, 1.5, 60)

    assert [each for each in raw.told if each != "COMMIT"] == told
    assert raw.told.count("COMMIT") == len(told)


@pytest.mark.parametrize(
    ("module", "name", "value"), [("oracledb.connection", "call_timeout", 60_000), ("pyodbc", "timeout", 60)]
)
def test_driver_gets_the_limit_where_the_session_cannot(module: str, name: str, value: int) -> None:
    raw = type("Connection", (), {"__module__": module})()

    set_limits(raw, "", 1.5, 60)

    assert getattr(raw, name) == value


def test_limit_that_is_refused_is_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    with contextlib.closing(sqlite3.connect(":memory:")) as raw:
        set_limits(raw, "mssql", 1, 1)

    assert "The database refused 'SET LOCK_TIMEOUT 1000' (OperationalError)" in caplog.text


MSSQL_FAILS_OVER = (976, 983, 3906, 3960, 6005, 10053, 10054, 10060, 10928, 10929, 40197, 40501, 40613, 49918, 49920)
ORACLE_FAILS_OVER = (54, 60, 1033, 1034, 1089, 1090, 3113, 3114, 3135, 8177, 12514, 12537, 12541, 12570, 25401, 25409)


@pytest.mark.parametrize(
    ("dialect", "args", "passes"),
    [
        ("mssql", (1222, b"Lock request time out period exceeded."), True),
        ("mssql", ("42000", "[42000] [Driver] Lock request time out period exceeded. (1222) (SQLExecDirectW)"), True),
        ("mssql", ("23000", "[23000] Violation of PRIMARY KEY constraint (2627)"), False),
        ("mssql", ("23000", "[23000] The duplicate key value is (1205). (2627) (SQLExecDirectW)"), False),
        ("mssql", ("08S01", "[08S01] [Driver]TCP Provider: closed by the remote host. (10054) (SQLExecute)"), True),
        *(("mssql", (code, b"What it says."), True) for code in MSSQL_FAILS_OVER),
        *(("mssql", (code, b"What it says."), False) for code in (547, 515, 2601, 2627, 8152, 245)),
        *(("oracle", (SimpleNamespace(code=code),), True) for code in ORACLE_FAILS_OVER),
        *(("oracle", (SimpleNamespace(code=code),), False) for code in (1, 942, 1400, 1438, 2290, 2291, 12899)),
        ("oracle", (SimpleNamespace(code=0, isrecoverable=True),), True),
        ("oracle", (SimpleNamespace(code=0, isrecoverable=False),), False),
        ("mysql", (1213, "1213 (40001): Deadlock found when trying to get lock"), True),
        ("mysql", (1062, "1062 (23000): Duplicate entry"), False),
        ("trino", (1222,), False),
    ],
)
def test_locks_and_fail_overs_may_pass(dialect: str, args: tuple[Any, ...], passes: bool) -> None:
    assert has_transient_code(Exception(*args), dialect) is passes
