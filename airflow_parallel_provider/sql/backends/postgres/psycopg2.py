# SPDX-License-Identifier: Apache-2.0
"""PostgreSQL through psycopg 2, which Airflow's hook uses with SQLAlchemy 1.4: COPY as text."""

from __future__ import annotations

import importlib
import io
import math
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow_parallel_provider.sql.backends.postgres.backend import PostgresBackend
from airflow_parallel_provider.sql.backends.postgres.row_dml import PostgresRowDml
from airflow_parallel_provider.sql.backends.postgres.session import PostgresSession
from airflow_parallel_provider.sql.backends.quoting import column_list
from airflow_parallel_provider.sql.backends.row_dml import RowDml
from airflow_parallel_provider.sql.backends.session import driver_connection
from airflow_parallel_provider.values.convert import to_json
from airflow_parallel_provider.values.intervals import DayTime, Interval, as_sql
from airflow_parallel_provider.values.unreadable import DatabaseText

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from sqlalchemy.engine import Connection

    from airflow_parallel_provider.values.convert import Converter

_ROWS_PER_STATEMENT = 1_000
_ESCAPES = str.maketrans({"\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"})


def _float(value: float) -> str:
    if math.isfinite(value):
        return repr(value)
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


_TEXTS: Mapping[type, Callable[[Any], str]] = {
    type(None): lambda _: "\\N",
    bool: lambda value: "t" if value else "f",
    float: _float,
    DatabaseText: str,
    str: lambda value: value.translate(_ESCAPES),
    bytes: lambda value: "\\\\x" + value.hex(),
    timedelta: as_sql,
    DayTime: as_sql,
    Interval: as_sql,
}
"""Types of values whose ``str`` is not what COPY reads."""


class Psycopg2Session(PostgresSession):
    """Connections of psycopg 2."""

    def _prepare_values(self, raw: Any) -> None:
        """Tuples as results; and the encoding in which :class:`Psycopg2RowDml` writes."""
        raw.cursor_factory = importlib.import_module("psycopg2.extensions").cursor
        raw.set_client_encoding("UTF8")


class Psycopg2RowDml(PostgresRowDml):
    """COPY as text."""

    claim = RowDml.claim  # text needs no types

    def _copy_rows(
        self,
        connection: Connection,
        target: str,
        names: Sequence[str],
        rows: Iterable[tuple[Any, ...]],
        *,
        as_text: bool,  # noqa: ARG002  # always
    ) -> int:
        """COPY rows as text; rows with arrays and the like as INSERTs, whose values psycopg 2 knows how to write."""
        rows = list(rows)  # two passes
        with driver_connection(connection).cursor() as cursor:
            if any(list in kinds or dict in kinds for kinds in (set(map(type, row)) for row in rows)):
                # Doubled, because this one statement does have parameters.
                head = f"INSERT INTO {target} ({column_list(names)}) VALUES ".replace("%", "%%")  # noqa: S608  # quoted
                extras: Any = importlib.import_module("psycopg2.extras")
                counted = 0
                for start in range(0, len(rows), _ROWS_PER_STATEMENT):  # the driver's own pages count the last one only
                    part = rows[start : start + _ROWS_PER_STATEMENT]
                    extras.execute_values(cursor, head + "%s", part, page_size=_ROWS_PER_STATEMENT)
                    counted += int(cursor.rowcount)
                return counted
            lines = ("\t".join([_TEXTS.get(type(value), str)(value) for value in row]) for row in rows)
            # Encoded here: a text that cannot be encoded would end the COPY from within, and the server would hide why.
            stream = io.BytesIO(("\n".join(lines) + "\n").encode())
            cursor.copy_expert(f"COPY {target} ({column_list(names)}) FROM STDIN", stream, size=1 << 20)
            return int(cursor.rowcount)


class Psycopg2Backend(PostgresBackend):
    """PostgreSQL, on the psycopg 2 connection itself."""

    session_class = Psycopg2Session
    dml_class = Psycopg2RowDml

    arrow_kinds = frozenset()
    takes_lines = False
    rows_ahead: int | None = None  # all rows become one text first

    def _json_adapter(self) -> Converter:
        """Psycopg 2 takes JSON as text."""
        return to_json
