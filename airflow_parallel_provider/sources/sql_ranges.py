"""The statements behind ``SqlSource``: looking at the key, walking it once, reading a range."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_parallel_provider.errors import PlanError, SinkError, SourceError
from airflow_parallel_provider.sinks import typed_json
from airflow_parallel_provider.sinks.database import Database, bound_hook
from airflow_parallel_provider.sinks.writers.base import Writer, core_table

if TYPE_CHECKING:
    from airflow_parallel_provider.sinks.shape import TableShape
    from airflow_parallel_provider.sources.sql import SqlSource

LOCK_TIMEOUT, STATEMENT_TIMEOUT = 60.0, 3600.0
"""Seconds; a count of a large table takes its time."""

TRIES, PAUSE = 3, 0.5
"""How often a range is read when the connection breaks, and seconds before the second time."""

_LONGEST_KEY = 4000


@dataclass(frozen=True, slots=True)
class Ranges:
    """Consecutive ranges of a key: above one bound, up to and with the next."""

    bounds: tuple[Any, ...]
    """The highest key of each range."""
    range_size: int
    """Rows of each range but the last."""
    rows: int
    """Rows of all ranges."""

    def __len__(self) -> int:
        return len(self.bounds)

    def range(self, number: int) -> tuple[Any, Any]:
        """Bounds of a range; None below the first one."""
        return (self.bounds[number - 1] if number else None), self.bounds[number]

    def size(self, number: int) -> int:
        """How many rows a range had."""
        last = number == len(self.bounds) - 1
        return self.rows - number * self.range_size if last else self.range_size

    def as_json(self) -> dict[str, Any]:
        """What JSON can hold."""
        bounds = [json.loads(_exact(bound)) for bound in self.bounds]
        return {"bounds": bounds, "range_size": self.range_size, "rows": self.rows}

    @classmethod
    def of_json(cls, state: Mapping[str, Any]) -> Ranges:
        """The other way."""
        bounds = tuple(typed_json.loads(json.dumps(bound)) for bound in state["bounds"])
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

    def __init__(self, source: SqlSource) -> None:
        self._source = source
        self._hook = bound_hook(source.conn_id, field="SqlSource.conn_id")
        self._table: Any = None
        self._names: list[str] = []
        self._key: Any = None
        self._open: set[Database] = set()
        self._broken_off = threading.Event()

    def interrupt(self) -> None:
        """Break off what all connections are doing. From another thread."""
        self._broken_off.set()
        for database in tuple(self._open):
            database.interrupt()

    @contextmanager
    def opened(self) -> Iterator[Database]:
        """A connection of its own, closed at the end.

        :raises SourceError: for any error of the database.
        """
        limits = {"lock_timeout": LOCK_TIMEOUT, "statement_timeout": STATEMENT_TIMEOUT}
        database = Database(self._hook, self._source.conn_id, **limits)
        self._open.add(database)
        try:
            yield database
        except SinkError as error:  # what the room next door calls an error of the database
            raise SourceError(f"{self._source.identity()}: {error}") from None
        finally:
            self._open.discard(database)
            database.close()

    def check_key(self, database: Database) -> None:
        """Look the table up and refuse a key that would lose rows or read them twice.

        :raises PlanError: naming what is wrong.
        """
        source = self._source
        with database.guarded() as connection:
            # The general way, whatever the writer: it gives types that SQLAlchemy reads values with.
            shape = Writer.reflect(database.writer, connection, source.table, source.schema)
            if shape is None:
                raise PlanError("SqlSource.table", source.table, f"connection {source.conn_id!r} has no such table")
            missing = [name for name in (source.key, *(source.columns or ())) if name not in shape.by_name]
            if missing:
                field = "key" if missing[0] == source.key else "columns"
                raise PlanError(f"SqlSource.{field}", missing[0], f"table {source.table!r} has no such column")
            if frozenset({source.key}) not in shape.unique_keys:
                raise PlanError("SqlSource.key", source.key, _not_unique(shape))
            if shape.by_name[source.key].nullable and not _is_never_null(connection, source):
                cure = "the column may be NULL, and no range holds a NULL: declare it NOT NULL, or take another one"
                raise PlanError("SqlSource.key", source.key, cure)
        self._names = list(source.columns or shape.by_name)
        self._table, columns = core_table(shape, self._names)
        self._key = self._table.c[columns[self._names.index(source.key)]]

    def walk(self, database: Database) -> Ranges:
        """The bounds of all ranges, and the number of rows up to the last."""
        import sqlalchemy as sa

        size = self._source.range_size
        bounds: list[Any] = []
        with database.guarded() as connection:
            upper = connection.execute(self._chosen(sa.select(self._key)).order_by(self._key.desc()).limit(1)).scalar()
            if upper is None:
                return Ranges((), size, 0)
            rows = connection.execute(self._within(sa.select(sa.func.count()), None, upper)).scalar() or 0
            low = None
            for _ in range(-(-int(rows) // size) - 1):
                keys = self._within(sa.select(self._key.label("k")), low, upper).order_by(self._key).limit(size)
                some = keys.subquery()
                low = connection.execute(sa.select(some.c.k).order_by(some.c.k.desc()).limit(1)).scalar()
                if low is None or low == upper:
                    break  # rows have gone in the meantime
                bounds.append(low)
        return Ranges((*bounds, upper), size, int(rows))

    def read(self, database: Database, low: Any, high: Any) -> list[dict[str, Any]]:
        """The rows of one range, in the order of the key; read again when the connection breaks.

        :raises SinkError: when it kept breaking, or the database refused.
        """
        import sqlalchemy as sa

        statement = self._within(sa.select(*self._table.c), low, high).order_by(self._key)
        for attempt in range(1, TRIES + 1):
            try:
                with database.guarded() as connection:
                    found = connection.execute(statement).fetchall()
                return [dict(zip(self._names, row, strict=True)) for row in found]
            except SinkError:
                if attempt == TRIES or self._broken_off.wait(PAUSE * 2 ** (attempt - 1)):
                    raise
        raise AssertionError("the last try returns or raises")

    def _within(self, statement: Any, low: Any, high: Any) -> Any:
        statement = self._chosen(statement).where(self._key <= high)
        return statement if low is None else statement.where(self._key > low)

    def _chosen(self, statement: Any) -> Any:
        import sqlalchemy as sa

        statement = statement.select_from(self._table)
        source = self._source
        if source.where is None:
            return statement
        return statement.where(sa.text(f"({source.where})").bindparams(**(source.parameters or {})))


def _not_unique(shape: TableShape) -> str:
    single = sorted(name for key in shape.unique_keys if len(key) == 1 for name in key)
    named = f"; unique here: {', '.join(single)}" if single else ""
    return f"no primary key or unique index is made of this column alone, so a range could cut equal keys apart{named}"


def _is_never_null(connection: Any, source: SqlSource) -> bool:
    """SQLite says of its row id, too, that it may be NULL; a primary key of another type there really may be."""
    import sqlalchemy as sa

    if connection.dialect.name != "sqlite":
        return False
    inspector = sa.inspect(connection)
    primary = inspector.get_pk_constraint(source.table, schema=source.schema)["constrained_columns"]
    columns = inspector.get_columns(source.table, schema=source.schema)
    types = {column["name"]: column["type"] for column in columns}
    return bool(primary == [source.key] and isinstance(types[source.key], sa.INTEGER))
