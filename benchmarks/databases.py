"""Places for tables on a database, for the sink's workloads: created, queried and dropped without the sink's code."""

from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

NAMES = ("id", "name", "price", "quantity", "paid", "at")


class Place:
    """An empty schema, database or file."""

    types = ("bigint", "text", "double precision", "bigint", "boolean", "timestamp")
    mark = "%s"
    names = NAMES
    """The column names as SQL."""
    prefix = ""
    schema: str | None = None
    connection: Any
    """The Airflow connection."""

    def raw(self) -> Any:
        """A connection of the driver."""
        raise NotImplementedError

    def hook(self) -> Any:
        """The connection's own hook."""
        return self.connection.get_hook()

    def create(self, table: str, options: str = "") -> None:
        columns = ", ".join(f"{name} {kind}" for name, kind in zip(self.names, self.types, strict=True))
        self.run(f"CREATE TABLE {self.prefix}{table} ({columns}) {options}")

    def insert(self, table: str) -> str:
        return (
            f"INSERT INTO {self.prefix}{table} ({', '.join(self.names)}) VALUES ({', '.join([self.mark] * len(NAMES))})"
        )

    def run(self, sql: str) -> list[tuple[Any, ...]]:
        with closing(self.raw()) as raw:
            cursor = raw.cursor()
            cursor.execute(sql)
            rows = [tuple(row) for row in cursor.fetchall()] if cursor.description else []
            raw.commit()
        return rows

    def drop(self) -> None:
        """Remove everything."""


class Sqlite(Place):
    types = ("INTEGER", "TEXT", "REAL", "INTEGER", "BOOLEAN", "DATETIME")
    mark = "?"

    def __init__(self) -> None:
        from airflow.sdk import Connection

        self._folder = Path(tempfile.mkdtemp(prefix="bench-"))
        self.connection = Connection(conn_id="bench", conn_type="sqlite", host=str(self._folder / "bench.db"))

    def raw(self) -> Any:
        raw = sqlite3.connect(self.connection.host)
        raw.isolation_level = None
        return raw

    def drop(self) -> None:
        shutil.rmtree(self._folder)


class Duckdb(Place):
    types = ("BIGINT", "VARCHAR", "DOUBLE", "BIGINT", "BOOLEAN", "TIMESTAMP")
    mark = "?"
    names = (*NAMES[:-1], '"at"')  # a reserved word of DuckDB

    def __init__(self) -> None:
        from airflow.sdk import Connection

        self._folder = Path(tempfile.mkdtemp(prefix="bench-"))
        self.connection = Connection(conn_id="bench", conn_type="duckdb", host=str(self._folder / "bench.duckdb"))

    def raw(self) -> Any:
        # All connections of a process to a file need the same settings, so this one uses the hook, too.
        hook = self.hook()
        hook.get_connection = lambda _conn_id: self.connection
        return hook.get_conn()

    def run(self, sql: str) -> list[tuple[Any, ...]]:
        with closing(self.raw()) as raw:
            return [tuple(row) for row in raw.execute(sql).fetchall()]

    def drop(self) -> None:
        shutil.rmtree(self._folder)


class Postgres(Place):
    def __init__(self) -> None:
        from airflow.sdk import Connection

        self._where = os.environ.get("PARALLEL_TESTS_POSTGRES", "host=127.0.0.1 port=5432 user=root dbname=test")
        parts = dict(part.split("=", 1) for part in self._where.split())
        self.schema = f"bench_{uuid.uuid4().hex[:12]}"
        self.prefix = f"{self.schema}."
        self.connection = Connection(
            conn_id="bench",
            conn_type="postgres",
            host=parts["host"],
            port=int(parts["port"]),
            login=parts["user"],
            password=parts.get("password"),
            schema=parts["dbname"],
        )
        self.run(f"CREATE SCHEMA {self.schema}")

    def raw(self) -> Any:
        import psycopg

        return psycopg.connect(self._where)

    def drop(self) -> None:
        self.run(f"DROP SCHEMA {self.schema} CASCADE")


class Mariadb(Place):
    """Uses its own hook with a driver from a wheel, since Airflow's MySQL provider needs a compiler."""

    types = ("bigint", "longtext", "double", "bigint", "tinyint(1)", "datetime(6)")

    def __init__(self) -> None:
        from airflow.providers.common.sql.hooks.sql import DbApiHook
        from airflow.sdk import Connection

        where = os.environ.get("PARALLEL_TESTS_MARIADB", "host=127.0.0.1 port=3306 user=root password=")
        self._where: dict[str, Any] = dict(part.split("=", 1) for part in where.split())
        self._where["port"] = int(self._where["port"])
        self.schema = f"bench_{uuid.uuid4().hex[:12]}"
        self.prefix = f"{self.schema}."
        self.run(f"CREATE DATABASE {self.schema}")
        place = self

        class Hook(DbApiHook):
            conn_name_attr = "bench_conn_id"
            default_conn_name = "bench"
            supports_autocommit = True

            def get_conn(self) -> Any:
                return place.raw()

            def get_uri(self) -> str:
                return "mysql+mysqlconnector://"

            @staticmethod
            def _serialize_cell(cell: object, conn: Any = None) -> Any:
                return cell

            def set_autocommit(self, conn: Any, autocommit: bool) -> None:
                conn.autocommit = autocommit

            def get_autocommit(self, conn: Any) -> bool:
                return bool(conn.autocommit)

        class Hooked(Connection):
            def get_hook(self, *, hook_params: Any = None) -> Any:
                return Hook()

        self.connection = Hooked(conn_id="bench", conn_type="mysql")

    def raw(self) -> Any:
        import mysql.connector

        return mysql.connector.connect(**self._where)

    def create(self, table: str, options: str = "ENGINE=InnoDB CHARSET=utf8mb4 COLLATE=utf8mb4_bin") -> None:
        super().create(table, options)

    def drop(self) -> None:
        self.run(f"DROP DATABASE {self.schema}")


@contextmanager
def place(kind: type[Place]) -> Iterator[Any]:
    """A place that is dropped at the end."""
    made = kind()
    try:
        yield made
    finally:
        made.drop()
