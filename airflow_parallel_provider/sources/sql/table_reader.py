"""The statements behind ``SqlSource``: looking at the key, walking it once, reading a range."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_parallel_provider.errors import PlanError, SinkError, SourceError
from airflow_parallel_provider.sources.sql.key_conditions import KeyValues, above, up_to
from airflow_parallel_provider.sources.sql.mysql_types import DIALECTS as MYSQL_DIALECTS
from airflow_parallel_provider.sources.sql.mysql_types import with_exact_types
from airflow_parallel_provider.sources.sql.row_dicts import fetch_dicts
from airflow_parallel_provider.sources.sql.sqlite_times import as_stored, with_instants
from airflow_parallel_provider.sources.sql.where_clause import WhereClause
from airflow_parallel_provider.sql.backends.catalog import Catalog
from airflow_parallel_provider.sql.backends.core_tables import core_table_of
from airflow_parallel_provider.sql.database import Database, resolved_hook
from airflow_parallel_provider.values import typed_json
from airflow_parallel_provider.values.kinds import Kind

if TYPE_CHECKING:
    from airflow_parallel_provider.sources.sql.table_query import TableQuery
    from airflow_parallel_provider.values.table_shape import TableShape

LOCK_TIMEOUT, STATEMENT_TIMEOUT = 60.0, 3600.0
"""Seconds; a count of a large table takes its time."""

TRIES, PAUSE = 3, 0.5
"""How often a range is read when the connection breaks, and seconds before the second time."""

_LONGEST_KEY = 4000
_ROUNDED: Mapping[str, tuple[str, ...]] = {
    "postgresql": ("REAL",),
    "mysql": ("FLOAT",),
    "mariadb": ("FLOAT",),
}
"""Types of floats that have four bytes, by dialect."""


@dataclass(frozen=True, slots=True)
class Ranges:
    """Consecutive ranges of a key: above one bound, up to and with the next."""

    bounds: tuple[KeyValues, ...]
    """The highest key of each range."""
    range_size: int
    """Rows of each range but the last."""
    rows: int
    """Rows of all ranges."""

    def __len__(self) -> int:
        return len(self.bounds)

    def range(self, number: int) -> tuple[KeyValues | None, KeyValues]:
        """Bounds of a range; None below the first one."""
        return (self.bounds[number - 1] if number else None), self.bounds[number]

    def size(self, number: int) -> int:
        """How many rows a range had."""
        last = number == len(self.bounds) - 1
        return self.rows - number * self.range_size if last else self.range_size

    def as_json(self) -> dict[str, Any]:
        """What JSON can hold."""
        # Of a single column without the tuple: that is how it always was.
        bounds = [json.loads(_exact(bound[0] if len(bound) == 1 else bound)) for bound in self.bounds]
        return {"bounds": bounds, "range_size": self.range_size, "rows": self.rows}

    @classmethod
    def of_json(cls, state: Mapping[str, Any]) -> Ranges:
        """The other way."""
        found = (typed_json.loads(json.dumps(bound)) for bound in state["bounds"])
        bounds = tuple(bound if isinstance(bound, tuple) else (bound,) for bound in found)
        return cls(bounds, int(state["range_size"]), int(state["rows"]))


def _exact(bound: Any) -> str:
    text, exact = typed_json.dumps(bound, _LONGEST_KEY)
    if not exact:
        kind = type(bound).__name__
        raise PlanError("SqlSource.key", kind, "values of this type cannot be written down; take another unique column")
    return text


class TableReader:
    """Reads one table over connections that :meth:`opened` makes, one for each thread.

    The only place that talks to Airflow is the construction.
    """

    def __init__(self, query: TableQuery) -> None:
        self._query = query
        self._hook = resolved_hook(query.conn_id, field="SqlSource.conn_id")
        self._where = WhereClause(query)
        self._table: Any = None
        self._names: list[str] = []
        self._key: list[Any] = []
        self._is_number = False
        self._dialect = ""
        self._open: set[Database] = set()
        self._interrupted = threading.Event()

    def interrupt(self) -> None:
        """Break off what all connections are doing. From another thread."""
        self._interrupted.set()
        for database in tuple(self._open):
            database.interrupt()

    @contextmanager
    def opened(self) -> Iterator[Database]:
        """A connection of its own, closed at the end.

        :raises SourceError: for any error of the database.
        """
        limits = {"lock_timeout": LOCK_TIMEOUT, "statement_timeout": STATEMENT_TIMEOUT}
        database = Database(self._hook, self._query.conn_id, **limits)
        self._open.add(database)
        try:
            yield database
        except SinkError as error:  # what the room next door calls an error of the database
            raise SourceError(f"{self._query.identity}: {error}") from None
        finally:
            self._open.discard(database)
            database.close()

    def check_key(self, database: Database) -> None:
        """Look the table up and refuse a key that would lose rows or read them twice.

        :raises PlanError: naming what is wrong.
        """
        import sqlalchemy as sa

        query = self._query
        with database.session() as connection:
            # The general way, whatever the writer: it gives types that SQLAlchemy reads values with.
            try:
                shape = Catalog.reflect(database.backend.catalog, connection, query.table, query.schema)
            except NotImplementedError:  # SQLAlchemy cannot look into it
                cure = "tables of this database (DuckDB) cannot be read in ranges; yield its rows from a function"
                raise PlanError("SqlSource.conn_id", query.conn_id, cure) from None
            if shape is None:
                raise PlanError("SqlSource.table", query.table, f"connection {query.conn_id!r} has no such table")
            missing = [name for name in (*query.key_columns, *(query.columns or ())) if name not in shape.by_name]
            if missing:
                field = "key" if missing[0] in query.key_columns else "columns"
                raise PlanError(f"SqlSource.{field}", missing[0], f"table {query.table!r} has no such column")
            shape = with_exact_types(with_instants(shape, connection, database.backend), connection.dialect.name)
            _require_unique(shape, query)
            self._where.check()
            self._dialect = connection.dialect.name
            _require_values(connection, shape, query)
            self._where.resolve_types(connection, sa.select(sa.literal(1)).select_from(core_table_of(shape, [])[0]))
        self._names = list(query.columns or shape.by_name)
        self._table, columns = core_table_of(shape, self._names)
        key = (self._table.c[columns[self._names.index(name)]] for name in query.key_columns)
        self._key = [as_stored(column, self._dialect) for column in key]
        self._is_number = [shape.by_name[name].kind for name in query.key_columns] == [Kind.INT]

    def walk(self, database: Database) -> Ranges:
        """The bounds of all ranges, and the number of rows up to the last. Goes through the key's index once."""
        import sqlalchemy as sa

        size = self._query.range_size
        bounds: list[KeyValues] = []
        with database.session() as connection:
            highest = self._chosen(sa.select(*self._key)).order_by(*(column.desc() for column in self._key)).limit(1)
            found = connection.execute(highest).fetchone()
            if found is None:
                return Ranges((), size, 0)
            upper = tuple(found)
            low: KeyValues | None = None
            while (end := self._end_of(connection, low, upper)) is not None and end != upper:
                bounds.append(end)
                low = end
            last = connection.execute(self._within(sa.select(sa.func.count()), low, upper)).scalar() or 0
        if bounds and not last:  # the last rows have gone in the meantime
            return Ranges(tuple(bounds), size, len(bounds) * size)
        return Ranges((*bounds, upper), size, len(bounds) * size + int(last))

    def _end_of(self, connection: Any, low: KeyValues | None, upper: KeyValues) -> KeyValues | None:
        """The highest key of the range that begins above ``low``; None when no row is left there."""
        import sqlalchemy as sa

        labelled = [column.label(f"k{at}") for at, column in enumerate(self._key)]
        keys = self._within(sa.select(*labelled), low, upper).order_by(*self._key).limit(self._query.range_size)
        some = keys.subquery()
        if self._is_number:  # without a sorter; not every database has a maximum of every type
            highest = connection.execute(sa.select(sa.func.max(some.c[0]))).scalar()
            return None if highest is None else (highest,)
        last = sa.select(*some.c).order_by(*(column.desc() for column in some.c)).limit(1)
        found = connection.execute(last).fetchone()
        return None if found is None else tuple(found)

    def read(self, database: Database, low: KeyValues | None, high: KeyValues) -> list[dict[str, Any]]:
        """The rows of one range, in the order of the key; read again when the connection breaks.

        :raises SinkError: when it kept breaking, the database refused, or somebody has broken it off.
        """
        import sqlalchemy as sa

        statement = self._within(sa.select(*self._table.c), low, high).order_by(*self._key)
        for attempt in range(1, TRIES + 1):
            try:
                with database.session() as connection:
                    if self._interrupted.is_set():  # before there was a statement, and nobody does it again
                        raise SinkError("the range was not read: the run was asked to stop")
                    return fetch_dicts(connection, statement, self._names)
            except SinkError:
                if attempt == TRIES or self._interrupted.wait(PAUSE * 2 ** (attempt - 1)):
                    raise
        raise AssertionError("the last try returns or raises")

    def _within(self, statement: Any, low: KeyValues | None, high: KeyValues) -> Any:
        statement = self._chosen(statement).where(up_to(self._key, high, self._dialect))
        return statement if low is None else statement.where(above(self._key, low, self._dialect))

    def _chosen(self, statement: Any) -> Any:
        return self._where.added_to(statement.select_from(self._table))


