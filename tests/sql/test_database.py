"""Whom the sink talks to: Airflow once, on the thread that prepares; the database through the connection's own hook."""

from __future__ import annotations

import sqlite3
import threading
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from airflow_parallel_provider.errors import PlanError, SchemaMismatch, SinkError, UnsafeTable
from airflow_parallel_provider.sinks.table import SinkTable
from tests.support.databases import OWN, SPEC, SqliteDatabase, TestDatabase, connection_with

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_mock import MockerFixture

pytestmark = pytest.mark.airflow


def connection(**parts: Any) -> Any:
    from airflow.sdk import Connection

    return Connection(conn_id="warehouse", **parts)


def test_connection_comes_from_the_environment(sqlite: SqliteDatabase, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", f'{{"conn_type": "sqlite", "host": "{sqlite.path}"}}')
    sink = SinkTable("scores", conn_id="warehouse")

    sink.prepare(SPEC)
    sink.open()
    sink.close()

    assert sqlite.exists("airflow_parallel_ledger")


def test_missing_connection_is_named_before_anything_starts() -> None:
    sink = SinkTable("scores", conn_id="nowhere")

    with pytest.raises(
        PlanError, match=r"SinkTable.conn_id='nowhere': there is no such connection in Airflow: .*AIRFLOW_CONN_"
    ):
        sink.prepare(SPEC)


@pytest.mark.parametrize(
    ("parts", "complaint"),
    [
        ({"conn_type": "nonsense"}, "there is no hook for its type 'nonsense'.*install the provider package"),
        ({"conn_type": "package_index"}, "its type 'package_index' is not an SQL database: name one that is"),
    ],
)
def test_connection_that_is_no_database_is_refused(parts: dict[str, Any], complaint: str) -> None:
    from airflow_parallel_provider.hooks.sink_table import SinkTableHook

    hook = SinkTableHook("warehouse", "scores", connection=connection(**parts))

    with pytest.raises(PlanError, match=f"SinkTable.conn_id='warehouse': .*{complaint}"):
        hook.resolve()


@pytest.mark.parametrize("database", ["sqlite", "postgres"], indirect=True)
def test_airflow_is_asked_once_and_never_from_the_sink_thread(database: TestDatabase, mocker: MockerFixture) -> None:
    """Both a look-up and the masking of secrets go through the one channel to the supervisor."""
    from airflow.sdk import BaseHook, Connection

    database.connection.extra = '{"application_name": "tests"}' if database.name == "postgres" else None
    looked_up = mocker.patch.object(BaseHook, "get_connection", return_value=database.connection)
    parsed: list[int] = []
    extra = Connection.extra_dejson.fget  # type: ignore[attr-defined]

    def recording(self: Any) -> Any:
        parsed.append(threading.get_ident())
        return extra(self)

    mocker.patch.object(Connection, "extra_dejson", property(recording))
    sink = SinkTable("scores", conn_id="warehouse", schema=database.schema)

    sink.prepare(SPEC)
    asked_before = len(parsed)
    looked_up.side_effect = AssertionError("asked again")
    run_on_thread(sink.open)
    run_on_thread(sink.close)

    assert looked_up.call_count == 1
    assert len(parsed) == asked_before
    assert set(parsed) == {threading.get_ident()}
    assert database.exists("airflow_parallel_ledger")


def run_on_thread(function: Any) -> None:
    failures: list[BaseException] = []

    def run() -> None:
        try:
            function()
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(30)
    assert not thread.is_alive()
    if failures:
        raise failures[0]


def test_unreachable_database_is_said_with_the_connection_id() -> None:
    from airflow_parallel_provider.hooks.sink_table import SinkTableHook

    hook = SinkTableHook(
        "warehouse", "scores", connection=connection(conn_type="sqlite", host="/no/such/folder/file.db")
    )

    with hook, pytest.raises(SinkError, match=r"conn_id='warehouse': cannot connect .*unable to open.*check host"):
        hook.open(SPEC)


def test_database_in_memory_is_refused() -> None:
    from airflow_parallel_provider.hooks.sink_table import SinkTableHook

    memory = connection(conn_type="sqlite", host="x", extra='{"mode": "memory"}')

    with (
        SinkTableHook("warehouse", "scores", connection=memory) as hook,
        pytest.raises(UnsafeTable, match=r"SQLite database in memory.*give the connection a file"),
    ):
        hook.open(SPEC)


@pytest.mark.parametrize("database", ["postgres"], indirect=True)
def test_password_is_not_in_the_engine(database: TestDatabase) -> None:
    database.connection.password = "hunter2"

    with database.opened() as hook:
        engine = hook._database._engine
        shown = repr(engine) + str(engine.url) + repr(engine.url.translate_connect_args())

    assert "hunter2" not in shown


@pytest.mark.parametrize("database", OWN, indirect=True)
def test_each_database_gets_its_own_backend(database: TestDatabase) -> None:
    with database.opened() as hook:
        name = type(hook._database.backend).__name__
        driver = hook._database._engine.driver

    assert (
        name
        == {
            "pysqlite": "SqliteBackend",
            "psycopg": "PostgresBackend",
            "psycopg2": "Psycopg2Backend",  # as long as SQLAlchemy is 1.4
            "mysqlconnector": "MysqlBackend",
            "duckdb": "DuckBackend",
        }[driver]
    )


@pytest.mark.parametrize("database", ["sqlite-generic", "postgres-generic", "mariadb-generic"], indirect=True)
def test_the_general_backend_works_with_any_database(database: TestDatabase) -> None:
    with database.opened() as hook:
        assert type(hook._database.backend).__name__ == "Backend"


@pytest.mark.parametrize("database", ["mariadb"], indirect=True)
def test_table_that_cannot_roll_back_is_refused(database: TestDatabase) -> None:
    database.execute(f"CREATE TABLE {database.place('scores')} (id INTEGER) ENGINE=MyISAM")

    with database.hook() as hook, pytest.raises(UnsafeTable, match=r"'scores' has the engine MyISAM.*ENGINE=InnoDB"):
        hook.open(SPEC)


@pytest.mark.parametrize("database", ["mariadb-generic"], indirect=True)
def test_ledger_that_cannot_roll_back_is_found_out(database: TestDatabase) -> None:
    """The backend for unknown databases cannot ask for the engine, so it tries."""
    with database.opened():
        pass
    for table in ("airflow_parallel_ledger", "airflow_parallel_ledger__loads"):
        database.execute(f"ALTER TABLE {database.place(table)} ENGINE=MyISAM")

    with database.hook() as hook, pytest.raises(UnsafeTable, match="a rolled-back row still exists"):
        hook.open(SPEC)

    assert len(database.rows("airflow_parallel_ledger__loads")) == 1


@pytest.mark.parametrize("database", ["postgres"], indirect=True)
def test_dict_cursor_of_the_connection_does_no_harm(database: TestDatabase) -> None:
    database.connection.extra = '{"cursor": "dictcursor"}'

    with database.opened() as hook:
        hook.write_chunk("00000000", [{"id": 1}])

    assert database.rows() == [(1,)]


def test_conn_is_a_connection_for_statements_of_ones_own(sqlite: SqliteDatabase) -> None:
    raw = sqlite.hook().get_conn()

    assert raw.execute("SELECT 1").fetchone() == (1,)
    raw.close()


def meddled(connection: Any, meddle: Callable[[Any], object]) -> Any:
    """An Airflow connection whose hook does something to each connection it opens."""
    hook = connection.get_hook()
    connect = hook.get_conn

    def get_conn() -> Any:
        raw = connect()
        meddle(raw)
        return raw

    hook.get_conn = get_conn
    return connection_with(hook, connection)


@pytest.mark.parametrize(
    "database", ["postgres", "postgres-psycopg2", "postgres-generic", "mariadb", "mariadb-generic"], indirect=True
)
def test_autocommit_of_a_connection_is_switched_off(database: TestDatabase) -> None:
    def commit_each(raw: Any) -> None:
        raw.autocommit = True

    database.connection = meddled(database.connection, commit_each)

    with database.opened(primary_key="id") as hook:
        hook.write_chunk("00000000", [{"id": 1}])
        with pytest.raises(SchemaMismatch):
            hook.write_chunk("00000001", [{"id": 2}, {"id": 1}], first_position=100)

    assert database.rows() == [(1,)]
    assert [row[0] for row in database.ledger()] == ["00000000"]


@pytest.mark.parametrize("database", ["mariadb"], indirect=True)
def test_session_that_is_not_strict_is_made_so(database: TestDatabase) -> None:
    """Without strict mode the server cuts a text with no more than a warning."""

    def be_lax(raw: Any) -> None:
        raw.cmd_query("SET SESSION sql_mode = 'NO_BACKSLASH_ESCAPES'")

    database.connection = meddled(database.connection, be_lax)
    database.execute(f"CREATE TABLE {database.place('scores')} (name VARCHAR(5))")

    with database.opened() as hook:
        hook.write_chunk("00000000", [{"name": "a'\\b"}])
        with pytest.raises(SchemaMismatch, match="a text of more than 5 characters"):
            hook.write_chunk("00000001", [{"name": "longer"}], first_position=100)

    assert database.rows() == [("a'\\b",)]


def test_write_lock_of_a_sqlite_file_is_taken_at_once(sqlite: SqliteDatabase) -> None:
    """A transaction that reads first and writes later fails as soon as another has written in between."""
    with sqlite.opened() as hook:
        database = hook._database
        with database.transaction(), closing(sqlite.raw()) as other:
            other.execute("PRAGMA busy_timeout = 0")
            with pytest.raises(sqlite3.OperationalError, match="locked"):
                other.execute("BEGIN IMMEDIATE")
