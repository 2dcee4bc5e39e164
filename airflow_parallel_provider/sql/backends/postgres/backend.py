# SPDX-License-Identifier: Apache-2.0
"""PostgreSQL through psycopg 3: COPY, in binary where every column's type is known to survive it, else as text.

Arrow tables go as CSV, which Arrow writes without a Python object per value.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_parallel_provider.sql.backends.base import Backend
from airflow_parallel_provider.sql.backends.postgres.catalog import PostgresCatalog
from airflow_parallel_provider.sql.backends.postgres.copy_csv import CSV_KINDS
from airflow_parallel_provider.sql.backends.postgres.error_classifier import PostgresErrorClassifier
from airflow_parallel_provider.sql.backends.postgres.row_dml import PostgresRowDml
from airflow_parallel_provider.sql.backends.postgres.session import PostgresSession
from airflow_parallel_provider.sql.backends.postgres.table_ddl import PostgresTableDdl
from airflow_parallel_provider.values.convert import to_json
from airflow_parallel_provider.values.kinds import Kind

if TYPE_CHECKING:
    from airflow_parallel_provider.values.convert import Converter


class PostgresBackend(Backend):
    """PostgreSQL, on the psycopg connection itself."""

    session_class = PostgresSession
    catalog_class = PostgresCatalog
    ddl_class = PostgresTableDdl
    dml_class = PostgresRowDml
    errors_class = PostgresErrorClassifier

    merges = True
    takes_lines = True
    rows_ahead: int | None = 2_000
    transactional_ddl = True
    takes_nul = False
    longest_name = 63
    arrow_kinds: frozenset[Kind] = CSV_KINDS

    def __init__(self, dialect: str, lock_timeout: float, statement_timeout: float) -> None:
        super().__init__(dialect, lock_timeout, statement_timeout)
        self.adapters = {Kind.JSON: self._json_adapter()}

    def _json_adapter(self) -> Converter:
        """What becomes of a value of a JSON column before the driver takes it."""
        from psycopg.types.json import Jsonb

        # psycopg makes JSON of every value of such a column, also of a text that is JSON already, unless it is a Jsonb.
        return lambda value: Jsonb(to_json(value), dumps=str)
