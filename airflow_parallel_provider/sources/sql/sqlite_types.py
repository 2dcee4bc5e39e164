"""Columns of SQLite, which keep any value, whatever their declared type."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import date, datetime, time
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any

from airflow_parallel_provider.sources.sql.column_readers import UnreadableValue, read_with
from airflow_parallel_provider.values.kinds import Kind

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    from airflow_parallel_provider.sql.backends.base import Backend
    from airflow_parallel_provider.values.table_shape import TableColumn, TableShape


def with_loose_types(shape: TableShape, connection: Connection, backend: Backend) -> TableShape:
    """The table with types that read each value of the declared type, and every other value as it is stored.

    SQLAlchemy would round decimals, read 7 as True, and instants as numbers.
    """
    if connection.dialect.name != "sqlite":
        return shape
    declared = backend.catalog.reflect(connection, shape.name, shape.schema)
    if declared is None:
        return shape
    instants = {column.name for column in declared.columns if column.kind is Kind.DATETIMETZ}
    columns = (_loose(column, is_instant=column.name in instants) for column in shape.columns)
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


def _loose(column: TableColumn, *, is_instant: bool) -> TableColumn:
    import sqlalchemy as sa

    readers: tuple[tuple[type, Callable[[Any], Any]], ...] = (
        (sa.DateTime, _parsed(datetime.fromisoformat)),
        (sa.Date, _parsed(date.fromisoformat)),
        (sa.Time, _parsed(time.fromisoformat)),
        (sa.Boolean, _bool),
        (sa.JSON, _json),
        (sa.LargeBinary, _same),
    )
    read = next((reader for base, reader in readers if isinstance(column.sql_type, base)), None)
    if is_instant:
        read = _parsed(datetime.fromisoformat)
    elif isinstance(column.sql_type, sa.Numeric) and not isinstance(column.sql_type, sa.Float):
        read = _decimal(column.scale)
    if read is None:
        return column
    return replace(column, sql_type=read_with(f"LOOSE_{column.kind}", read=read, is_loose=True))


def _same(stored: Any) -> Any:
    return stored


def _bindable(bound: Any) -> Any:
    """A bound of a key as SQLite takes it."""
    return float(bound) if isinstance(bound, Decimal) else bound


def _parsed(parse: Callable[[str], Any]) -> Callable[[Any], Any]:
    def read(stored: Any) -> Any:
        try:
            return parse(stored)
        except (TypeError, ValueError):
            return stored  # a value of another program

    return read


def _bool(stored: Any) -> Any:
    return bool(stored) if stored in (0, 1) else stored


def _json(stored: Any) -> Any:
    try:
        return json.loads(stored) if isinstance(stored, str) else stored
    except ValueError:
        raise UnreadableValue("a text that is not JSON") from None


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
