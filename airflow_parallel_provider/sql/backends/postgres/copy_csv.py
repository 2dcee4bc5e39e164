"""COPY ... (FORMAT CSV) of an Arrow table.

Arrow quotes every text, also an empty one, and no missing value: PostgreSQL tells them apart by that.
"""

from __future__ import annotations

from typing import Any

from airflow_parallel_provider.rows.arrow_rows import as_table
from airflow_parallel_provider.values.kinds import Kind

CSV_KINDS = frozenset(
    {Kind.BOOL, Kind.INT, Kind.FLOAT, Kind.DECIMAL, Kind.TEXT, Kind.DATE, Kind.DATETIME, Kind.DATETIMETZ, Kind.TIME}
)
"""What Arrow writes as PostgreSQL reads it: not bytes, whose bytes it would write as they are, nor spans of time."""


def copy_csv(raw: Any, target: str, listed: str, table: Any) -> None:
    """COPY a table that :func:`~airflow_parallel_provider.rows.arrow_rows.takes` has found fit.

    :param raw: connection of psycopg 3.
    :param target: the table as SQL.
    :param listed: its columns as SQL, in the order of the Arrow table's.
    """
    from pyarrow import csv

    options = csv.WriteOptions(include_header=False, quoting_style="needed")
    with raw.cursor() as cursor, cursor.copy(f"COPY {target} ({listed}) FROM STDIN (FORMAT CSV, NULL '')") as copy:
        csv.write_csv(_readable(as_table(table)), _Pipe(copy), options)


class _Pipe:
    """As much of a file as Arrow asks for."""

    closed = False

    def __init__(self, copy: Any) -> None:
        self._copy = copy

    def write(self, data: Any) -> None:
        """Send."""
        self._copy.write(bytes(data))

    def flush(self) -> None:
        """Nothing is held."""

    def close(self) -> None:
        """The COPY is ended by who began it."""


def _readable(table: Any) -> Any:
    """With instants in UTC, which need no table of zones to be written, and all floats at the width of the column."""
    import pyarrow as pa

    fields = []
    for field in table.schema:
        arrow = field.type
        if pa.types.is_timestamp(arrow) and arrow.tz is not None:
            arrow = pa.timestamp(arrow.unit, "UTC")
        elif pa.types.is_float32(arrow):
            arrow = pa.float64()  # else 0.1 of 32 bit is written as 0.1, which is another number in a column of 64 bit
        fields.append(pa.field(field.name, arrow))
    return table.cast(pa.schema(fields))
