# SPDX-License-Identifier: Apache-2.0
"""COPY ... (FORMAT CSV) of an Arrow table.

Arrow quotes every text, also an empty one, but no missing value: so PostgreSQL can distinguish the two.
"""

from __future__ import annotations

from typing import Any

from airflow_parallel_provider.rows.arrow_rows import as_table
from airflow_parallel_provider.values.kinds import Kind

CSV_KINDS = frozenset(
    {Kind.BOOL, Kind.INT, Kind.FLOAT, Kind.DECIMAL, Kind.TEXT, Kind.DATE, Kind.DATETIME, Kind.DATETIMETZ, Kind.TIME}
)
"""Kinds that Arrow writes as PostgreSQL reads them. Not bytes, which Arrow writes raw, and not spans of time."""


def copy_csv(raw: Any, target: str, columns: str, table: Any) -> int:
    """COPY an Arrow table; return how many rows the server has written.

    :param raw: connection of psycopg 3.
    :param target: the database's table as SQL.
    :param columns: its columns as SQL, in the order of the Arrow table's.
    :param table: of types that the columns take
        (:func:`~airflow_parallel_provider.rows.arrow_rows.takes_without_loss`).
    """
    from pyarrow import csv

    options = csv.WriteOptions(include_header=False, quoting_style="needed")
    table = _for_csv(as_table(table))
    with raw.cursor() as cursor:
        with (
            cursor.copy(f"COPY {target} ({columns}) FROM STDIN (FORMAT CSV, NULL '')") as copy,
            csv.CSVWriter(_Pipe(copy), table.schema, write_options=options) as writer,
        ):
            for batch in table.to_batches():
                if batch.num_rows:  # for an empty one Arrow sends its buffer, whatever is in it
                    writer.write_batch(batch)
        return int(cursor.rowcount)


class _Pipe:
    """The part of a file's interface that Arrow uses."""

    closed = False

    def __init__(self, copy: Any) -> None:
        self._copy = copy

    def write(self, data: Any) -> None:
        """Send data to the server."""
        self._copy.write(bytes(data))

    def flush(self) -> None:
        """Nothing to flush."""

    def close(self) -> None:
        """The caller ends the COPY."""


def _for_csv(table: Any) -> Any:
    """Instants in UTC, so that Arrow needs no time zone data to write them, and all floats as wide as the column."""
    import pyarrow as pa

    fields = []
    for field in table.schema:
        arrow = field.type
        if pa.types.is_timestamp(arrow) and arrow.tz is not None:
            arrow = pa.timestamp(arrow.unit, "UTC")
        elif pa.types.is_float32(arrow):
            arrow = pa.float64()  # or 0.1 of 32 bit is written as 0.1, which is another number in 64 bit
        fields.append(pa.field(field.name, arrow))
    return table.cast(pa.schema(fields))
