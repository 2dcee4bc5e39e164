# SPDX-License-Identifier: Apache-2.0
"""The statements of ``SqlSource``: check the key, walk it once, read a range."""

from __future__ import annotations

import logging
import threading
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from airflow_parallel_provider.errors import PlanError, SinkError, SourceError
from airflow_parallel_provider.sources.sql.key_conditions import (
    KeyValues,
    above,
    in_full_order,
    is_unique,
    is_view,
    readable_key,
    require_comparable,
    require_unique,
    up_to,
)
from airflow_parallel_provider.sources.sql.lenient_driver import make_lenient, prepare, reason_in
from airflow_parallel_provider.sources.sql.line_reading import line_fetcher
from airflow_parallel_provider.sources.sql.queries.relation import found_relation
from airflow_parallel_provider.sources.sql.queries.result_types import as_compared
from airflow_parallel_provider.sources.sql.ranges import Ranges
from airflow_parallel_provider.sources.sql.row_dicts import fetch_dicts, stream_dicts
from airflow_parallel_provider.sources.sql.since import Window, above_bound, lower_bound, within
from airflow_parallel_provider.sources.sql.spool import Spool
from airflow_parallel_provider.sources.sql.types.sqlite_types import as_stored
from airflow_parallel_provider.sources.sql.where_clause import WhereClause
from airflow_parallel_provider.sql.backends.core_tables import core_table_of
from airflow_parallel_provider.sql.backends.session import driver_connection
from airflow_parallel_provider.sql.database import Database, resolved_hook
from airflow_parallel_provider.values.kinds import Kind
from airflow_parallel_provider.values.unreadable import UnreadableValue

if TYPE_CHECKING:
    from airflow_parallel_provider.sources.sql.table_query import TableQuery
    from airflow_parallel_provider.values.table_shape import TableShape

log = logging.getLogger(__name__)

LOCK_TIMEOUT, STATEMENT_TIMEOUT = 60.0, 3600.0  # seconds; counting the rows of a large table takes long

TRIES, PAUSE = 3, 0.5  # how often a range is read when the connection breaks, and seconds before the second attempt


