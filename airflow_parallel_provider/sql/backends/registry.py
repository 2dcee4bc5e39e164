"""One backend per database; see :mod:`airflow_parallel_provider.sql.backends.base`."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow_parallel_provider.sql.backends.base import Backend


def backend_class(dialect: str, driver: str) -> type[Backend]:
    """The backend for a SQLAlchemy dialect name and the top module of the driver's connection."""
    if dialect == "sqlite":
        from airflow_parallel_provider.sql.backends.sqlite import SqliteBackend

        return SqliteBackend
    if driver == "psycopg":
        from airflow_parallel_provider.sql.backends.postgres.backend import PostgresBackend

        return PostgresBackend
    if driver == "psycopg2":
        from airflow_parallel_provider.sql.backends.postgres.psycopg2 import Psycopg2Backend

        return Psycopg2Backend
    if dialect in ("mysql", "mariadb"):
        from airflow_parallel_provider.sql.backends.mysql import MysqlBackend

        return MysqlBackend
    if driver in ("duckdb", "_duckdb"):
        from airflow_parallel_provider.sql.backends.duckdb.backend import DuckBackend

        return DuckBackend
    from airflow_parallel_provider.sql.backends.base import Backend

    return Backend
