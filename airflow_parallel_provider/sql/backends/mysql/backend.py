# SPDX-License-Identifier: Apache-2.0
"""MySQL and MariaDB: the driver's connection and INSERTs of many rows.

These servers lose data silently in several ways. The backend switches them off, or checks before: a session outside
strict mode truncates texts and invents numbers, DECIMAL rounds with no more than a note (see ``fit``), MyISAM ignores
ROLLBACK, and a plain CREATE TABLE commits. LOAD DATA LOCAL would be three times faster, but even in strict mode it
drops duplicates and truncates values with no more than a warning, so it is not used.

Times have no zone here: an instant is stored in UTC, and the session's time zone is UTC. NaN becomes NULL, infinity is
refused.
"""

from __future__ import annotations

import math
import re
from datetime import time, timedelta
from typing import TYPE_CHECKING

from airflow_parallel_provider.sql.backends.base import Backend
from airflow_parallel_provider.sql.backends.mysql.catalog import MysqlCatalog
from airflow_parallel_provider.sql.backends.mysql.error_classifier import MysqlErrorClassifier
from airflow_parallel_provider.sql.backends.mysql.row_dml import MysqlRowDml
from airflow_parallel_provider.sql.backends.mysql.session import MysqlSession
from airflow_parallel_provider.sql.backends.mysql.table_ddl import MysqlTableDdl
from airflow_parallel_provider.values.convert import ConversionError, to_json
from airflow_parallel_provider.values.kinds import Kind

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_parallel_provider.values.convert import Converter


def _finite(value: float) -> float | None:
    if math.isnan(value):
        return None
    if math.isinf(value):
        raise ConversionError("an infinite float")
    return value


def _time_text(value: time | timedelta) -> str:
    if isinstance(value, time):
        return value.isoformat(timespec="microseconds")
    seconds, microseconds = divmod(abs(value) // timedelta(microseconds=1), 1_000_000)
    sign = "-" if value < timedelta(0) else ""
    return f"{sign}{seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02}.{microseconds:06}"


class MysqlBackend(Backend):
    """MySQL or MariaDB, with mysqlclient, mysql-connector-python or PyMySQL."""

    session_class = MysqlSession
    catalog_class = MysqlCatalog
    ddl_class = MysqlTableDdl
    dml_class = MysqlRowDml
    errors_class = MysqlErrorClassifier

    merges = True
    folds_case = True
    longest_name = 64
    refused_in_names = re.compile("[%`\n\v\f\r\x1c-\x1e\x85\u2028\u2029\U00010000-\U0010ffff]")
    """The drivers substitute values for ``%s`` wherever it stands. SQLAlchemy reads a backtick back as two, and a line
    end as the end of a definition. The servers know no characters beyond the basic plane in names."""
    session: MysqlSession
    ddl: MysqlTableDdl
    adapters: Mapping[Kind, Converter] = {
        Kind.FLOAT: _finite,
        Kind.JSON: to_json,
        Kind.TIME: _time_text,
        Kind.UUID: str,
    }

    def __init__(self, dialect: str, lock_timeout: float, statement_timeout: float) -> None:
        super().__init__(dialect, lock_timeout, statement_timeout)
        self.ddl.session = self.session
