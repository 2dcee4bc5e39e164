# SPDX-License-Identifier: Apache-2.0
"""Rows into Snowflake: COPY INTO of a file in the user's stage, and MERGE from a temporary table."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from airflow_parallel_provider.sql.backends.quoting import any_is_null, column_list, quote, quote_shape, quote_table
from airflow_parallel_provider.sql.backends.row_dml import RowDml, Rows
from airflow_parallel_provider.sql.backends.session import driver_connection
from airflow_parallel_provider.sql.backends.snowflake.fields import (
    FILE_FORMAT,
    field_table,
    read_field,
    texts,
    write_file,
)

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    from airflow_parallel_provider.values.table_shape import TableShape

log = logging.getLogger(__name__)

STAGE = "@~/airflow_parallel"
"""Folder in the stage of the user that the Airflow connection names. To make a stage would be DDL, which commits."""
_STAGING = "airflow_parallel_chunk"
"""Temporary table of a session with the rows of a merge."""
_ROWS_PER_STATEMENT = 1_000
_MARK = "\0"
"""Stands for a parameter."""
_LOADED, _ROWS_LOADED, _COLUMNS_OF_COPY = "LOADED", 3, 4


@dataclass(frozen=True, slots=True)
class SentRows:
    """The rows of a chunk, which are in a file of the stage already."""

    rows: Rows
    file: str
    staged: int | None = None
    """How many of them the temporary table has; None: it is not needed."""

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        """The rows."""
        return iter(self.rows)

    def __len__(self) -> int:
        """How many."""
        return len(self.rows)


class SnowflakeRowDml(RowDml):
    """On the connector's own cursor."""

    def __init__(self) -> None:
        self._sent: list[str] = []
        """Files of the stage."""

    def send_ahead(
        self, connection: Connection, shape: TableShape, names: Sequence[str], rows: Rows, *, merge: bool
    ) -> Rows:
        """PUT the rows, and for a merge COPY them into a temporary table, before the chunk's transaction begins."""
        if connection.in_transaction():
            connection.rollback()  # reading has opened it; DDL would commit it
        self.forget_sent(connection)  # of an attempt that has failed
        driver = driver_connection(connection)
        file = f"{uuid4().hex}.csv.gz"
        self._sent.append(file)
        with tempfile.TemporaryDirectory(prefix="airflow_parallel_") as folder:
            path = Path(folder, file)
            write_file(field_table(shape, names, rows), path)
            _execute(driver, f"PUT 'file://{path.as_posix()}' {STAGE}/ SOURCE_COMPRESSION = GZIP AUTO_COMPRESS = FALSE")
        if not merge:
            return SentRows(rows, file)
        staging = quote_table(_STAGING, shape.schema)
        columns = [f"c{at} {shape.by_name[name].sql_type}" for at, name in enumerate(names)]
        _execute(driver, f"CREATE OR REPLACE TEMPORARY TABLE {staging} ({', '.join(columns)}, n NUMBER(38,0))")
        target = f"{staging} ({', '.join(f'c{at}' for at in range(len(names)))}, n)"
        staged = _copy(driver, target, shape, names, file, numbered=True)
        driver.commit()
        return SentRows(rows, file, staged)

    def forget_sent(self, connection: Connection) -> None:
        """REMOVE the files. Nothing loads one that stays, which costs its storage."""
        driver = driver_connection(connection)
        while self._sent:
            file = self._sent.pop()
            try:
                _execute(driver, f"REMOVE {STAGE}/{file}")
            except Exception as error:  # noqa: BLE001  # the rows are in: whatever it is, it must not fail the chunk
                log.warning("The file %s/%s could not be removed (%s): remove it", STAGE, file, type(error).__name__)

    def insert(self, connection: Connection, shape: TableShape, names: Sequence[str], rows: Rows) -> int:
        """COPY INTO of the file; rows that were not sent ahead, one by one of a few, by INSERT."""
        driver = driver_connection(connection)
        target = f"{quote_shape(shape)} ({column_list(names)})"
        if isinstance(rows, SentRows):
            return len(rows) - _copy(driver, target, shape, names, rows.file)
        written = 0
        for selected, parameters in _selected(shape, names, rows):
            written += _execute(driver, f"INSERT INTO {target} {selected}", parameters).rowcount
        return len(rows) - written

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
        """MERGE of the last or newest of equal keys; a key with a NULL equals no other."""
        driver = driver_connection(connection)
        if isinstance(rows, SentRows) and rows.staged is not None:
            if rows.staged != len(rows):
                return len(rows) - rows.staged
            source = f"SELECT * FROM {quote_table(_STAGING, shape.schema)}"  # noqa: S608  # quoted
            _merge(driver, source, (), shape, names, key=key, newest=newest)
            return 0
        for selected, parameters in _selected(shape, names, rows, numbered=True):
            _merge(driver, selected, parameters, shape, names, key=key, newest=newest)
        return 0


