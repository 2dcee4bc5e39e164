"""Databases as the tests see them: where a hook connects to, and what is in a table, read without our code."""

from __future__ import annotations

import contextlib
import copy
import functools
import importlib
import json
import os
import sqlite3
import threading
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

import pytest

from airflow_parallel_provider.engine.interfaces.records import LoadSpec
from tests.support.services import missing

T = TypeVar("T")

OWN = ["sqlite", "postgres", "postgres-psycopg2", "mariadb", "duckdb"]
"""Each database with the backends that are made for it."""
QUEUEING = [name for name in OWN if name != "duckdb"]
"""Those where a second transaction waits for the first one's lock. DuckDB: ``test_duckdb_backend.py``."""
GENERIC = ["sqlite-generic", "postgres-generic", "mariadb-generic"]
"""Each database with the backend that works with any database."""
SELDOM = ["postgres-psycopg2", "postgres-generic", "mariadb-generic"]
"""Only in `make test-slow`, if a test does not ask for them: what they share with the others is most of it."""

SPEC = LoadSpec(load_key="nightly", chunk_size=100, source="list of 1000")


class TestDatabase:
    """One empty place to put tables."""

    __test__ = False  # not a test class, whatever pytest makes of its name

    name = ""
    generic = False
    schema: str | None = None
    connection: Any
    modules: tuple[str, ...] = ()
    """What a process that writes here has to import, where that takes long."""
    _where: Any

    def hook(self, table: str = "scores", cls: Any = None, **options: Any) -> Any:
        """A hook for a table in this place."""
        from airflow_parallel_provider.hooks.sink_table import SinkTableHook

        options = {"schema": self.schema, "lock_timeout": 10, **options}
        return (cls or SinkTableHook)("warehouse", table, connection=self.connection, **options)

    def opened(self, table: str = "scores", spec: LoadSpec = SPEC, cls: Any = None, **options: Any) -> Any:
        """The same, with the load open."""
        hook = self.hook(table, cls, **options)
        hook.open(spec)
        return hook

    def raw(self) -> Any:
        """A driver connection of the test's own."""
        raise NotImplementedError

    def through(self, port: int) -> TestDatabase:
        """The same place, whose hooks connect to another port of this machine, without encryption."""
        raise NotImplementedError

    def _with(self, connection: Any) -> TestDatabase:
        other = copy.copy(self)
        other.connection = connection
        return other

    @property
    def upstream(self) -> tuple[str, int]:
        """Host and port of the server."""
        parts = _parts(self._where) if isinstance(self._where, str) else self._where
        return parts["host"], int(parts["port"])

    def quote(self, name: str) -> str:
        """An identifier as SQL."""
        return '"' + name.replace('"', '""') + '"'

    def place(self, table: str) -> str:
        """A table as SQL."""
        prefix = f"{self.quote(self.schema)}." if self.schema else ""
        return prefix + self.quote(table)

    def execute(self, *statements: str) -> None:
        """Run statements and commit."""

        def run(raw: Any) -> None:
            cursor = raw.cursor()
            for statement in statements:
                cursor.execute(statement)
            cursor.close()
            raw.commit()

        self._with_raw(run)

    def fetch(self, sql: str) -> list[tuple[Any, ...]]:
        """The rows of a query."""

        def run(raw: Any) -> list[tuple[Any, ...]]:
            cursor = raw.cursor()
            cursor.execute(sql)
            rows = [tuple(row) for row in cursor.fetchall()]
            cursor.close()
            raw.rollback()  # the next query must see what others have committed meanwhile
            return rows

        return self._with_raw(run)

    def _with_raw(self, run: Callable[[Any], T]) -> T:
        """Run a function with a driver connection."""
        with closing(self.raw()) as raw:
            return run(raw)

    def rows(self, table: str = "scores", columns: str = "*", order: str = "1") -> list[tuple[Any, ...]]:
        """All rows of a table."""
        return self.fetch(f"SELECT {columns} FROM {self.place(table)} ORDER BY {order}")

    def ledger(self) -> list[tuple[Any, ...]]:
        """Chunk id, items, rows, dead letters and attempt of every committed chunk."""
        return self.rows("airflow_parallel_ledger", "chunk_id, items, rows_committed, dead_letters, attempt")

    def tables(self) -> list[str]:
        """Names of all tables here."""
        found = self.fetch(
            f"SELECT table_name FROM information_schema.tables WHERE table_schema = '{self.schema or 'main'}'"
        )
        return [name for (name,) in found]

    def exists(self, table: str) -> bool:
        """Whether there is such a table."""
        try:
            self.fetch(f"SELECT count(*) FROM {self.place(table)}")
        except Exception:
            return False
        return True

    def drop(self) -> None:
        """Remove everything."""


