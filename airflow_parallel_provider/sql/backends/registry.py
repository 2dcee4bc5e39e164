"""One backend per database; see :mod:`airflow_parallel_provider.sql.backends.base`."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow_parallel_provider.sql.backends.base import Writer


def writer_class(dialect: str, driver: str) -> type[Writer]:
    """The backend for a SQLAlchemy dialect name and the top module of the driver's connection."""
    if dialect == "sqlite":
        from airflow_parallel_provider.sql.backends.sqlite import SqliteWriter

        return SqliteWriter
    if driver == "psycopg":
        from airflow_parallel_provider.sql.backends.postgres.backend import PostgresWriter

        return PostgresWriter
    if driver == "psycopg2":
        from airflow_parallel_provider.sql.backends.postgres.psycopg2 import Postgres2Writer

        return Postgres2Writer
    if dialect in ("mysql", "mariadb"):
        from airflow_parallel_provider.sql.backends.mysql import MysqlWriter

        return MysqlWriter
    if driver in ("duckdb", "_duckdb"):
        from airflow_parallel_provider.sql.backends.duckdb.backend import DuckWriter

        return DuckWriter
    from airflow_parallel_provider.sql.backends.base import Writer

    return Writer
