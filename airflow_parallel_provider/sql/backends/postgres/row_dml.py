"""Rows into PostgreSQL: COPY, in binary, as text, or from an Arrow table.

Binary COPY is what a driver sends fastest, but the client does the conversions: psycopg would write 70000 into a
``smallint`` as 4464, and 1e300 into a ``real`` as infinity. So binary is used for a list of types, and integers are
checked against the width of their column before (see ``fit``). One column of any other type makes the whole chunk go as
text, which the server parses and checks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_parallel_provider.rows.arrow_rows import ArrowRows, with_row_numbers
from airflow_parallel_provider.sql.backends.postgres.column_types import ColumnTypes
from airflow_parallel_provider.sql.backends.postgres.copy_binary import send_rows
from airflow_parallel_provider.sql.backends.postgres.copy_csv import copy_csv
from airflow_parallel_provider.sql.backends.postgres.keys import key_expressions
from airflow_parallel_provider.sql.backends.quoting import column_list, on_conflict, quote, quote_shape
from airflow_parallel_provider.sql.backends.row_dml import RowDml, Rows
from airflow_parallel_provider.sql.backends.session import driver_connection

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.engine import Connection

    from airflow_parallel_provider.values.table_shape import TableShape

_BINARY_OIDS = frozenset(
    {
        16,  # bool
        17,  # bytea
        20, 21, 23,  # bigint, smallint, integer
        25, 1043,  # text, varchar
        114, 3802,  # json, jsonb
        701,  # double precision
        1082, 1083, 1114, 1184, 1186,  # date, time, timestamp, timestamptz, interval
        1700,  # numeric
        2950,  # uuid
    }
)  # fmt: skip
_MERGE_TABLE = '"parallel_stage"'
"""The temporary table of a merge."""


class PostgresRowDml(RowDml):
    """On a connection of psycopg 3."""

    def __init__(self) -> None:
        self._types = ColumnTypes()
        self._claims_alone = False
        """Whether a claim no longer asks for the types of columns."""

    def claim(
        self,
        connection: Connection,
        statement: Any,
        row: dict[str, Any],
        shape: TableShape | None,
        names: Sequence[str],
    ) -> None:
        """The INSERT, and with it the query for the types of the columns: one round trip for both."""
        from psycopg import ProgrammingError

        if shape is None or self._claims_alone:
            super().claim(connection, statement, row, shape, names)
            return
        try:
            self._types.fetch_with_insert(connection, statement, row, quote_shape(shape), names)
        except ProgrammingError:
            self._claims_alone = True  # the table has changed: next time the COPY is to fail, not the claim
            raise

    def insert(self, connection: Connection, shape: TableShape, names: Sequence[str], rows: Rows) -> None:
        """COPY into the table itself."""
        self._copy(connection, quote_shape(shape), names, rows)

    def merge(
        self, connection: Connection, shape: TableShape, names: Sequence[str], rows: Rows, key: Sequence[str]
    ) -> None:
        """COPY into a temporary table, then one INSERT ... ON CONFLICT; the last of equal keys wins.

        The database chooses the last: only it knows which keys are equal (collations, citext).
        """
        number = "n"
        while number in names:
            number += "_"
        target, columns = quote_shape(shape), column_list(names)
        with driver_connection(connection).cursor() as cursor:
            by = key_expressions(cursor, shape, key, number)
            cursor.execute(
                f"CREATE TEMPORARY TABLE {_MERGE_TABLE} ON COMMIT DROP AS "  # noqa: S608  # quoted, here and below
                f"SELECT {columns}, 0::bigint AS {quote(number)} FROM {target} WITH NO DATA"
            )
            self._copy(connection, f"pg_temp.{_MERGE_TABLE}", [*names, number], with_row_numbers(rows))
            cursor.execute(
                f"INSERT INTO {target} ({columns}) "  # noqa: S608
                f"SELECT DISTINCT ON ({by}) {columns} FROM pg_temp.{_MERGE_TABLE} "
                f"ORDER BY {by}, {quote(number)} DESC {on_conflict(names, key)}"
            )

    def prepare_next_write(self, connection: Connection) -> None:
        """Deferred constraints are checked at once, by name; the temporary table of a merge is created anew."""
        with driver_connection(connection).cursor() as cursor:
            cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
            cursor.execute(f"DROP TABLE IF EXISTS pg_temp.{_MERGE_TABLE}")

    def _copy(self, connection: Connection, target: str, names: Sequence[str], rows: Rows) -> None:
        if isinstance(rows, ArrowRows) and not rows.materialized:
            copy_csv(driver_connection(connection), target, column_list(names), rows.table)
        else:
            self._copy_rows(connection, target, names, rows)

    def _copy_rows(self, connection: Connection, target: str, names: Sequence[str], rows: Rows) -> None:
        """COPY tuples, in binary if the types allow it."""
        with driver_connection(connection).cursor() as cursor:
            oids = self._types.get(connection, target, names)
            binary = _BINARY_OIDS.issuperset(oids)
            form = "BINARY" if binary else "TEXT"
            with cursor.copy(f"COPY {target} ({column_list(names)}) FROM STDIN (FORMAT {form})") as copy:
                if binary:
                    copy.set_types(oids)
                    send_rows(copy, rows, oids)
                    return
                for row in rows:
                    copy.write_row(row)