def _require_unique(shape: TableShape, query: TableQuery) -> None:
    """The key's columns, or some of them, must be a key of the table.

    :raises PlanError: naming those that are.
    """
    wanted = frozenset(query.key_columns)
    if any(unique <= wanted for unique in shape.unique_keys):
        return
    there = [", ".join(sorted(unique)) for unique in shape.unique_keys]
    named = f"; unique here: {' and '.join(map(repr, there))}" if there else ""
    alone = "this column alone" if len(wanted) == 1 else "these columns alone"
    cure = f"no primary key or unique index is made of {alone}, so a range could cut equal keys apart{named}"
    raise PlanError("SqlSource.key", query.key, cure)


def _require_values(connection: Any, shape: TableShape, query: TableQuery) -> None:
    """Each column of the key must have a value in each row, and one that can be compared with itself.

    :raises PlanError: naming the column.
    """
    for name in query.key_columns:
        column = shape.by_name[name]
        if column.nullable and not _is_never_null(connection, query, name):
            cure = "the column may be NULL, and no range holds a NULL: declare it NOT NULL, or take another one"
            raise PlanError("SqlSource.key", name, cure)
        spelled = str(getattr(column.sql_type, "__visit_name__", "")).upper()
        if spelled in _ROUNDED.get(connection.dialect.name, ()):
            cure = "a float of four bytes is read as another number than it is compared as; take another column"
            raise PlanError("SqlSource.key", name, cure)
        if spelled in ("ENUM", "SET") and connection.dialect.name in MYSQL_DIALECTS:
            cure = f"{spelled} is put in order by number and compared as a text here; take another column"
            raise PlanError("SqlSource.key", name, cure)


def _is_never_null(connection: Any, query: TableQuery, name: str) -> bool:
    """SQLite says of its row id, too, that it may be NULL; a primary key of another type there really may be."""
    import sqlalchemy as sa

    if connection.dialect.name != "sqlite":
        return False
    inspector = sa.inspect(connection)
    primary = inspector.get_pk_constraint(query.table, schema=query.schema)["constrained_columns"]
    columns = inspector.get_columns(query.table, schema=query.schema)
    types = {column["name"]: column["type"] for column in columns}
    return bool(primary == [name] and isinstance(types[name], sa.INTEGER))
