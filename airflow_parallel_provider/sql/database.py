# SPDX-License-Identifier: Apache-2.0
"""One connection to the database behind an Airflow connection, opened by that connection's own hook.

Only :func:`resolved_hook` calls Airflow, on the main thread. :class:`Database` runs on the sink thread and never does:
its hook returns the resolved connection from every ``get_connection``.
"""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from airflow_parallel_provider.connections import get_connection, resolved_copy
from airflow_parallel_provider.errors import PlanError, SinkError
from airflow_parallel_provider.sql.backends.duckdb.file_lock import lock_holder
from airflow_parallel_provider.sql.backends.registry import backend_class
from airflow_parallel_provider.sql.disk_full import describe_error, is_transient
from airflow_parallel_provider.sql.errors import TransientSinkError, Unreachable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from sqlalchemy.engine import Connection, Engine

    from airflow_parallel_provider.sql.backends.base import Backend

DUCKDB = "paralleldb"
"""The provider's own dialect, under a name that no other package uses: see ``backends/duckdb/dialect.py``."""

_DIALECTS: Mapping[str, str] = {
    "sqlite3": "sqlite",
    "psycopg": "postgresql+psycopg",
    "psycopg2": "postgresql+psycopg2",
    "mysql": "mysql+mysqlconnector",
    "MySQLdb": "mysql+mysqldb",
    "pymysql": "mysql+pymysql",
    "duckdb": DUCKDB,
    "_duckdb": DUCKDB,
    "snowflake": "snowflake",
}
"""Top module of a driver's connection -> SQLAlchemy dialect. A hook's URL does not decide: the URL and the connection
of one hook can belong to different drivers."""

_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 2.0
"""Seconds between two tries to open a file that another process holds."""


def resolved_hook(conn_id: str, connection: Any = None, *, field: str = "SinkTable.conn_id") -> Any:
    """The database hook of an Airflow connection, which does not call Airflow again.

    :param connection: a resolved Airflow ``Connection``; None looks ``conn_id`` up.
    :param field: the argument that named it, for error texts.
    :raises PlanError: when there is no such connection, or it is not one of an SQL database.

    Known limitation: hooks that fetch a token for each new connection (AWS IAM, Azure) look up a second connection
    themselves, on the thread that connects.
    """
    if connection is None:
        connection = get_connection(conn_id, field)
    resolved = resolved_copy(connection)
    hook = _hook_of(connection, conn_id, field)
    if not callable(getattr(hook, "get_uri", None)) or not callable(getattr(hook, "get_sqlalchemy_engine", None)):
        raise PlanError(field, conn_id, f"its type {connection.conn_type!r} is not an SQL database: name one that is")
    # On the instance, so that nothing else in this process changes.
    hook.get_connection = lambda _conn_id=None: resolved
    hook._connection = resolved  # where DbApiHook caches it
    return hook


def _hook_of(connection: Any, conn_id: str, field: str) -> Any:
    from airflow.providers.common.compat.sdk import AirflowException

    try:
        return connection.get_hook()
    except (AirflowException, ImportError) as error:
        raise PlanError(
            field,
            conn_id,
            f"there is no hook for its type {connection.conn_type!r} ({error}): install the provider package of that "
            "database",
        ) from None