class ServerDatabase(TestDatabase):
    """On a server: a connection is kept until the end of the test, as opening one takes longer than most statements."""

    def _with_raw(self, run: Callable[[Any], T]) -> T:
        key = (os.getpid(), threading.get_ident(), str(self._where))  # a forked child must not use its parent's
        raw = _kept.pop(key, None)
        fresh = raw is None
        raw = raw or self.raw()
        try:
            result = run(raw)
        except Exception:
            lost = self.is_lost(raw)
            raw.close()
            if fresh or not lost:
                raise
        else:
            _kept[key] = raw
            return result
        return self._with_raw(run)  # the test has cut the kept connection, or has had the server killed

    def is_lost(self, raw: Any) -> bool:
        """Whether a driver connection cannot be used any more."""
        raise NotImplementedError


_kept: dict[tuple[int, int, str], Any] = {}
"""Connections of the running test: by process, thread and server."""


def close_kept() -> None:
    """Close the connections that the tests themselves have opened in this process."""
    for key in [each for each in _kept if each[0] == os.getpid()]:
        with contextlib.suppress(Exception):
            _kept.pop(key).close()


class SqliteDatabase(TestDatabase):
    """A SQLite file."""

    name = "sqlite"

    def __init__(self, path: Path) -> None:
        from airflow.sdk import Connection

        self.path = path
        self.connection = Connection(conn_id="warehouse", conn_type="sqlite", host=str(path))

    def raw(self) -> sqlite3.Connection:
        return sqlite3.connect(self.path)

    def tables(self) -> list[str]:
        return [name for (name,) in self.fetch("SELECT name FROM sqlite_master WHERE type = 'table'")]

    def drop(self) -> None:
        self.path.unlink(missing_ok=True)


class DuckDatabase(TestDatabase):
    """A DuckDB file, through the hook of Airflow's DuckDB provider."""

    name = "duckdb"
    modules = (
        "airflow.providers.duckdb.hooks.duckdb",
        "airflow_parallel_provider.sql.backends.duckdb.backend",
        "pandas",  # pyarrow does, where it is installed
        "pyarrow.dataset",
        "pytz",
    )

    def __init__(self, path: Path) -> None:
        from airflow.sdk import Connection

        self.connection = Connection(conn_id="warehouse", conn_type="duckdb", host=str(path))

    def raw(self) -> Any:
        # In this process all connections to a file must agree on its settings.
        from airflow_parallel_provider.sql.database import resolved_hook

        raw = resolved_hook("warehouse", self.connection).get_conn()
        raw.execute("SET TimeZone = 'UTC'")
        return raw

    def keep_open(self) -> None:
        """Keep the file open until this process starts another one: opening it takes longer than most tests."""
        _open_files.append(self.raw())

    def execute(self, *statements: str) -> None:
        with closing(self.raw()) as raw:
            for statement in statements:
                raw.execute(statement)

    def fetch(self, sql: str) -> list[tuple[Any, ...]]:
        with closing(self.raw()) as raw:
            return [tuple(row) for row in raw.execute(sql).fetchall()]

    def drop(self) -> None:
        close_files()


_open_files: list[Any] = []


def close_files() -> None:
    """Close the files of DuckDB that the tests keep open: one process at a time can open a file."""
    while _open_files:
        _open_files.pop().close()


os.register_at_fork(before=close_files)


_QUICK = "-csynchronous_commit=off"


class PostgresDatabase(ServerDatabase):
    """A schema of its own on a PostgreSQL server."""

    name = "postgres"
    level = ""
    """Isolation of the transactions of hooks; empty: the server's own."""

    def __init__(self, driver: str = "psycopg", where: str | None = None) -> None:
        default = os.environ.get("PARALLEL_TESTS_POSTGRES", "host=127.0.0.1 port=5432 user=root dbname=test")
        # That server never crashes, so its commits need not wait for a disk.
        self._where = where or f"{default} options={_QUICK}"
        if not _answers("psycopg", self._where):
            missing("no PostgreSQL answers; say where it is with PARALLEL_TESTS_POSTGRES")
        self.connection = self._connection_at(_parts(self._where)["port"])
        if driver == "psycopg2":
            self.connection = connection_with(Psycopg2Hook(self._where))
        self.schema = f"sink {uuid4().hex[:12]}"
        self.execute(f'CREATE SCHEMA "{self.schema}"')

    def _connection_at(self, port: str | int, extra: dict[str, str] | None = None) -> Any:
        from airflow.sdk import Connection

        parts = _parts(self._where)
        options = [parts["options"]] if "options" in parts else []
        if self.level:
            options.append("-cdefault_transaction_isolation=" + self.level.replace(" ", "\\ "))
        if options:
            extra = {**(extra or {}), "options": " ".join(options)}
        return Connection(
            conn_id="warehouse",
            conn_type="postgres",
            host=parts["host"],
            port=int(port),
            login=parts["user"],
            password=parts.get("password"),
            schema=parts["dbname"],
            extra=json.dumps(extra) if extra else None,
        )

    def at_level(self, level: str) -> TestDatabase:
        """The same place, in which the transactions of hooks have this isolation."""
        other = copy.copy(self)
        other.level = level
        other.connection = other._connection_at(_parts(self._where)["port"])
        return other

    def through(self, port: int) -> TestDatabase:
        return self._with(self._connection_at(port, {"sslmode": "disable", "gssencmode": "disable"}))

    def raw(self) -> Any:
        import psycopg

        return psycopg.connect(self._where)

    def is_lost(self, raw: Any) -> bool:
        return bool(raw.closed)

    def drop(self) -> None:
        self.execute(f'DROP SCHEMA "{self.schema}" CASCADE')


