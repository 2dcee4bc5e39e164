# SPDX-License-Identifier: Apache-2.0
"""Snowflake: a chunk goes to the user's stage as a file, and COPY INTO loads it in the chunk's transaction.

::

    PUT file @~/...            before the transaction; a new name at each try
    UPDATE, SELECT, INSERT     lock the load, look, claim: no key is enforced here
    COPY INTO table            only this file; the rows it reports are compared with those sent
    COMMIT
    REMOVE file

Never run against the service: written after its documentation, and tested on ``fakesnow``, changed where the service is
known to differ (``make test-snowflake``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_parallel_provider.sql.backends.base import Backend
from airflow_parallel_provider.sql.backends.snowflake.catalog import SnowflakeCatalog
from airflow_parallel_provider.sql.backends.snowflake.error_classifier import SnowflakeErrorClassifier
from airflow_parallel_provider.sql.backends.snowflake.fields import FIELD_KINDS, json_within_38_digits, within_38_digits
from airflow_parallel_provider.sql.backends.snowflake.row_dml import SnowflakeRowDml
from airflow_parallel_provider.sql.backends.snowflake.session import SnowflakeSession
from airflow_parallel_provider.sql.backends.snowflake.table_ddl import SnowflakeTableDdl
from airflow_parallel_provider.values.kinds import Kind

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_parallel_provider.values.convert import Converter


class SnowflakeBackend(Backend):
    """Snowflake, through the connector's own cursor.

    Known limitation: this was never run against the service.
    """

    session_class = SnowflakeSession
    catalog_class = SnowflakeCatalog
    ddl_class = SnowflakeTableDdl
    dml_class = SnowflakeRowDml
    errors_class = SnowflakeErrorClassifier

    merges = True
    merges_without_key = True
    savepoints = False
    longest_name = 255
    arrow_kinds = FIELD_KINDS
    adapters: Mapping[Kind, Converter] = {
        Kind.HUGEINT: within_38_digits,
        Kind.JSON: json_within_38_digits,
    }
