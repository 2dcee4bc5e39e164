"""DuckDB: each chunk is an Arrow table that an INSERT ... SELECT reads; executemany would be 400 times slower.

A DuckDB file belongs to one process at a time: a second one that opens it is refused by DuckDB and, here, waits as for
a lock. Two transactions that change the same thing do not wait for each other: the later one fails and is tried again.
There is no limit on the time of a statement (``statement_timeout``); stopping a run breaks it off.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from airflow_parallel_provider.errors import SchemaMismatch, UnsafeTable
from airflow_parallel_provider.rows.arrow_rows import ArrowRows, as_table, with_numbers
from airflow_parallel_provider.sql.backends.base import Backend, Rows
from airflow_parallel_provider.sql.backends.duckdb.dialect import CHUNK, DuckConnection
from airflow_parallel_provider.sql.backends.duckdb.keys import collates, compared
from airflow_parallel_provider.sql.backends.quoting import any_missing, column_list, on_conflict, place_of, quote
from airflow_parallel_provider.values.convert import to_json, within_bits
from airflow_parallel_provider.values.kinds import Column, Kind
from airflow_parallel_provider.values.table_shape import TableColumn, TableShape

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from sqlalchemy.engine import Connection

    from airflow_parallel_provider.values.convert import Converter

_FIXED: Mapping[Kind, str] = {
    Kind.BOOL: "BOOLEAN",
    Kind.INT: "BIGINT",
    Kind.HUGEINT: "HUGEINT",
    Kind.FLOAT: "DOUBLE",
    Kind.TEXT: "VARCHAR",
    Kind.BYTES: "BLOB",
    Kind.DATE: "DATE",
    Kind.DATETIME: "TIMESTAMP",
    Kind.DATETIMETZ: "TIMESTAMPTZ",
    Kind.TIME: "TIME",
    Kind.TIMEDELTA: "INTERVAL",
    Kind.UUID: "UUID",
    Kind.JSON: "JSON",
}
_KINDS: Mapping[str, Kind] = {
    "BOOLEAN": Kind.BOOL, "FLOAT": Kind.FLOAT, "DOUBLE": Kind.FLOAT, "VARCHAR": Kind.TEXT, "BLOB": Kind.BYTES,
    "DATE": Kind.DATE, "TIMESTAMP": Kind.DATETIME, "TIMESTAMP WITH TIME ZONE": Kind.DATETIMETZ, "TIME": Kind.TIME,
    "INTERVAL": Kind.TIMEDELTA, "UUID": Kind.UUID, "JSON": Kind.JSON, "HUGEINT": Kind.HUGEINT,
}  # fmt: skip
_BITS: Mapping[str, int] = {"TINYINT": 8, "SMALLINT": 16, "INTEGER": 32, "BIGINT": 64}
_DECIMAL = re.compile(r"DECIMAL\((\d+),\s*(\d+)\)")
_PASSING = frozenset(
    {
        "TransactionException", "IOException", "HTTPException", "ConnectionException", "OutOfMemoryException",
        "ResourceInUseException", "FatalException",
    }
)  # fmt: skip
"""Classes of errors that may pass; after a fatal one the file must be opened anew, as every try does."""
_NUMBER = "n"
"""Column of a chunk with the number of each row."""
_THERE = (
    "WHERE database_name = current_database() AND lower(table_name) = lower(?) "
    "AND schema_name = coalesce(?, current_schema())"
)
"""Picks a table from one of DuckDB's catalogue functions, by its name and its schema."""
_NAME = re.compile(r'"((?:[^"]|"")+)"|(\w+)')
_within_128_bits = within_bits(128, unsigned=False)


def _huge(value: int) -> str:
    return str(_within_128_bits(value))


