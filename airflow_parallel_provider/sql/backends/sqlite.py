"""SQLite: the driver's own executemany inside BEGIN IMMEDIATE.

Two facts decide how: a transaction that begins with a read and writes later fails at once with "database is locked"
when another one wrote in between, whatever the busy timeout, so the write lock is taken first; and Python's sqlite3
begins transactions behind one's back, so that is switched off.

The journal mode is left as it is: it belongs to the database and outlives the connection, and WAL does not work on
network file systems. With a rollback journal a reader can make a commit wait (``lock_timeout``); who has long readers
switches the file to WAL once: ``PRAGMA journal_mode=WAL``.

What SQLite has no type for is stored so that it can be read back: Decimal and integers beyond 64 bit as text
(``DECIMAL_TEXT``; a number would be rounded to a float), dates and times as ISO text, instants as ISO text in UTC,
timedelta as seconds, UUID and JSON as text. NaN becomes NULL.
"""

from __future__ import annotations

import sqlite3
import time
from operator import methodcaller
from typing import TYPE_CHECKING, Any

from airflow_parallel_provider.errors import UnsafeTable
from airflow_parallel_provider.sql.backends.base import Backend, Rows
from airflow_parallel_provider.sql.backends.quoting import column_list, on_conflict, place, place_of, quote
from airflow_parallel_provider.values.convert import to_json
from airflow_parallel_provider.values.kinds import Column, Kind
from airflow_parallel_provider.values.table_shape import TableColumn, TableShape

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from sqlalchemy.engine import Connection

    from airflow_parallel_provider.values.convert import Converter

_FIXED: Mapping[Kind, str] = {
    Kind.BOOL: "BOOLEAN",
    Kind.INT: "INTEGER",
    Kind.HUGEINT: "DECIMAL_TEXT",
    Kind.FLOAT: "REAL",
    Kind.DECIMAL: "DECIMAL_TEXT",
    Kind.BYTES: "BLOB",
    Kind.DATE: "DATE",
    Kind.DATETIME: "DATETIME",
    Kind.DATETIMETZ: "TIMESTAMPTZ",
    Kind.TIME: "TIME",
    Kind.TIMEDELTA: "REAL",
    Kind.UUID: "CHAR(36)",
    Kind.JSON: "JSON_TEXT",
}
_DECLARED: Mapping[str, Kind] = {
    "BOOLEAN": Kind.BOOL,
    "BOOL": Kind.BOOL,
    "DECIMAL_TEXT": Kind.DECIMAL,
    "DATE": Kind.DATE,
    "DATETIME": Kind.DATETIME,
    "TIMESTAMP": Kind.DATETIME,
    "TIMESTAMPTZ": Kind.DATETIMETZ,
    "TIMESTAMP WITH TIME ZONE": Kind.DATETIMETZ,
    "TIME": Kind.TIME,
    "UUID": Kind.UUID,
    "JSON": Kind.JSON,
    "JSON_TEXT": Kind.JSON,
}
_AFFINITY: tuple[tuple[str, Kind], ...] = (
    # In the order of SQLite's own rules (datatype3.html, section 3.1).
    ("INT", Kind.INT), ("CHAR", Kind.TEXT), ("CLOB", Kind.TEXT), ("TEXT", Kind.TEXT), ("BLOB", Kind.BYTES),
    ("REAL", Kind.FLOAT), ("FLOA", Kind.FLOAT), ("DOUB", Kind.FLOAT), ("DEC", Kind.DECIMAL), ("NUM", Kind.DECIMAL),
)  # fmt: skip
_iso = methodcaller("isoformat", " ")
"""A time as ``str`` writes it, a quarter faster."""
_LOCK_SLICE = 1_000
"""Milliseconds of one wait for a lock."""
_LOCKED = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
_PASSING = (*_LOCKED, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PROTOCOL)
_EXACT_DIGITS = 15
"""What SQLite keeps of a number in text when the column has NUMERIC affinity."""


def _any(value: Any) -> Any:
    """A value for a column without a type that means anything to SQLite."""
    if isinstance(value, (dict, list)):
        return to_json(value)
    if value is None or isinstance(value, (bool, int, float, str, bytes)):
        return value
    return value.isoformat() if hasattr(value, "isoformat") else str(value)


