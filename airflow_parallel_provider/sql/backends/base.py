"""What a backend must be able to do, and how any SQLAlchemy dialect does it.

::

    Writer               SQLAlchemy Core executemany: right everywhere, fast nowhere
    ├── SqliteBackend     raw executemany inside BEGIN IMMEDIATE
    ├── PostgresBackend   COPY, binary where the column types allow it
    │   └── Psycopg2Backend  COPY as text, for psycopg 2
    ├── MysqlBackend      the driver's multi-row INSERT
    └── DuckBackend       INSERT ... SELECT from an Arrow table

A writer never begins a transaction that it was not told to begin and never commits: the claim, the rows and the dead
letters of a chunk share one transaction, which belongs to :mod:`airflow_parallel_provider.sinks.commit.committer`.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from airflow_parallel_provider.errors import SinkError
from airflow_parallel_provider.sql.backends import reflection
from airflow_parallel_provider.sql.backends.timeouts import is_transient, set_limits
from airflow_parallel_provider.sql.backends.types import column_of_sql, generic_type
from airflow_parallel_provider.values.kinds import Kind
from airflow_parallel_provider.values.table_shape import TableShape

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from sqlalchemy.engine import Connection

    from airflow_parallel_provider.values.convert import Converter
    from airflow_parallel_provider.values.kinds import Column

Rows = Iterable[tuple[Any, ...]]
"""What a writer is given; it can be gone through once."""

_NO_IF_EXISTS = frozenset({"oracle"})
"""Dialects of databases that only learned ``DROP TABLE IF EXISTS`` lately."""


class Backend:
    """The backend that works with every SQLAlchemy dialect, and the base of those that know their database.

    :param lock_timeout: seconds to wait for a lock that another transaction holds.
    :param statement_timeout: seconds one statement may take.
    """

    merges = False
    """Whether :meth:`merge` works."""
    folds_case = False
    """Whether column names that differ only in case are the same column."""
    savepoints = True
    """Whether part of a transaction can be taken back."""
    transactional_ddl = False
    """Whether CREATE, ALTER, DROP and RENAME are part of the transaction."""
    overriding = ""
    """What an INSERT needs to fill columns that the database numbers itself."""
    takes_nul = True
    """Whether a text may hold a NUL character."""
    longest_name: int | None = None
    """Bytes of the longest identifier that is kept whole."""
    refused_in_names: re.Pattern[str] | None = None
    """What no name may hold."""
    adapters: Mapping[Kind, Converter] = {}
    """What happens to a value of a kind before the driver sees it."""
    arrow_kinds: frozenset[Kind] = frozenset()
    """Kinds of columns that :meth:`insert` fills from an Arrow table as it is (``ArrowRows``)."""
    rows_ahead: int | None = None
    """How many rows are made fit at a time, while the server works on those before; None: all, before the first one."""

    def __init__(self, lock_timeout: float, statement_timeout: float) -> None:
        self.dialect = ""
        """Name of the SQLAlchemy dialect; set by who makes the writer."""
        self.lock_timeout = lock_timeout
        self.statement_timeout = statement_timeout
        self.stopped = threading.Event()
        """Set when somebody asked to break off."""

    def wrapped(self, raw: Any) -> Any:
        """The driver's connection as SQLAlchemy can use it."""
        return raw

    def configure(self, raw: Any) -> None:
        """Set up a new driver connection: time limits, no autocommit, plain tuples as results."""
        # Snowflake's driver, among others, commits every statement unless told otherwise.
        switch = getattr(raw, "autocommit", None)
        if callable(switch):
            switch(False)  # the DB-API's way
        elif isinstance(switch, bool):
            raw.autocommit = False
        set_limits(raw, self.dialect, self.lock_timeout, self.statement_timeout)

    def interrupt(self, raw: Any, connect: Callable[[], Any]) -> None:  # noqa: ARG002  # some need a second one
        """Break off what a driver connection is doing, from another thread.

        :param connect: opens another connection to the same database.
        """
        self.stopped.set()
        cancel = getattr(raw, "cancel", None)
        if callable(cancel):
            cancel()

    def begin(self, connection: Connection) -> None:
        """Start a transaction that is going to write."""
        if connection.in_transaction():
            connection.rollback()  # what a failed statement, or a lost connection, has left open
        connection.begin()

    def commit(self, connection: Connection) -> None:
        """End a transaction that :meth:`begin` started."""
        connection.commit()

    def reflect(self, connection: Connection, table: str, schema: str | None) -> TableShape | None:
        """Look the table up; None when it is not there."""
        import sqlalchemy as sa

        inspector = sa.inspect(connection)
        name = sa.sql.quoted_name(table, quote=True)
        place = None if schema is None else sa.sql.quoted_name(schema, quote=True)
        if not inspector.has_table(name, schema=place):
            return None
        try:
            return self._reflected(inspector, table, schema)
        except sa.exc.NoSuchTableError:
            return None  # dropped in between

    def column_names(self, connection: Connection, table: str, schema: str | None) -> frozenset[str] | None:
        """What the columns of a table are called; None when it is not there. Asks much less than :meth:`reflect`."""
        import sqlalchemy as sa

        name = sa.sql.quoted_name(table, quote=True)
        place = None if schema is None else sa.sql.quoted_name(schema, quote=True)
        return reflection.column_names(sa.inspect(connection), name, place)

    def _reflected(self, inspector: Any, table: str, schema: str | None) -> TableShape:
        import sqlalchemy as sa

        name = sa.sql.quoted_name(table, quote=True)
        place = None if schema is None else sa.sql.quoted_name(schema, quote=True)
        columns = tuple(column_of_sql(found) for found in inspector.get_columns(name, schema=place))
        primary, uniques = self.unique_keys(inspector, name, place)
        keys = {frozenset(names) for names in [primary, *uniques] if names and None not in names}
        return TableShape(table, schema, columns, tuple(sorted(keys, key=sorted)), tuple(primary))

    def unique_keys(self, inspector: Any, name: str, place: str | None) -> tuple[Sequence[str], list[Any]]:
        """Columns of a table's primary key, and of each other unique index; None stands for an expression."""
        return reflection.unique_keys(inspector, name, place)

    def check_disposition(self, disposition: str) -> None:
        """Refuse a way of writing this backend does not know.

        :raises SinkError: naming it and the cure.
        """
        if disposition == "merge" and not self.merges:
            raise SinkError(
                f"SinkTable.write_disposition={disposition!r}: not known for this database; write 'append', "
                "or use a connection to PostgreSQL, MySQL, MariaDB or SQLite"
            )

    def check_transactional(self, connection: Connection, table: str, schema: str | None) -> None:
        """Refuse a table that does not take part in transactions.

        :raises UnsafeTable: naming the table and the cure.
        """

    def sql_type(self, column: Column, *, in_key: bool) -> Any:
        """SQLAlchemy type for a column of a new table."""
        return generic_type(column, in_key=in_key)

    def table_options(self) -> dict[str, Any]:
        """Keyword arguments for a new ``sqlalchemy.Table``."""
        return {}

    def before_part(self, connection: Connection) -> None:
        """Called before each of several writes in one transaction."""

    def claim(
        self,
        connection: Connection,
        insert: Any,
        row: dict[str, Any],
        shape: TableShape | None,  # noqa: ARG002  # some ask about the table on the same way
        names: Sequence[str],  # noqa: ARG002
    ) -> None:
        """Run the ledger's INSERT, which is the first statement of a transaction.

        :param shape: the table that rows will go into; None: there will be no rows.
        """
        connection.execute(insert, [row])

    def insert(self, connection: Connection, shape: TableShape, names: Sequence[str], rows: Rows) -> None:
        """Append rows that :func:`~airflow_parallel_provider.rows.fit.fit_block` has made fit."""
        table, keys = core_table(shape, names)
        connection.execute(table.insert(), [dict(zip(keys, row, strict=True)) for row in rows])

    def merge(
        self, connection: Connection, shape: TableShape, names: Sequence[str], rows: Rows, key: Sequence[str]
    ) -> None:
        """Insert rows, or update those whose key is there; of equal keys in one chunk the last row wins."""
        raise NotImplementedError  # check_disposition comes first

    def create_like(self, connection: Connection, name: str, shape: TableShape) -> None:
        """Make a table with the columns, their defaults and the primary key of another, in the same schema.

        A column that the database numbers may stay empty, and its key is left out: the table itself will number it.
        """
        import sqlalchemy as sa

        key = () if any(shape.by_name[name].identity for name in shape.primary_key) else shape.primary_key
        columns = [
            sa.Column(
                sa.sql.quoted_name(column.name, quote=True),
                column.sql_type,
                primary_key=column.name in key,
                nullable=column.nullable or column.identity,
                autoincrement=False,
                # As it stands: in sa.text() a colon would begin a parameter.
                server_default=None if column.default is None else sa.literal_column(column.default),
            )
            for column in shape.columns
            if not column.computed
        ]
        core_of(name, shape.schema, *columns, **self.table_options()).create(connection, checkfirst=False)

    def add_column(self, connection: Connection, shape: TableShape, name: str, sql_type: Any) -> None:
        """Add a nullable column to a table."""
        import sqlalchemy as sa

        made = sa.Column(sa.sql.quoted_name(name, quote=True), sql_type, nullable=True)
        core_of(shape.name, shape.schema, made)  # a column of no table has no DDL
        spelled = sa.schema.CreateColumn(made).compile(dialect=connection.dialect)
        place = self.place(connection, shape.name, shape.schema)
        word = "" if connection.dialect.name in ("oracle", "mssql") else "COLUMN "
        connection.exec_driver_sql(f"ALTER TABLE {place} ADD {word}{spelled}")

    def renames(self, connection: Connection, staging: TableShape, old: TableShape | None) -> bool:  # noqa: ARG002
        """Whether a staging table takes the place of a table by being renamed; else its rows are copied.

        :param old: the table it replaces, if there is one.
        """
        return False

    def rename_into(self, connection: Connection, staging: str, table: str, schema: str | None, *, there: bool) -> None:
        """Give a staging table the name of a table, in the transaction that is open.

        :param there: a table of that name is still there, and is left as ``aside(staging)``: only where DDL commits.
        """
        assert not there, "dropped in the same transaction"
        source, name = self.place(connection, staging, schema), self.place(connection, table, None)
        connection.exec_driver_sql(f"ALTER TABLE {source} RENAME TO {name}")

    def empty(self, connection: Connection, table: TableShape) -> None:
        """Delete all rows of a table, in the transaction that is open."""
        connection.exec_driver_sql(f"DELETE FROM {self.place(connection, table.name, table.schema)}")  # noqa: S608  # quoted

    def copy_into(self, connection: Connection, staging: TableShape, table: TableShape) -> None:
        """Insert the rows of a staging table into the table it was made like, in the transaction that is open."""
        preparer = connection.dialect.identifier_preparer
        target, source = (self.place(connection, shape.name, shape.schema) for shape in (table, staging))
        names = [column.name for column in staging.columns if column.name in table.by_name and not column.computed]
        for name in names[:]:
            if table.by_name[name].identity and not staging.by_name[name].identity:
                given = f"SELECT COUNT({preparer.quote_identifier(name)}) FROM {source}"  # noqa: S608  # quoted
                if not connection.exec_driver_sql(given).scalar():
                    names.remove(name)
        listed = ", ".join(preparer.quote_identifier(name) for name in names)
        insert = f"INSERT INTO {target} ({listed}) {self.overriding}SELECT {listed} FROM {source}"  # noqa: S608  # quoted
        connection.exec_driver_sql(insert)

    def drop(self, connection: Connection, name: str, schema: str | None) -> None:
        """Drop a table, if it is there; another attempt may be dropping it at the same time."""
        if self.reflect(connection, name, schema) is not None:
            guard = "" if self.dialect in _NO_IF_EXISTS else "IF EXISTS "
            connection.exec_driver_sql(f"DROP TABLE {guard}{self.place(connection, name, schema)}")

    def place(self, connection: Connection, name: str, schema: str | None) -> str:
        """A table as SQL."""
        preparer = connection.dialect.identifier_preparer
        return ".".join(preparer.quote_identifier(part) for part in (schema, name) if part is not None)

    def is_transient(self, error: BaseException) -> bool:
        """Whether the same chunk may go in on another try."""
        import sqlalchemy as sa

        passing = isinstance(error, (sa.exc.OperationalError, sa.exc.InterfaceError))
        return passing or is_transient(getattr(error, "orig", error), self.dialect)

    def explain(self, error: BaseException) -> str:
        """The error as text, without any value of a row in it."""
        return type(getattr(error, "orig", error)).__name__


def temporary_name(staging: str) -> str:
    """Where a replaced table goes until it is dropped, on a database that cannot drop it in the same breath."""
    return f"{staging}_old"


def core_of(name: str, schema: str | None, *columns: Any, **options: Any) -> Any:
    """A SQLAlchemy table whose names are quoted as they stand."""
    import sqlalchemy as sa

    place = None if schema is None else sa.sql.quoted_name(schema, quote=True)
    return sa.Table(sa.sql.quoted_name(name, quote=True), sa.MetaData(), *columns, schema=place, **options)


def core_table(shape: TableShape, names: Sequence[str]) -> tuple[Any, list[str]]:
    """A SQLAlchemy table of some columns, and the keys its bind parameters go by.

    The keys are made up: a bind parameter named after a column called ``a:b`` or ``%(x)s`` would not survive.
    """
    import sqlalchemy as sa

    keys = [f"c{number}" for number in range(len(names))]
    columns = [
        sa.Column(sa.sql.quoted_name(name, quote=True), shape.by_name[name].sql_type, key=key)
        for name, key in zip(names, keys, strict=True)
    ]
    return core_of(shape.name, shape.schema, *columns), keys