class DuckBackend(Backend):
    """Writes to DuckDB on the connection itself."""

    merges = True
    folds_case = True
    savepoints = False
    transactional_ddl = True
    arrow_kinds = frozenset(
        {
            Kind.BOOL, Kind.INT, Kind.FLOAT, Kind.DECIMAL, Kind.TEXT, Kind.BYTES, Kind.DATE, Kind.DATETIME,
            Kind.DATETIMETZ, Kind.TIME, Kind.TIMEDELTA,
        }
    )  # fmt: skip
    adapters: Mapping[Kind, Converter] = {Kind.HUGEINT: _huge, Kind.JSON: to_json, Kind.UUID: str}

    def wrapped(self, raw: Any) -> Any:
        """One transaction for all cursors."""
        return DuckConnection(raw)

    def __init__(self, lock_timeout: float, statement_timeout: float) -> None:
        super().__init__(lock_timeout, statement_timeout)
        self._claims: dict[Any, tuple[str, list[str]]] = {}

    def configure(self, raw: Any) -> None:
        """Instants are in UTC."""
        raw.cursor().execute("SET TimeZone = 'UTC'")
        raw.look_around()

    def interrupt(self, raw: Any, connect: Callable[[], Any]) -> None:  # noqa: ARG002  # not needed
        """Break off the running statement."""
        self.stopped.set()
        raw.interrupt()

    def begin(self, connection: Connection) -> None:
        """A transaction that reads what was committed before it began."""
        connection.begin()
        _wrapped(connection).begin()

    def claim(
        self,
        connection: Connection,
        insert: Any,
        row: dict[str, Any],
        shape: TableShape | None,  # noqa: ARG002  # as the others have it
        names: Sequence[str],  # noqa: ARG002
    ) -> None:
        """The INSERT, compiled and parsed once."""
        known = self._claims.get(insert.table)
        if known is None:
            compiled = insert.compile(dialect=connection.dialect, column_keys=list(row))
            known = self._claims[insert.table] = (str(compiled), list(compiled.positiontup))
        sql, order = known
        wrapped = _wrapped(connection)
        wrapped.raw.execute(wrapped.parsed(sql), [row[name] for name in order])

    def check_transactional(self, connection: Connection, table: str, schema: str | None) -> None:  # noqa: ARG002
        """A database in memory is gone with its connection, and so is its ledger."""
        found = connection.exec_driver_sql(
            "SELECT path FROM duckdb_databases() WHERE database_name = current_database()"
        ).scalar()
        if not found:
            raise UnsafeTable(
                f"table {table!r} would be in a DuckDB database in memory, where nothing outlives the connection: "
                "give the connection a file as its host"
            )

    def sql_type(self, column: Column, *, in_key: bool) -> Any:  # noqa: ARG002  # keys need no length here
        """DuckDB's own types. It keeps no lengths of texts."""
        if column.kind is Kind.DECIMAL:
            return _declared(f"DECIMAL({column.precision or 38},{column.scale if column.precision else 10})")
        return _declared(_FIXED[column.kind or Kind.TEXT])

    def add_column(self, connection: Connection, shape: TableShape, name: str, sql_type: Any) -> None:
        """Reflected types are the words themselves."""
        super().add_column(connection, shape, name, _declared(sql_type) if isinstance(sql_type, str) else sql_type)

    def reflect(self, connection: Connection, table: str, schema: str | None) -> TableShape | None:
        """From DuckDB's own catalogue."""
        found = _listed_columns(connection, table, schema)
        if not found:
            return None
        constraints = connection.exec_driver_sql(
            f"SELECT constraint_type, constraint_column_names FROM duckdb_constraints() {_THERE}",  # noqa: S608
            (table, schema),
        ).fetchall()
        indexes = connection.exec_driver_sql(
            f"SELECT expressions FROM duckdb_indexes() {_THERE} AND is_unique",  # noqa: S608
            (table, schema),
        ).fetchall()
        primary = next((tuple(names) for kind, names in constraints if kind == "PRIMARY KEY"), ())
        keys = {frozenset(names) for kind, names in constraints if kind in ("PRIMARY KEY", "UNIQUE")}
        names = {row[0] for row in found}
        for (expressions,) in indexes:
            members = frozenset(quoted.replace('""', '"') or bare for quoted, bare in _NAME.findall(str(expressions)))
            if members <= names:
                keys.add(members)
        computed = _generated(connection, table, schema) if any(row[3] is not None for row in found) else set()
        collated = bool(keys) and collates(connection, _THERE, (table, schema))
        columns = tuple(_column(row, computed=row[0] in computed, collated=collated) for row in found)
        return TableShape(table, schema, columns, tuple(sorted(keys, key=sorted)), primary)

    def column_names(self, connection: Connection, table: str, schema: str | None) -> frozenset[str] | None:
        """One query."""
        return frozenset(row[0] for row in _listed_columns(connection, table, schema)) or None

    def create_like(self, connection: Connection, name: str, shape: TableShape) -> None:
        """With types, defaults and the primary key; the other keys are checked when the rows are copied."""
        parts = [
            f"{quote(column.name)} {column.sql_type}{'' if column.nullable else ' NOT NULL'}"
            f"{'' if column.default is None else f' DEFAULT ({column.default})'}"
            for column in shape.columns
            if not column.computed
        ]
        if shape.primary_key:
            parts.append(f"PRIMARY KEY ({column_list(shape.primary_key)})")
        made = self.place(connection, name, shape.schema)
        connection.exec_driver_sql(f"CREATE TABLE {made} ({', '.join(parts)})")

    def renames(self, connection: Connection, staging: TableShape, old: TableShape | None) -> bool:  # noqa: ARG002
        """Only to a name that is free: indexes would be lost."""
        return old is None

    def insert(self, connection: Connection, shape: TableShape, names: Sequence[str], rows: Rows) -> None:
        """One scan of the chunk as an Arrow table."""
        _scan(connection, shape, names, _arrow(shape, names, rows), "")

    def merge(
        self, connection: Connection, shape: TableShape, names: Sequence[str], rows: Rows, key: Sequence[str]
    ) -> None:
        """ON CONFLICT, after the last of equal keys was picked: by the database, which knows what is equal."""
        chunk = with_numbers(_arrow(shape, names, rows), _NUMBER)
        by = [compared(_cast(names.index(name), shape.by_name[name]), shape, name) for name in key]
        some = ""
        if any(shape.by_name[name].nullable for name in key):
            # By themselves: ON CONFLICT would drop all but one of those that are alike.
            _scan(connection, shape, names, chunk, f"WHERE {any_missing(by)}")
            some = f"WHERE NOT ({any_missing(by)}) "
        last = f"{some}QUALIFY row_number() OVER (PARTITION BY {', '.join(by)} ORDER BY {_NUMBER} DESC) = 1"
        _scan(connection, shape, names, chunk, f"{last} {on_conflict(names, key)}")

    def is_transient(self, error: BaseException) -> bool:
        """A conflict of two transactions, a file or server that is not to be had, no memory, a database that broke."""
        return type(getattr(error, "orig", error)).__name__ in _PASSING

    def explain(self, error: BaseException) -> str:
        """Its class: the message quotes values."""
        return type(getattr(error, "orig", error)).__name__