def _merge(
    driver: Any,
    source: str,
    parameters: Sequence[Any],
    shape: TableShape,
    names: Sequence[str],
    *,
    key: Sequence[str],
    newest: str | None,
) -> None:
    """Run a MERGE. What it counts cannot be compared; but nothing here drops a row without an error.

    :param source: selects c0, c1, ... and n, the number of the row.
    """
    at = {name: f"c{number}" for number, name in enumerate(names)}
    by = [at[name] for name in key]
    order = "n DESC" if newest is None else f"{at[newest]} DESC NULLS LAST, n DESC"
    chosen = (
        f"SELECT * FROM ({source}) QUALIFY {any_is_null(by)} "  # noqa: S608  # quoted
        f"OR row_number() OVER (PARTITION BY {', '.join(by)} ORDER BY {order}) = 1"
    )
    rest = [name for name in names if name not in key]
    update = ""
    if rest:
        there = f"t.{quote(newest)}" if newest else ""
        condition = f" AND ({there} IS NULL OR s.{at[newest]} >= {there})" if newest else ""
        update = f"WHEN MATCHED{condition} THEN UPDATE SET " + ", ".join(f"{quote(n)} = s.{at[n]}" for n in rest)
    statement = (
        f"MERGE INTO {quote_shape(shape)} AS t USING ({chosen}) AS s "  # noqa: S608  # quoted
        f"ON {' AND '.join(f't.{quote(name)} = s.{at[name]}' for name in key)} {update} "
        f"WHEN NOT MATCHED THEN INSERT ({column_list(names)}) VALUES ({', '.join(f's.{at[n]}' for n in names)})"
    )
    _execute(driver, statement, parameters)


def _copy(
    driver: Any, target: str, shape: TableShape, names: Sequence[str], file: str, *, numbered: bool = False
) -> int:
    """COPY INTO a table from one file; return how many rows the server reports."""
    fields = [read_field(shape.by_name[name], f"${at}") for at, name in enumerate(names, 1)]
    if numbered:
        fields.append(f"CAST(${len(names) + 1} AS NUMBER(38,0))")
    cursor = _execute(
        driver,
        f"COPY INTO {target} FROM (SELECT {', '.join(fields)} FROM {STAGE}/) FILES = ('{file}') "  # noqa: S608  # quoted
        f"FILE_FORMAT = ({FILE_FORMAT}) ON_ERROR = ABORT_STATEMENT",
    )
    reports = cursor.fetchall()
    return sum(int(row[_ROWS_LOADED]) for row in reports if len(row) >= _COLUMNS_OF_COPY and row[1] == _LOADED)


def _selected(
    shape: TableShape, names: Sequence[str], rows: Rows, *, numbered: bool = False
) -> Iterator[tuple[str, tuple[Any, ...]]]:
    """SELECTs of rows that are parameters, a part of them each."""
    fields = [f"{read_field(shape.by_name[name], f'column{at}')} AS c{at - 1}" for at, name in enumerate(names, 1)]
    if numbered:
        fields.append(f"CAST(column{len(names) + 1} AS NUMBER(38,0)) AS n")
    marks = "(" + ", ".join([_MARK] * len(fields)) + ")"
    values = texts(field_table(shape, names, rows))
    for start in range(0, len(values), _ROWS_PER_STATEMENT):
        part = [row[: len(fields)] for row in values[start : start + _ROWS_PER_STATEMENT]]
        yield f"SELECT {', '.join(fields)} FROM VALUES {', '.join([marks] * len(part))}", tuple(chain(*part))  # noqa: S608


def _execute(driver: Any, statement: str, parameters: Sequence[Any] = ()) -> Any:
    """Run a statement.

    :param parameters: for each ``_MARK`` in it, so that a % in a name stays one.
    """
    cursor = driver.cursor()
    if not parameters:
        return cursor.execute(statement)
    return cursor.execute(statement.replace("%", "%%").replace(_MARK, "%s"), tuple(parameters))
