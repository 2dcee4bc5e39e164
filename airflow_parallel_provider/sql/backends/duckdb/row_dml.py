"""Rows into DuckDB: one scan of the chunk as an Arrow table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_parallel_provider.errors import SchemaMismatch
from airflow_parallel_provider.rows.arrow_rows import ArrowRows, append_row_numbers, as_table
from airflow_parallel_provider.sql.backends.duckdb.dialect import CHUNK
from airflow_parallel_provider.sql.backends.duckdb.keys import collated
from airflow_parallel_provider.sql.backends.quoting import any_is_null, column_list, on_conflict, quote_shape
from airflow_parallel_provider.sql.backends.row_dml import RowDml, Rows
from airflow_parallel_provider.sql.backends.session import driver_connection
from airflow_parallel_provider.values.kinds import Kind

if TYPE_CHECKING:
    from collections.abc import Sequence

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

    def insert(self, connection: Connection, shape: TableShape, names: Sequence[str], rows: Rows) -> None:
        """One scan of the chunk as an Arrow table."""
        _insert_from_scan(connection, shape, names, _arrow_table(shape, names, rows), "")

    def merge(
        self, connection: Connection, shape: TableShape, names: Sequence[str], rows: Rows, key: Sequence[str]
    ) -> None:
        """ON CONFLICT, on the last of equal keys: the database chooses it, as it knows which keys are equal."""
        chunk = append_row_numbers(_arrow_table(shape, names, rows), _ROW_NUMBER)
        by = [collated(_cast(names.index(name), shape.by_name[name]), shape, name) for name in key]
        without_null = ""
        if any(shape.by_name[name].nullable for name in key):
            # In an INSERT of their own: ON CONFLICT would drop all but one of identical keys.
            _insert_from_scan(connection, shape, names, chunk, f"WHERE {any_is_null(by)}")
            without_null = f"WHERE NOT ({any_is_null(by)}) "
        last = f"QUALIFY row_number() OVER (PARTITION BY {', '.join(by)} ORDER BY {_ROW_NUMBER} DESC) = 1"
        _insert_from_scan(connection, shape, names, chunk, f"{without_null}{last} {on_conflict(names, key)}")


def _cast(at: int, column: TableColumn) -> str:
    """A column of the chunk as a value of the table's column."""
    return f"CAST(c{at} AS {column.sql_type})"


def _insert_from_scan(connection: Connection, shape: TableShape, names: Sequence[str], chunk: Any, tail: str) -> None:
    selected = ", ".join(_cast(at, shape.by_name[name]) for at, name in enumerate(names))
    insert = f"INSERT INTO {quote_shape(shape)} ({column_list(names)}) SELECT {selected} FROM {CHUNK} {tail}"  # noqa: S608
    driver_connection(connection).scan(insert, chunk)


def _arrow_table(shape: TableShape, names: Sequence[str], rows: Rows) -> Any:
    """The chunk as an Arrow table with columns c0, c1, ..."""
    import pyarrow as pa

    if isinstance(rows, ArrowRows) and not rows.materialized:
        return as_table(rows.table).rename_columns([f"c{at}" for at in range(len(names))])
    fixed = {
        Kind.BOOL: pa.bool_(), Kind.FLOAT: pa.float64(), Kind.TEXT: pa.string(), Kind.BYTES: pa.binary(),
        Kind.DATE: pa.date32(), Kind.DATETIME: pa.timestamp("us"), Kind.DATETIMETZ: pa.timestamp("us", "UTC"),
        Kind.TIME: pa.time64("us"), Kind.TIMEDELTA: pa.duration("us"), Kind.HUGEINT: pa.string(),
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
