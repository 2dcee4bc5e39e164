# SPDX-License-Identifier: Apache-2.0
"""Which backend a connection gets; what a backend is: :mod:`airflow_parallel_provider.sql.backends.base`.

The imports are inside the function, so that only the backend in use is imported, with its driver.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow_parallel_provider.sql.backends.base import Backend


def backend_class(dialect: str, driver: str) -> type[Backend]:  # noqa: PLR0911  # one for each database
    """The backend of a database.

    :param dialect: name of the SQLAlchemy dialect.
    :param driver: top module of the driver's connection.
    """
    if dialect == "sqlite":
        from airflow_parallel_provider.sql.backends.sqlite.backend import SqliteBackend

        return SqliteBackend
    if driver == "psycopg":
        from airflow_parallel_provider.sql.backends.postgres.backend import PostgresBackend

        return PostgresBackend
    if driver == "psycopg2":
        from airflow_parallel_provider.sql.backends.postgres.psycopg2 import Psycopg2Backend

        return Psycopg2Backend
    if dialect in ("mysql", "mariadb"):
        from airflow_parallel_provider.sql.backends.mysql.backend import MysqlBackend

        return MysqlBackend
    if driver in ("duckdb", "_duckdb"):
        from airflow_parallel_provider.sql.backends.duckdb.backend import DuckBackend

        return DuckBackend
    if driver == "snowflake":
        from airflow_parallel_provider.sql.backends.snowflake.backend import SnowflakeBackend

        return SnowflakeBackend
    from airflow_parallel_provider.sql.backends.base import Backend

    return Backend