class SqliteBackend(Backend):
    """Writes to SQLite on the ``sqlite3`` connection itself."""

    merges = True
    transactional_ddl = True
    folds_case = True
    adapters: Mapping[Kind, Converter] = {
        Kind.DECIMAL: str,
        # The texts of Python are ISO texts, and sort as the times do: of one column all are in UTC, or none has a zone.
        Kind.DATE: str,
        Kind.DATETIME: _iso,
        Kind.DATETIMETZ: _iso,
        Kind.TIME: str,
        Kind.UUID: str,
        Kind.JSON: to_json,
        Kind.OTHER: _any,
    }

    def configure(self, raw: sqlite3.Connection) -> None:
        """Transactions begin when we say so; a lock is waited for."""
        raw.isolation_level = None
        raw.execute(f"PRAGMA busy_timeout = {_LOCK_SLICE}")

    def interrupt(self, raw: sqlite3.Connection, connect: Callable[[], Any]) -> None:  # noqa: ARG002  # not needed
        """Break off a running statement at once, a wait for a lock within a second."""
        self.stopped.set()
        raw.interrupt()

    def begin(self, connection: Connection) -> None:
        """Take the write lock at once."""
        connection.begin()
        self._retry_while_locked(_raw(connection), "BEGIN IMMEDIATE")

    def commit(self, connection: Connection) -> None:
        """Commit; where the journal mode lets readers hold it up, wait for them."""
        self._retry_while_locked(_raw(connection), "COMMIT")
        connection.commit()

    def _retry_while_locked(self, raw: sqlite3.Connection, statement: str) -> None:
        """Run a statement that may have to wait for a lock. SQLite's own wait cannot be interrupted, so it is cut up.

        A COMMIT that found the database busy leaves the transaction as it was and may be said again.
        """
        deadline = time.monotonic() + self.lock_timeout
        while True:
            try:
                raw.execute(statement)
            except sqlite3.OperationalError as error:
                if not self.is_locked(error) or self.stopped.is_set() or time.monotonic() > deadline:
                    raise
            else:
                return

    def check_transactional(self, connection: Connection, table: str, schema: str | None) -> None:
        """A database in memory is gone with its connection, and so is its ledger."""
        listed = connection.exec_driver_sql("PRAGMA database_list").fetchall()
        wanted = (schema or "main").casefold()
        if any(name.casefold() == wanted and not file for _, name, file in listed):
            raise UnsafeTable(
                f"table {table!r} would be in a SQLite database in memory, where nothing outlives the connection: "
                "give the connection a file as its host"
            )

    def sql_type(self, column: Column, *, in_key: bool) -> Any:  # noqa: ARG002  # keys need no length here
        """The declared type, which SQLite keeps word for word."""
        if column.kind is Kind.TEXT:
            return _declared(f"VARCHAR({column.length})" if column.length else "TEXT")
        return _declared(_FIXED[column.kind or Kind.TEXT])

    def reflect(self, connection: Connection, table: str, schema: str | None) -> TableShape | None:
        """Read the declared types themselves: SQLAlchemy would make numbers of our texts."""
        found = _listed_columns(connection, table, schema)
        if not found:
            return None
        prefix = f"{quote(schema)}." if schema else ""
        primary = [row[1] for row in sorted(found, key=lambda row: row[5]) if row[5]]
        columns = tuple(_column(row, primary) for row in found)
        keys = {frozenset(primary)} if primary else set()
        for _, index, unique, _, partial in connection.exec_driver_sql(
            f"PRAGMA {prefix}index_list({quote(table)})"
        ).fetchall():
            members = connection.exec_driver_sql(f"PRAGMA {prefix}index_info({quote(index)})").fetchall()
            if unique and not partial and all(name is not None for _, _, name in members):
                keys.add(frozenset(name for _, _, name in members))
        return TableShape(table, schema, columns, tuple(sorted(keys, key=sorted)), tuple(primary))

    def column_names(self, connection: Connection, table: str, schema: str | None) -> frozenset[str] | None:
        """One PRAGMA."""
        return frozenset(row[1] for row in _listed_columns(connection, table, schema)) or None

    def create_like(self, connection: Connection, name: str, shape: TableShape) -> None:
        """With types, defaults and the primary key; the other keys are checked when the rows are copied."""
        parts = [
            f"{quote(column.name)} {column.sql_type}{'' if column.nullable else ' NOT NULL'}{_default(column)}"
            for column in shape.columns
            if not column.computed
        ]
        if shape.primary_key:
            parts.append(f"PRIMARY KEY ({column_list(shape.primary_key)})")
        connection.exec_driver_sql(f"CREATE TABLE {place(name, shape.schema)} ({', '.join(parts)})")

    def add_column(self, connection: Connection, shape: TableShape, name: str, sql_type: Any) -> None:
        """Reflected types are the declared words themselves."""
        super().add_column(connection, shape, name, _declared(sql_type) if isinstance(sql_type, str) else sql_type)

    def renames(self, connection: Connection, staging: TableShape, old: TableShape | None) -> bool:  # noqa: ARG002
        """Only to a name that is free: a RENAME would take views and triggers along."""
        return old is None

    def insert(self, connection: Connection, shape: TableShape, names: Sequence[str], rows: Rows) -> None:
        """One prepared statement, all rows."""
        _raw(connection).executemany(_insert(shape, names), rows)

    def merge(
        self, connection: Connection, shape: TableShape, names: Sequence[str], rows: Rows, key: Sequence[str]
    ) -> None:
        """Row by row in C, so of equal keys the last one wins."""
        _raw(connection).executemany(f"{_insert(shape, names)} {on_conflict(names, key)}", rows)

    def is_locked(self, error: BaseException) -> bool:
        """Whether another connection holds the lock."""
        return _is_code(error, _LOCKED)

    def is_transient(self, error: BaseException) -> bool:
        """A lock, or a disk that did not do what it should; a journal that could not be opened is one too."""
        return _is_code(error, _PASSING)

    def explain(self, error: BaseException) -> str:
        """SQLite's own text: it names tables and columns, never values."""
        cause = getattr(error, "orig", error)
        if isinstance(cause, sqlite3.Error):
            return f"{type(cause).__name__}: {cause}"
        return type(cause).__name__