class TableReader:
    """Reads one table over the connections of :meth:`opened`, one for each thread.

    Only the constructor talks to Airflow.
    """

    def __init__(self, query: TableQuery) -> None:
        self._query = query
        self._where = WhereClause(query)
        self._hook = resolved_hook(query.conn_id, field="SqlSource.conn_id")
        self._table: Any = None
        self._names: list[str] = []
        self._key: list[Any] = []
        self._is_number = False
        self._cursor: Any = None
        self._cursor_is_unique = False
        self.window: Window | None = None
        """Which values of the cursor are read; None: all rows are."""
        self.fetch = fetch_dicts
        self._dialect = ""
        self._open: set[Database] = set()
        self._interrupted = threading.Event()

    def interrupt(self) -> None:
        """Cancel the statements of all connections. From another thread."""
        self._interrupted.set()
        for database in tuple(self._open):
            database.interrupt()

    @contextmanager
    def opened(self) -> Iterator[Database]:
        """A new connection, closed at the end.

        :raises SourceError: for any error of the database.
        """
        limits = {"lock_timeout": LOCK_TIMEOUT, "statement_timeout": STATEMENT_TIMEOUT}
        database = Database(self._hook, self._query.conn_id, **limits)
        self._open.add(database)
        try:
            yield database
        except UnreadableValue as error:
            cure = "correct it in the table, or leave the row out with where="
            raise SourceError(
                f"{self._query.identity}: a row's key ({self._query.key_text}) is {error}: {cure}"
            ) from None
        except SinkError as error:  # the sql room raises this for every error of a database
            raise SourceError(f"{self._query.identity}: {error}") from None
        finally:
            self._open.discard(database)
            database.close()

    def check_key(self, database: Database) -> None:
        """Reflect the table and reject a key that would lose rows or read them twice.

        :raises PlanError: naming the column and what is wrong with it.
        """
        import sqlalchemy as sa

        with database.session() as connection:
            relation = found_relation(self._query, self._where, connection, database.backend)
            relation.require()
            self._query = query = relation.query
            shape, reflected, since = relation.shape, relation.reflected, query.since is not None
            self._where.check()
            self._dialect = connection.dialect.name
            self._names = list(query.columns or shape.by_name)
            self._table, columns = relation.columns(self._names)
            key = (self._table.c[columns[self._names.index(name)]] for name in query.key_columns)
            self._key = [as_compared(as_stored(column, self._dialect)) for column in key]
            if since:
                self._check_cursor(connection, shape, reflected)
            self._is_number = [shape.by_name[name].kind for name in query.key_columns] == [Kind.INT]
            require_comparable(reflected, "key", query.key_columns, connection.dialect.name)
            may_count = query.query is not None or is_view(connection, query)
            counted = bool(query.key_columns) and not is_unique(shape, query) and may_count
            if query.key_columns and not counted:
                require_unique(shape, query)
            self._where.resolve_types(connection, sa.select(sa.literal(1)).select_from(self._table))
            self._require_values(connection, reflected)
            if counted:
                self._count_keys(connection)

    def _require_values(self, connection: Any, shape: TableShape) -> None:
        """Check that no column of the key is NULL in a row that is read: no range contains NULL."""
        import sqlalchemy as sa

        for name, column in zip(self._query.key_columns, self._key, strict=True):
            if not shape.by_name[name].nullable:
                continue
            nulls = self._selected(sa.select(sa.literal(1))).where(column.is_(None)).limit(1)
            if connection.execute(nulls).fetchone() is not None:
                cure = "the column may be NULL, and is in some rows, which no range would contain: use another column"
                raise PlanError("SqlSource.key", name, f"{cure}, or leave them out: where='{name} IS NOT NULL'")

    def _count_keys(self, connection: Any) -> None:
        """Check that no two rows of a view have one key. A view declares none.

        :raises PlanError: if some have.
        """
        import sqlalchemy as sa

        what = "view" if self._query.query is None else "query"
        log.info("%s: a %s has no unique key, so its keys are counted", self._query.identity, what)
        twice = self._selected(sa.select(sa.literal(1))).group_by(*self._key).having(sa.func.count() > 1).limit(1)
        if connection.execute(twice).fetchone() is not None:
            cure = f"rows of the {what} have the same key: add columns to the key until it is unique"
            raise PlanError("SqlSource.key", self._query.key, cure)

    def _check_cursor(self, connection: Any, shape: TableShape, reflected: TableShape) -> None:
        """Find the cursor's column, and reject one that would lose rows.

        :raises PlanError: naming the column.
        """
        import sqlalchemy as sa

        cursor = self._query.since
        assert cursor is not None
        require_comparable(reflected, "since", [cursor.column], self._dialect)
        table, (name,) = core_table_of(shape, [cursor.column])
        # The same column as one of the table that is read from: it need not be among those that are read.
        self._cursor = as_compared(as_stored(sa.column(table.c[name].name, table.c[name].type), self._dialect))
        self._cursor_is_unique = any(unique <= {cursor.column} for unique in shape.unique_keys)
        if cursor.nulls != "error" or not reflected.by_name[cursor.column].nullable:
            return
        nulls = self._selected(sa.select(sa.literal(1))).where(self._cursor.is_(None)).limit(1)
        if connection.execute(nulls).fetchone() is not None:
            cure = "the column is NULL in some rows, of which nobody can say whether they are new: since_null='skip'"
            raise PlanError("SqlSource.since", cursor.column, f"{cure} leaves them out, 'load' reads them in each load")

    def next_window(self, database: Database, before: Window | None, *, merges: bool) -> Window:
        """The values of the cursor that are new: from where the last load has ended up to the highest one now.

        :param merges: whether rows may be read again: then several rows of one moment are.
        :raises PlanError: if the highest value cannot be read, or the lag cannot be taken off it.
        """
        import sqlalchemy as sa

        cursor = self._query.since
        assert cursor is not None
        low, inclusive = lower_bound(before, cursor), merges and not self._cursor_is_unique
        unread = self._cursor.is_not(None) if low is None else above_bound(self._cursor, low, inclusive=inclusive)
        with database.session() as connection:
            prepare(driver_connection(connection))
            make_lenient(driver_connection(connection))
            found = connection.execute(
                self._selected(sa.select(self._cursor)).where(unread).order_by(self._cursor.desc()).limit(1)
            ).fetchone()
        high = None if before is None else before.high
        if found is not None:
            reason = reason_in(found[0])
            if reason is not None:
                cure = f"the highest value of the column is {reason}: leave such rows out with where="
                raise PlanError("SqlSource.since", cursor.column, cure)
            high = found[0] if high is None or not cursor.lag else max(high, found[0])
        return Window(low, high, inclusive, is_first=before is None)

    def send_lines(self, offer: Any) -> None:
        """Read lines of COPY in place of dicts, if the columns have the types that are offered."""
        with self.opened() as database:
            self.fetch = line_fetcher(database, self._query, self._names, offer) or self.fetch

    def walk(self, database: Database, size: int) -> Ranges:
        """The bounds of all ranges, and the number of rows up to the last. Reads the key's index once.

        :param size: rows per range.
        """
        import sqlalchemy as sa

        bounds: list[KeyValues] = []
        with database.session() as connection:
            prepare(driver_connection(connection))
            make_lenient(driver_connection(connection))  # of each range only one key is read
            highest = self._selected(sa.select(*self._key)).order_by(*(column.desc() for column in self._key)).limit(1)
            found = connection.execute(highest).fetchone()
            if found is None:
                return Ranges((), size, 0)
            upper = readable_key(found)
            low: KeyValues | None = None
            while (end := self._end_of(connection, low, upper, size)) is not None and end != upper:
                bounds.append(end)
                low = end
            last = connection.execute(self._within(sa.select(sa.func.count()), low, upper)).scalar() or 0
        if bounds and not last:  # the last rows have been deleted in the meantime
            return Ranges(tuple(bounds), size, len(bounds) * size)
        return Ranges((*bounds, upper), size, len(bounds) * size + int(last))

    def _end_of(self, connection: Any, low: KeyValues | None, upper: KeyValues, size: int) -> KeyValues | None:
        """The highest key of the range that begins above ``low``; None when it has no row."""
        import sqlalchemy as sa

        labeled = [column.label(f"k{at}") for at, column in enumerate(self._key)]
        select = self._within(sa.select(*labeled), low, upper).order_by(*self._key).limit(size)
        keys = select.subquery()
        if self._is_number:  # max() needs no sort, but not every database has it for every type
            highest = connection.execute(sa.select(sa.func.max(keys.c[0]))).scalar()
            return None if highest is None else (highest,)
        last = sa.select(*keys.c).order_by(*(column.desc() for column in keys.c)).limit(1)
        found = connection.execute(last).fetchone()
        return None if found is None else readable_key(found)

    def count(self, database: Database) -> Ranges:
        """All rows as one range, where there is no key."""
        import sqlalchemy as sa

        with database.session() as connection:
            rows = int(connection.execute(self._selected(sa.select(sa.func.count()))).scalar() or 0)
        return Ranges(((),), max(1, rows), rows)

    def stream(self, database: Database, size: int) -> Generator[list[dict[str, Any]], None, None]:
        """All rows in the order of all columns, some at a time."""
        import sqlalchemy as sa

        order = in_full_order([as_stored(column, self._dialect) for column in self._table.c], self._dialect)
        statement = self._selected(sa.select(*self._table.c)).order_by(*order)
        with database.session() as connection:
            parts = stream_dicts(connection, statement, self._names, size=size, key=self._query.key_text)
            if self._dialect != "sqlite":
                yield from parts
                return
            kept = Spool(parts)  # while a cursor is open, nobody can write to the file
        yield from kept

    def read(
        self, database: Database, low: KeyValues | None, high: KeyValues, *, first: int = 0
    ) -> list[dict[str, Any]]:
        """The rows of one range, in the order of the key. Reads them again when the connection breaks.

        :param first: position of the first of them in the whole table, for error texts.
        :raises SinkError: after the last attempt, or after :meth:`interrupt`.
        """
        import sqlalchemy as sa

        statement = self._within(sa.select(*self._table.c), low, high).order_by(*self._key)
        for attempt in range(1, TRIES + 1):
            try:
                with database.session() as connection:
                    if self._interrupted.is_set():  # interrupt() came before the statement and could not cancel it
                        raise SinkError("the range was not read: the run was asked to stop")
                    return self.fetch(connection, statement, self._names, first=first, key=self._query.key_text)
            except SinkError:
                if attempt == TRIES or self._interrupted.wait(PAUSE * 2 ** (attempt - 1)):
                    raise
        raise AssertionError("the last attempt returns or raises")

    def _within(self, statement: Any, low: KeyValues | None, high: KeyValues) -> Any:
        statement = self._selected(statement).where(up_to(self._key, high, self._dialect))
        return statement if low is None else statement.where(above(self._key, low, self._dialect))

    def _selected(self, statement: Any) -> Any:
        statement = self._where.added_to(statement.select_from(self._table))
        cursor, window = self._query.since, self.window
        return statement if cursor is None or window is None else statement.where(within(self._cursor, window, cursor))
