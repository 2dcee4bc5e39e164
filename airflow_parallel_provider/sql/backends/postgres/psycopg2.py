"""PostgreSQL through psycopg 2, which is what Airflow's hook uses as long as SQLAlchemy is 1.4: COPY as text."""

from __future__ import annotations

import importlib
import io
import math
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow_parallel_provider.sql.backends.base import Backend, Rows
from airflow_parallel_provider.sql.backends.postgres.backend import PostgresBackend
from airflow_parallel_provider.sql.backends.quoting import column_list
from airflow_parallel_provider.values.convert import to_json

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from airflow_parallel_provider.values.convert import Converter

_ROWS_PER_STATEMENT = 1_000
_ESCAPES = str.maketrans({"\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"})


def _float(value: float) -> str:
    if math.isfinite(value):
        return repr(value)
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _interval(value: timedelta) -> str:
    return f"{value.days} days {value.seconds} seconds {value.microseconds} microseconds"


_TEXTS: Mapping[type, Callable[[Any], str]] = {
    type(None): lambda _: "\\N",
    bool: lambda value: "t" if value else "f",
    float: _float,
    str: lambda value: value.translate(_ESCAPES),
    bytes: lambda value: "\\\\x" + value.hex(),
    timedelta: _interval,
}
"""Values whose ``str`` is not what COPY reads."""


class Psycopg2Backend(PostgresBackend):
    """Writes to PostgreSQL on the psycopg 2 connection itself."""

    arrow_kinds = frozenset()
    rows_ahead: int | None = None  # all rows become one text first

    claim = Backend.claim  # text needs no types

    def json_adapter(self) -> Converter:
        """JSON is a text here."""
        return to_json

    def plain_results(self, raw: Any) -> None:
        """Tuples as results, and the encoding that :meth:`copy` writes."""
        raw.cursor_factory = importlib.import_module("psycopg2.extensions").cursor
        raw.set_client_encoding("UTF8")

    def copy(self, raw: Any, target: str, names: Sequence[str], rows: Rows) -> None:
        """COPY rows as text; rows with arrays and the like as INSERTs, whose values psycopg 2 knows how to write."""
        rows = list(rows)  # they are gone through twice
        with raw.cursor() as cursor:
            if any(list in kinds or dict in kinds for kinds in (set(map(type, row)) for row in rows)):
                # Doubled, because this one statement does have parameters.
                head = f"INSERT INTO {target} ({column_list(names)}) VALUES ".replace("%", "%%")  # noqa: S608  # quoted
                extras: Any = importlib.import_module("psycopg2.extras")
                extras.execute_values(cursor, head + "%s", rows, page_size=_ROWS_PER_STATEMENT)
                return
            lines = ("\t".join([_TEXTS.get(type(value), str)(value) for value in row]) for row in rows)
            # Encoded here: a text that cannot be would end the COPY from within, and the server would hide why.
            stream = io.BytesIO(("\n".join(lines) + "\n").encode())
            cursor.copy_expert(f"COPY {target} ({column_list(names)}) FROM STDIN", stream, size=1 << 20)