def _declared(name: str) -> Any:
    from sqlalchemy.types import UserDefinedType

    body = {"cache_ok": True, "get_col_spec": lambda _self, **_options: name}
    return type("Declared", (UserDefinedType,), body)()


def _listed_columns(connection: Connection, table: str, schema: str | None) -> list[Any]:
    """Name, type, whether it takes NULL, and default of a table's columns; nothing where there is no such table."""
    query = (
        "SELECT column_name, data_type, is_nullable, column_default "  # noqa: S608  # no value in it
        f"FROM duckdb_columns() {_THERE} ORDER BY column_index"
    )
    return list(connection.exec_driver_sql(query, (table, schema)).fetchall())


def _generated(connection: Connection, table: str, schema: str | None) -> set[str]:
    """Columns that DuckDB works out; it gives what they are worked out by as their default."""
    found = connection.exec_driver_sql(
        "SELECT column_name FROM information_schema.columns WHERE table_catalog = current_database() "
        "AND lower(table_name) = lower(?) AND table_schema = coalesce(?, current_schema()) AND is_generated = 'ALWAYS'",
        (table, schema),
    )
    return {name for (name,) in found.fetchall()}


def _column(row: Any, *, computed: bool, collated: bool) -> TableColumn:
    name, declared, nullable, default = row
    decimal = _DECIMAL.fullmatch(declared)
    unsigned = declared.startswith("U") and declared[1:] in _BITS
    bits = _BITS.get(declared[1:] if unsigned else declared)
    kind = Kind.DECIMAL if decimal else Kind.INT if bits else _KINDS.get(declared, Kind.OTHER)
    return TableColumn(
        name=name,
        kind=kind,
        sql_type=declared,
        nullable=bool(nullable),
        has_default=default is not None,
        bits=bits or 64,
        unsigned=unsigned,
        precision=int(decimal.group(1)) if decimal else None,
        scale=int(decimal.group(2)) if decimal else None,
        computed=computed,
        default=default,
        case_insensitive=collated and kind is Kind.TEXT,
    )


def _cast(at: int, column: TableColumn) -> str:
    """A column of the chunk as a value of the table's."""
    return f"CAST(c{at} AS {column.sql_type})"


def _scan(connection: Connection, shape: TableShape, names: Sequence[str], chunk: Any, tail: str) -> None:
    wrapped = _wrapped(connection)
    picked = ", ".join(_cast(at, shape.by_name[name]) for at, name in enumerate(names))
    wrapped.scan(f"INSERT INTO {place_of(shape)} ({column_list(names)}) SELECT {picked} FROM {CHUNK} {tail}", chunk)  # noqa: S608


def _arrow(shape: TableShape, names: Sequence[str], rows: Rows) -> Any:
    """The chunk as an Arrow table with columns c0, c1, ..."""
    import pyarrow as pa

    if isinstance(rows, ArrowRows) and not rows.seen:
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
        kind: Any = fixed.get(column.kind)
        if column.kind is Kind.INT:
            kind = pa.uint64() if column.unsigned else pa.int64()
        elif column.kind is Kind.DECIMAL:
            kind = pa.decimal128(column.precision, column.scale)
        try:
            arrays.append(pa.array([row[at] for row in rows], kind))
        except pa.ArrowException:  # whose text may be the value
            raise SchemaMismatch(
                f"table {shape.display_name!r}, column {name!r} ({column.type_name()}) cannot take all values of the rows: "
                f"convert {name!r} in a stage"
            ) from None
    return pa.table(arrays, names=[f"c{at}" for at in range(len(names))])


def _wrapped(connection: Connection) -> Any:
    return connection.connection.driver_connection
