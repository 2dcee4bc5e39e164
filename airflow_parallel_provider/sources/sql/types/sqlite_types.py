# SPDX-License-Identifier: Apache-2.0
"""Columns of SQLite, which keep any value, whatever their declared type."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from datetime import date, datetime, time
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any

from airflow_parallel_provider.sources.sql.types.column_readers import read_with
from airflow_parallel_provider.values import json_text
from airflow_parallel_provider.values.json_text import JsonText
from airflow_parallel_provider.values.kinds import Kind

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    from airflow_parallel_provider.sql.backends.base import Backend
    from airflow_parallel_provider.values.table_shape import TableColumn, TableShape


_CLOCK = r"\d\d:\d\d:\d\d(?:\.\d{1,6})?(?:Z|[+-]\d\d:\d\d)?"
_ISO_DATE = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_ISO_TIME = re.compile(_CLOCK, re.ASCII)
_ISO_DATETIME = re.compile(rf"\d{{4}}-\d\d-\d\d(?:[ T](?:{_CLOCK}|\d\d:\d\d))?", re.ASCII)
"""The texts that are read as dates and times. Python also parses ``03``, ``20260102`` and ``2026-W01-1``, and drops the
seventh digit of a second: the value written to the target would not be the one that is kept."""


def with_loose_types(shape: TableShape, connection: Connection, backend: Backend) -> TableShape:
    """The table with types that read each value of the declared type, and every other value as it is stored.

    SQLAlchemy would round decimals, read 7 as True, and instants as numbers.
    """
    if connection.dialect.name != "sqlite":
        return shape
    declared = backend.catalog.reflect(connection, shape.name, shape.schema)
    if declared is None:
        return shape
    kinds = {column.name: column.kind for column in declared.columns}
    columns = (_loose(column, kinds.get(column.name)) for column in shape.columns)
    return replace(shape, columns=tuple(columns))


def as_stored(column: Any, dialect: str) -> Any:
    """A column of a key that is compared as SQLite stores it.

    SQLAlchemy formats each time in one way, and SQLite compares texts: a row stored in another format would be below or
    above its own key.
    """
    import sqlalchemy as sa

    if dialect == "sqlite" and getattr(column.type, "is_loose", False):
        return sa.type_coerce(column, read_with("STORED", write=_bindable))
    return column


def _loose(column: TableColumn, kind: Kind | None) -> TableColumn:
    """The column with a type of its own.

    :param kind: what the sink takes the column for, whose own words SQLAlchemy does not know.
    """
    import sqlalchemy as sa

    readers: tuple[tuple[type, Callable[[Any], Any]], ...] = (
        (sa.DateTime, _parsed(_ISO_DATETIME, datetime.fromisoformat)),
        (sa.Date, _parsed(_ISO_DATE, date.fromisoformat)),
        (sa.Time, _parsed(_ISO_TIME, time.fromisoformat)),
        (sa.Boolean, _bool),
        (sa.LargeBinary, _same),
    )
    read = next((reader for base, reader in readers if isinstance(column.sql_type, base)), None)
    if kind is Kind.JSON:
        read = _json
    elif kind is Kind.DATETIMETZ:
        read = _parsed(_ISO_DATETIME, datetime.fromisoformat)
    elif isinstance(column.sql_type, sa.Numeric) and not isinstance(column.sql_type, sa.Float):
        read = _decimal(column.scale)
    elif kind is Kind.DECIMAL:  # a text: the sink's own type, which SQLAlchemy does not know
        read = _decimal_text
    if read is None:
        return column
    return replace(column, sql_type=read_with(f"LOOSE_{column.kind}", read=read, is_loose=True))


def _same(stored: Any) -> Any:
    return stored


def _bindable(bound: Any) -> Any:
    """A bound of a key as SQLite takes it."""
    return float(bound) if isinstance(bound, Decimal) else bound


def _parsed(form: re.Pattern[str], parse: Callable[[str], Any]) -> Callable[[Any], Any]:
    def read(stored: Any) -> Any:
        if not isinstance(stored, str) or form.fullmatch(stored) is None:
            return stored  # a value of another program
        try:
            return parse(stored)
        except ValueError:  # no such day or hour
            return stored

    return read


def _bool(stored: Any) -> Any:
    return bool(stored) if stored in (0, 1) else stored


def _json(stored: Any) -> Any:
    """JSON if it is a text that is JSON; SQLite makes a number of a text that is one."""
    if not isinstance(stored, str):
        return stored
    try:
        json_text.check(stored)
    except ValueError:
        return stored  # a value of another program
    return JsonText(stored)


def _decimal_text(stored: Any) -> Any:
    try:
        return Decimal(stored) if isinstance(stored, str) else stored
    except InvalidOperation:
        return stored


def _decimal(scale: int | None) -> Callable[[Any], Any]:
    unit = None if scale is None else Decimal(1).scaleb(-scale)

    def read(stored: Any) -> Any:
        if not isinstance(stored, (int, float)):
            return stored
        value = Decimal(repr(stored))
        if unit is None:
            return value
        try:
            padded = value.quantize(unit)
        except InvalidOperation:  # more digits than the context has, or infinite
            return value
        return padded if padded == value else value

    return read