class Database:
    """A connection that is opened when needed and replaced when broken. Belongs to one thread.

    :param hook: what :func:`resolved_hook` returns.
    :param conn_id: for error texts.
    :param lock_timeout: seconds to wait for a lock that another transaction holds.
    :param statement_timeout: seconds that one statement may take.
    """

    def __init__(self, hook: Any, conn_id: str, *, lock_timeout: float, statement_timeout: float) -> None:
        self._hook = hook
        self._conn_id = conn_id
        self._limits = (lock_timeout, statement_timeout)
        self._engine: Engine | None = None
        self._connection: Connection | None = None
        self._backend: Backend | None = None
        self._raw: Any = None
        self._stopped = threading.Event()

    @property
    def backend(self) -> Backend:
        """The backend of the database; connects first if necessary."""
        if self._backend is None:
            self.connection()
        assert self._backend is not None
        return self._backend

    def connection(self) -> Connection:
        """The connection; opens one if there is none.

        :raises SinkError: when the database cannot be reached.
        """
        if self._connection is None:
            engine = self._engine or self._make_engine()
            try:
                self._connection = engine.connect()
            except Exception as error:  # noqa: BLE001  # drivers and hooks have no common base
                raise self._unreachable(error) from None
        return self._connection

    @contextmanager
    def session(self) -> Iterator[Connection]:
        """The connection, for reading and for DDL; rolls back the transaction that reading opens.

        :raises SinkError: for any error of the database, without values of rows in its text.
        """
        try:
            connection = self.connection()
            yield connection
            connection.rollback()
        except Exception as error:
            self.invalidate()
            if self.is_driver_error(error):
                self.backend.session.learn(error)
                kind = TransientSinkError if is_transient(error, self.backend) else SinkError
                raise kind(f"conn_id={self._conn_id!r}: {describe_error(error, self.backend)}") from None
            raise

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """A writing transaction: committed at the end, rolled back on any error.

        :raises SinkError: as :meth:`session`.
        """
        with self.session() as connection:
            self.backend.session.begin(connection)
            yield connection
            self.backend.session.commit(connection)

    @contextmanager
    def second_connection(self) -> Iterator[Database]:
        """A second connection to the same database, closed at the end."""
        other = Database(self._hook, self._conn_id, lock_timeout=self._limits[0], statement_timeout=self._limits[1])
        try:
            yield other
        finally:
            other.close()

    def invalidate(self) -> None:
        """Roll back and close the connection, whatever state it is in; the next use opens a new one."""
        connection, self._connection = self._connection, None
        if connection is None:
            return
        try:
            connection.rollback()
            connection.invalidate()
        except Exception:  # noqa: BLE001  # it may be broken: that is why it is closed
            connection.invalidate()
        finally:
            connection.close()

    def rollback(self) -> None:
        """Roll back the transaction; close a connection that cannot do that."""
        if self._connection is None:
            return
        try:
            self._connection.rollback()
        except Exception:  # noqa: BLE001  # see above
            self.invalidate()

    def interrupt(self) -> None:
        """Stop what the connection is doing. The only method that may be called from another thread."""
        self._stopped.set()
        raw, backend = self._raw, self._backend
        if raw is not None and backend is not None:
            backend.session.interrupt(raw, self._hook.get_conn)

    def is_driver_error(self, error: BaseException) -> bool:
        """Whether an error comes from the database or its driver, and not from the program."""
        import sqlalchemy as sa

        if isinstance(error, (sa.exc.DBAPIError, OverflowError, UnicodeError)):
            return True  # drivers raise Python's own errors for an integer or a text that they cannot send
        dbapi = None if self._engine is None else self._engine.dialect.dbapi
        base = getattr(dbapi, "Error", None)
        return base is not None and isinstance(error, base)

    def close(self) -> None:
        """Close the connection and the engine."""
        self.invalidate()
        if self._engine is not None:
            self._engine.dispose()
        self._engine = None
        self._raw = None

    def _make_engine(self) -> Engine:
        import sqlalchemy as sa

        raw = self._open_raw()
        driver = type(raw).__module__.partition(".")[0]
        # Without user, password and host: a printed URL then reveals nothing.
        name = _DIALECTS.get(driver)
        if name == DUCKDB:
            sa.dialects.registry.register(
                DUCKDB, "airflow_parallel_provider.sql.backends.duckdb.dialect", "DuckDialect"
            )
        url = sa.engine.make_url(f"{name}://" if name else self._hook_url())
        dialect = url.get_backend_name()
        self._backend = backend_class(dialect, driver)(dialect, *self._limits)
        unused = [raw]

        def creator() -> Any:
            self._raw = self.backend.session.wrap(unused.pop() if unused else self._open_raw())
            self.backend.session.configure(self._raw)
            return self._raw

        self._engine = sa.create_engine(
            url, creator=creator, poolclass=sa.pool.NullPool, hide_parameters=True, future=True
        )
        return self._engine

    def _hook_url(self) -> Any:
        try:
            return self._hook.sqlalchemy_url
        except (AttributeError, NotImplementedError):
            return self._hook.get_uri()

    def _open_raw(self) -> Any:
        """A driver connection. Waits for a file that another process holds, as for a lock."""
        deadline = time.monotonic() + self._limits[0]
        pause = _FIRST_PAUSE
        while True:
            try:
                return self._hook.get_conn()
            except Exception as error:  # noqa: BLE001  # see above
                holder = lock_holder(error)
                if holder is None:
                    raise self._unreachable(error) from None
            if time.monotonic() + pause > deadline or self._wait(pause):
                raise Unreachable(
                    f"conn_id={self._conn_id!r}: {holder} still has the DuckDB file open, and only one process at a "
                    "time can open it. End that process (an earlier attempt of this task? a shell?) or wait for its "
                    "end, and run the task again: nothing is lost or doubled"
                )
            pause = min(pause * 2, _LONGEST_PAUSE)

    def _wait(self, seconds: float) -> bool:
        """Pause. Returns whether :meth:`interrupt` has ended the pause."""
        return self._stopped.wait(seconds)

    def _unreachable(self, error: Exception) -> SinkError:
        if isinstance(error, SinkError):
            return error
        return Unreachable(
            f"conn_id={self._conn_id!r}: cannot connect ({type(error).__name__}: {error}): "
            "check host, port, login and database of the Airflow connection (the path of a SQLite file is its host)"
        )
