# SPDX-License-Identifier: Apache-2.0
"""Rows into DuckDB: one scan of the chunk as an Arrow table."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from airflow_parallel_provider.errors import SchemaMismatch
from airflow_parallel_provider.rows.arrow_rows import ArrowRows, append_row_numbers, as_table
from airflow_parallel_provider.sql.backends.duckdb.dialect import CHUNK
from airflow_parallel_provider.sql.backends.duckdb.keys import collated
from airflow_parallel_provider.sql.backends.quoting import (
    any_is_null,
    column_list,
    is_not_older,
    on_conflict,
    quote,
    quote_shape,
)
from airflow_parallel_provider.sql.backends.row_dml import RowDml, Rows, keeps_some
from airflow_parallel_provider.sql.backends.session import driver_connection
from airflow_parallel_provider.values.kinds import Kind

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from sqlalchemy.engine import Connection

    from airflow_parallel_provider.values.table_shape import TableColumn, TableShape

_ROW_NUMBER = "n"
"""Column of a chunk with the number of each row."""


class DuckRowDml(RowDml):
    """On :class:`~airflow_parallel_provider.sql.backends.duckdb.dialect.DuckConnection`."""

    def __init__(self) -> None:
        self._claims: dict[Any, tuple[str, list[str]]] = {}
        """Table of the ledger -> its INSERT as SQL, and the order of its parameters."""

    def claim(
        self,
        connection: Connection,
        statement: Any,
        row: dict[str, Any],
        shape: TableShape | None,  # noqa: ARG002  # nothing to ask
        names: Sequence[str],  # noqa: ARG002
    ) -> None:
        """The INSERT, compiled and parsed once."""
        claim = self._claims.get(statement.table)
        if claim is None:
            compiled = statement.compile(dialect=connection.dialect, column_keys=list(row))
            claim = self._claims[statement.table] = (str(compiled), list(compiled.positiontup))
        sql, order = claim
        driver = driver_connection(connection)
        driver.raw.execute(driver.parse(sql), [row[name] for name in order])

    def insert(self, connection: Connection, shape: TableShape, names: Sequence[str], rows: Rows) -> int:
        """One scan of the chunk as an Arrow table."""
        return len(rows) - _insert_from_scan(connection, shape, names, _arrow_table(shape, names, rows), "")

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
        """ON CONFLICT, on the last or newest of equal keys: the database chooses it, as it knows which are equal."""
        chunk = append_row_numbers(_arrow_table(shape, names, rows), _ROW_NUMBER)
        by = [collated(_cast(names.index(name), shape.by_name[name]), shape, name) for name in key]
        without_null, written = "", 0
        if any(shape.by_name[name].nullable for name in key):
            # In an INSERT of their own: ON CONFLICT would drop all but one of identical keys.
            written = _insert_from_scan(connection, shape, names, chunk, f"WHERE {any_is_null(by)}")
            without_null = f"WHERE NOT ({any_is_null(by)}) "
        order = f"{_ROW_NUMBER} DESC"
        if newest is not None:
            order = f"{_cast(names.index(newest), shape.by_name[newest])} DESC NULLS LAST, {order}"
        last = f"QUALIFY row_number() OVER (PARTITION BY {', '.join(by)} ORDER BY {order}) = 1"
        conflict = on_conflict(names, key, is_not_older(quote(shape.name), newest))
        with _conflicts_as_such(key):
            written += _insert_from_scan(connection, shape, names, chunk, f"{without_null}{last} {conflict}")
        if written == len(rows) or keeps_some(names, key, newest):
            return 0  # DuckDB has no triggers: what it does not count is a row that was to stay
        or_null = f" OR {any_is_null(by)}" if without_null else ""
        keys = f"SELECT count(*) FROM (SELECT 1 FROM {CHUNK} {last}{or_null})"  # noqa: S608
        return int(driver_connection(connection).scan(keys, chunk)) - written


@contextmanager
def _conflicts_as_such(key: Sequence[str]) -> Iterator[None]:
    """Raise what DuckDB says of a conflict as one, so that the chunk is tried again.

    Where another transaction has inserted the same key since this one began, ON CONFLICT does not see its row, and the
    index refuses ours: "Duplicate key", as if the value were wrong.
    """
    import duckdb

    try:
        yield
    except duckdb.ConstraintException as error:
        if any(str(error).startswith(f'Constraint Error: Duplicate key "{name}: ') for name in key):
            raise duckdb.TransactionException("another transaction has inserted a key of this chunk") from None
        raise


def _cast(at: int, column: TableColumn) -> str:
    """A column of the chunk as a value of the table's column."""
    return f"CAST(c{at} AS {column.sql_type})"


def _insert_from_scan(connection: Connection, shape: TableShape, names: Sequence[str], chunk: Any, tail: str) -> int:
    selected = ", ".join(_cast(at, shape.by_name[name]) for at, name in enumerate(names))
    insert = f"INSERT INTO {quote_shape(shape)} ({column_list(names)}) SELECT {selected} FROM {CHUNK} {tail}"  # noqa: S608
    return int(driver_connection(connection).scan(insert, chunk))


def _arrow_table(shape: TableShape, names: Sequence[str], rows: Rows) -> Any:
    """The chunk as an Arrow table with columns c0, c1, ..."""
    import pyarrow as pa

    if isinstance(rows, ArrowRows) and not rows.materialized:
        return as_table(rows.table).rename_columns([f"c{at}" for at in range(len(names))])
    fixed = {
        Kind.BOOL: pa.bool_(), Kind.FLOAT: pa.float64(), Kind.TEXT: pa.string(), Kind.BYTES: pa.binary(),
        Kind.DATE: pa.date32(), Kind.DATETIME: pa.timestamp("us"), Kind.DATETIMETZ: pa.timestamp("us", "UTC"),
        Kind.TIME: pa.time64("us"), Kind.TIMEDELTA: pa.string(), Kind.HUGEINT: pa.string(),
        Kind.UUID: pa.string(), Kind.JSON: pa.string(),
    }  # fmt: skip
    rows = list(rows)
    arrays = []
    for at, name in enumerate(names):
        column = shape.by_name[name]
        arrow: Any = fixed.get(column.kind)
        if column.kind is Kind.INT:
            arrow = pa.uint64() if column.unsigned else pa.int64()
        elif column.kind is Kind.DECIMAL:
            arrow = pa.decimal128(column.precision, column.scale)
        try:
            arrays.append(pa.array([row[at] for row in rows], arrow))
        except pa.ArrowException:  # its text may be the value
            raise SchemaMismatch(
                f"table {shape.display_name!r}, column {name!r} ({column.type_name()}) cannot take all values of the "
                f"rows: convert {name!r} in a stage"
            ) from None
    return pa.table(arrays, names=[f"c{at}" for at in range(len(names))])
