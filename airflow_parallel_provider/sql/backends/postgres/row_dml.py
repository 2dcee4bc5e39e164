# SPDX-License-Identifier: Apache-2.0
"""Rows into PostgreSQL: COPY, in binary, as text, or from an Arrow table.

Binary COPY is what a driver sends fastest, but the client does the conversions: psycopg would write 70000 into a
``smallint`` as 4464, and 1e300 into a ``real`` as infinity. So binary is used for a list of types, and integers are
checked against the width of their column before (see ``fit``). One column of any other type makes the whole chunk go as
text, which the server parses and checks.
"""

from __future__ import annotations

from operator import itemgetter
from typing import TYPE_CHECKING, Any

from airflow_parallel_provider.rows.arrow_rows import ArrowRows, with_row_numbers
from airflow_parallel_provider.rows.fit import RowSlices
from airflow_parallel_provider.rows.texts.line_rows import SETTINGS, LineRows
from airflow_parallel_provider.sql.backends.postgres.column_types import ColumnTypes
from airflow_parallel_provider.sql.backends.postgres.copy_binary import send_rows
from airflow_parallel_provider.sql.backends.postgres.copy_csv import copy_csv
from airflow_parallel_provider.sql.backends.postgres.keys import key_expressions
from airflow_parallel_provider.sql.backends.quoting import column_list, is_not_older, on_conflict, quote, quote_shape
from airflow_parallel_provider.sql.backends.row_dml import RowDml, Rows, keeps_some
from airflow_parallel_provider.sql.backends.session import driver_connection
from airflow_parallel_provider.values.unreadable import DatabaseText, Unreadable

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

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
_TEXTS = frozenset({DatabaseText, Unreadable})
_LINES_AT_ONCE = 2_000
_STAGE = '"parallel_stage"'
"""The temporary table of a merge, and of a table that COPY cannot write to."""


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

    def insert(self, connection: Connection, shape: TableShape, names: Sequence[str], rows: Rows) -> int:
        """COPY into the table itself; into a temporary table and on from there, where COPY does not do."""
        if shape.takes_copy:
            as_text = _has_texts(rows, shape, names)
            return len(rows) - self._copy(connection, quote_shape(shape), names, rows, as_text=as_text)
        target, columns = quote_shape(shape), column_list(names)
        with driver_connection(connection).cursor() as cursor:
            cursor.execute(
                f"CREATE TEMPORARY TABLE {_STAGE} ON COMMIT DROP AS SELECT {columns} FROM {target} WITH NO DATA"  # noqa: S608
            )
            as_text = _has_texts(rows, shape, names)
            self._copy(connection, f"pg_temp.{_STAGE}", names, rows, as_text=as_text)
            cursor.execute(
                f"INSERT INTO {target} ({columns}) {_overriding(shape, names)}SELECT {columns} FROM pg_temp.{_STAGE}"  # noqa: S608
            )
            return len(rows) - int(cursor.rowcount)

    def merge(
        self,
        connection: Connection,
        shape: TableShape,
        names: Sequence[str],
        rows: Rows,
        key: Sequence[str],
        *,
        newest: str | None,
    ) -> int:
        """COPY into a temporary table, then one INSERT ... ON CONFLICT; the last or newest of equal keys wins.

        The database chooses the last: only it knows which keys are equal (collations, citext).
        """
        number = "n"
        while number in names:
            number += "_"
        target, columns = quote_shape(shape), column_list(names)
        with driver_connection(connection).cursor() as cursor:
            by = key_expressions(cursor, shape, key, number)
            cursor.execute(
                f"CREATE TEMPORARY TABLE {_STAGE} ON COMMIT DROP AS "  # noqa: S608  # quoted, here and below
                f"SELECT {columns}, 0::bigint AS {quote(number)} FROM {target} WITH NO DATA"
            )
            as_text = _has_texts(rows, shape, names)
            staged = [*names, number]
            self._copy(connection, f"pg_temp.{_STAGE}", staged, _numbered(rows), as_text=as_text)
            first = "" if newest is None else f"{quote(newest)} DESC NULLS LAST, "
            chosen = (
                f"SELECT DISTINCT ON ({by}) {columns} FROM pg_temp.{_STAGE} "  # noqa: S608
                f"ORDER BY {by}, {first}{quote(number)} DESC"
            )
            cursor.execute(
                f"INSERT INTO {target} AS there ({columns}) {_overriding(shape, names)}{chosen} "
                f"{on_conflict(names, key, is_not_older('there', newest))}"
            )
            written = int(cursor.rowcount)
            if written == len(rows):
                return 0
            if keeps_some(names, key, newest):
                cursor.execute(_count_missing(target, chosen, key, newest))
                return int(cursor.fetchone()[0])
            cursor.execute(f"SELECT count(*) FROM (SELECT DISTINCT {by} FROM pg_temp.{_STAGE}) k")  # noqa: S608
            return int(cursor.fetchone()[0]) - written

    def prepare_next_write(self, connection: Connection) -> None:
        """Deferred constraints are checked at once, by name; the temporary table is created anew."""
        with driver_connection(connection).cursor() as cursor:
            cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
            cursor.execute(f"DROP TABLE IF EXISTS pg_temp.{_STAGE}")

    def _copy(
        self,
        connection: Connection,
        target: str,
        names: Sequence[str],
        rows: Iterable[tuple[Any, ...]],
        *,
        as_text: bool,
    ) -> int:
        """COPY rows; return how many the server has written."""
        if isinstance(rows, LineRows):
            return self._copy_lines(connection, target, names, rows)
        if isinstance(rows, ArrowRows) and not rows.materialized:
            return copy_csv(driver_connection(connection), target, column_list(names), rows.table)
        return self._copy_rows(connection, target, names, rows, as_text=as_text)

    def _copy_lines(self, connection: Connection, target: str, names: Sequence[str], rows: LineRows) -> int:
        """COPY lines that another table has written."""
        with driver_connection(connection).cursor() as cursor:
            cursor.execute(SETTINGS)
            with cursor.copy(f"COPY {target} ({column_list(names)}) FROM STDIN") as copy:
                for at in range(0, len(rows), _LINES_AT_ONCE):
                    copy.write(b"".join(rows.lines[at : at + _LINES_AT_ONCE]))
            return int(cursor.rowcount)

    def _copy_rows(
        self,
        connection: Connection,
        target: str,
        names: Sequence[str],
        rows: Iterable[tuple[Any, ...]],
        *,
        as_text: bool,
    ) -> int:
        """COPY tuples, in binary if the types and values allow it."""
        with driver_connection(connection).cursor() as cursor:
            oids = self._types.get(connection, target, names)
            binary = not as_text and _BINARY_OIDS.issuperset(oids)
            form = "BINARY" if binary else "TEXT"
            with cursor.copy(f"COPY {target} ({column_list(names)}) FROM STDIN (FORMAT {form})") as copy:
                if binary:
                    copy.set_types(oids)
                    send_rows(copy, rows, oids)
                else:
                    for row in rows:
                        copy.write_row(row)
            return int(cursor.rowcount)


