# SPDX-License-Identifier: Apache-2.0
"""Sessions of Snowflake."""

from __future__ import annotations

from typing import Any

from airflow_parallel_provider.sql.backends.session import Session

_FORMATS = (
    "ALTER SESSION SET TIMEZONE = 'UTC' DATE_INPUT_FORMAT = 'AUTO' TIME_INPUT_FORMAT = 'AUTO' "
    "TIMESTAMP_INPUT_FORMAT = 'AUTO' BINARY_INPUT_FORMAT = 'HEX'"
)
"""An account can set others, with which the fields of a file would be read another way."""


class SnowflakeSession(Session):
    """Connections of snowflake-connector-python.

    Known limitation: stopping a run does not end the statement that is running; ``statement_timeout`` does.
    """

    def configure(self, raw: Any) -> None:
        """No autocommit, time limits, and how texts are read: for this session only."""
        super().configure(raw)
        cursor = raw.cursor()
        try:
            cursor.execute(_FORMATS)
        finally:
            cursor.close()