def connection_with(hook: Any, like: Any = None) -> Any:
    """An Airflow connection that has this hook, otherwise like another."""
    from airflow.sdk import Connection

    class HookedConnection(Connection):
        def get_hook(self, *, hook_params: Any = None) -> Any:
            return hook

    parts = ("conn_type", "host", "port", "login", "password", "schema", "extra")
    return HookedConnection(conn_id="warehouse", **{part: getattr(like, part, None) for part in parts})


class Psycopg2Hook:
    """What the PostgreSQL provider's hook does as long as SQLAlchemy is 1.4."""

    def __init__(self, where: str) -> None:
        self.where = where

    def get_conn(self) -> Any:
        return importlib.import_module("psycopg2").connect(self.where)

    def get_uri(self) -> str:
        return "postgresql://"

    def get_sqlalchemy_engine(self) -> Any:
        raise NotImplementedError


class MariaHook:
    """What the MySQL provider's hook does. The provider itself needs a compiler and a client library to install."""

    def __init__(self, where: dict[str, Any], driver: str = "mysql.connector") -> None:
        self.where = where
        self.driver = driver

    def get_conn(self) -> Any:
        return importlib.import_module(self.driver).connect(**self.where)

    def get_uri(self) -> str:
        return "mysql+mysqlconnector://"  # wrong with PyMySQL, as the URLs of real hooks can be

    def get_sqlalchemy_engine(self) -> Any:
        raise NotImplementedError


class MariaDatabase(ServerDatabase):
    """A database of its own on a MariaDB or MySQL server."""

    name = "mariadb"

    def __init__(self, where: str | None = None, driver: str = "mysql.connector") -> None:
        default = os.environ.get("PARALLEL_TESTS_MARIADB", "host=127.0.0.1 port=3306 user=root password=")
        where = where or default
        if not _answers("mysql.connector", where):
            missing("no MariaDB answers; say where it is with PARALLEL_TESTS_MARIADB")
        self._where: dict[str, Any] = _parts(where)
        self._where["port"] = int(self._where["port"])
        self.schema = f"sink_{uuid4().hex[:12]}"
        self.execute(f"CREATE DATABASE {self.schema}")
        self.connection = connection_with(MariaHook({**self._where, "database": self.schema}, driver))

    def through(self, port: int) -> TestDatabase:
        where = {**self._where, "database": self.schema, "port": port, "ssl_disabled": True}
        return self._with(connection_with(MariaHook(where)))

    def raw(self) -> Any:
        import mysql.connector

        return mysql.connector.connect(**self._where)

    def is_lost(self, raw: Any) -> bool:
        return not raw.is_connected()

    def quote(self, name: str) -> str:
        return "`" + name.replace("`", "``") + "`"

    def drop(self) -> None:
        self.execute(f"DROP DATABASE {self.schema}")


def _parts(where: str) -> dict[str, Any]:
    """``host=... port=...`` as a dict."""
    parts: dict[str, Any] = {}
    for part in where.split():
        name, _, value = part.partition("=")
        parts[name] = value
    return parts


@functools.cache
def _answers(driver: str, where: str) -> bool:
    if driver == "psycopg":
        psycopg = pytest.importorskip("psycopg")
        try:
            psycopg.connect(where, connect_timeout=3).close()
        except psycopg.Error:
            return False
        return True
    connector = pytest.importorskip("mysql.connector")
    parts = _parts(where)
    try:
        connector.connect(**{**parts, "port": int(parts["port"]), "connection_timeout": 3}).close()
    except connector.Error:
        return False
    return True


def fast_on(*names: str, of: Sequence[str] = (*OWN, *GENERIC)) -> pytest.MarkDecorator:
    """A test that `make test` runs on these databases, and `make test-slow` on the others."""
    cases = [name if name in names else pytest.param(name, marks=pytest.mark.slow) for name in of]
    return pytest.mark.parametrize("database", cases, indirect=True)


on_two_databases = fast_on("sqlite", "postgres")
"""One embedded database and one server: enough where the database cannot change the result."""
on_each_database = fast_on("sqlite", "postgres", "mariadb", "duckdb")
"""Where the SQL of a database can change the result, but neither its driver nor the way in which rows are sent."""
on_two_backends = fast_on("sqlite", "postgres", of=OWN)
on_each_backend = fast_on("sqlite", "postgres", "mariadb", "duckdb", of=OWN)
"""The same for what only our own backends can do, such as a merge."""