def _listed_columns(connection: Connection, table: str, schema: str | None) -> list[Any]:
    """What SQLite knows of a table's columns, but for those that are hidden; nothing where there is no such table."""
    prefix = f"{quote(schema)}." if schema else ""
    found = connection.exec_driver_sql(f"PRAGMA {prefix}table_xinfo({quote(table)})").fetchall()
    return [row for row in found if row[6] in (0, 2, 3)]


def _is_code(error: BaseException, codes: tuple[int, ...]) -> bool:
    code = getattr(getattr(error, "orig", error), "sqlite_errorcode", None)
    return code is not None and code & 0xFF in codes


def _declared(name: str) -> Any:
    from sqlalchemy.types import UserDefinedType

    # Made by type(): the base is generic in SQLAlchemy 2 and is not in 1.4.
    body = {"cache_ok": True, "get_col_spec": lambda _self, **_options: name}
    return type("Declared", (UserDefinedType,), body)()


def _column(row: Any, primary: list[str]) -> TableColumn:
    _, name, declared, not_null, default, in_key, hidden = row
    spelled = declared.upper().strip()
    bare, _, numbers = spelled.partition("(")
    kind = _kind(bare.strip())
    exact = bare.strip() == "DECIMAL_TEXT"
    length = numbers.rstrip(") ")
    return TableColumn(
        name=name,
        kind=kind,
        sql_type=declared,
        nullable=not not_null,
        # The single INTEGER PRIMARY KEY is the row id, which SQLite gives out itself.
        has_default=default is not None
        or hidden in (2, 3)
        or (spelled == "INTEGER" and bool(in_key) and len(primary) == 1),
        length=int(length) if kind is Kind.TEXT and length.isdigit() else None,
        digits=_EXACT_DIGITS if kind is Kind.DECIMAL and not exact else None,
        computed=hidden in (2, 3),
        default=default,
    )


def _default(column: TableColumn) -> str:
    if column.default is None:
        return ""
    # An expression must be in brackets, where SQLite would take a text in double quotes for a name.
    return f" DEFAULT {column.default}" if column.default.startswith('"') else f" DEFAULT ({column.default})"


def _kind(declared: str) -> Kind:
    if declared in _DECLARED:
        return _DECLARED[declared]
    return next((kind for part, kind in _AFFINITY if part in declared), Kind.OTHER)


def _insert(shape: TableShape, names: Sequence[str]) -> str:
    marks = ", ".join("?" * len(names))
    return f"INSERT INTO {place_of(shape)} ({column_list(names)}) VALUES ({marks})"  # noqa: S608  # quoted


def _raw(connection: Connection) -> sqlite3.Connection:
    raw: Any = connection.connection.driver_connection
    return raw  # type: ignore[no-any-return]