def _numbered(rows: Rows) -> Iterable[tuple[Any, ...]]:
    return rows.numbered() if isinstance(rows, LineRows) else with_row_numbers(rows)


def _has_texts(rows: Rows, shape: TableShape, names: Sequence[str]) -> bool:
    """Whether rows have dates or times as texts of a database. The binary format has no place for them."""
    numbers = [number for number, name in enumerate(names) if shape.by_name[name].takes_texts_of is not None]
    if not numbers or isinstance(rows, (ArrowRows, LineRows)):
        return False
    held: Any = rows.block.rows if isinstance(rows, RowSlices) else rows
    try:
        return any(not _TEXTS.isdisjoint(map(type, map(itemgetter(number), held))) for number in numbers)
    except (IndexError, TypeError):  # rows that differ, which are refused when they are converted
        return True


def _overriding(shape: TableShape, names: Sequence[str]) -> str:
    """The clause that lets an INSERT fill columns ``GENERATED ALWAYS AS IDENTITY``, as COPY does anyway."""
    return "OVERRIDING SYSTEM VALUE " if any(shape.by_name[name].identity for name in names) else ""


def _count_missing(target: str, chosen: str, key: Sequence[str], newest: str | None) -> str:
    """A query: how many rows that a merge has chosen are neither in the table nor older than what is there.

    Rows with a NULL in their key are not looked for: they equal no other, and an index would not help.
    """
    same = " AND ".join(f"there.{quote(name)} = new.{quote(name)}" for name in key)
    if newest is not None:
        same += f" AND (new.{quote(newest)} IS NULL OR there.{quote(newest)} >= new.{quote(newest)})"
    whole = " AND ".join(f"new.{quote(name)} IS NOT NULL" for name in key)
    return (
        f"SELECT count(*) FROM ({chosen}) new WHERE {whole} "  # noqa: S608  # quoted
        f"AND NOT EXISTS (SELECT FROM {target} there WHERE {same})"
    )
