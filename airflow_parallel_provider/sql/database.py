"""One connection to the database behind an Airflow connection, opened by that connection's own hook.

:func:`resolved_hook` runs on the main thread and is the only place that talks to Airflow. :class:`Database` runs on the
sink thread and never does: the hook it is given answers every ``get_connection`` with the connection that was resolved.
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
"""A dialect of our own, under a name that no other package has: see ``writers/duck_dialect.py``."""

_DIALECTS: Mapping[str, str] = {
    "sqlite3": "sqlite",
    "psycopg": "postgresql+psycopg",
    "psycopg2": "postgresql+psycopg2",
    "mysql": "mysql+mysqlconnector",
    "MySQLdb": "mysql+mysqldb",
    "pymysql": "mysql+pymysql",
    "duckdb": DUCKDB,
    "_duckdb": DUCKDB,
}
"""Top module of a driver's connection -> SQLAlchemy dialect. What a hook says of itself may be wrong: the URL and the
connection of one and the same hook can belong to different drivers."""

_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 2.0
"""Seconds between two tries to open a file that another process has."""


def resolved_hook(conn_id: str, connection: Any = None, *, field: str = "SinkTable.conn_id") -> Any:
    """The database hook of an Airflow connection, which will not ask Airflow again.

    :param connection: an Airflow ``Connection`` that is already at hand; None looks ``conn_id`` up.
    :param field: the argument that named it, for errors.
    :raises PlanError: when there is no such connection, or it is not one of an SQL database.

    Known limitation: hooks that fetch a token for each new connection (AWS IAM, Azure) look a second connection up by
    themselves, on the thread that connects.
    """
    if connection is None:
        connection = get_connection(conn_id, field)
    quiet = resolved_copy(connection)
    hook = _hook_of(connection, conn_id, field)
    if not callable(getattr(hook, "get_uri", None)) or not callable(getattr(hook, "get_sqlalchemy_engine", None)):
        raise PlanError(field, conn_id, f"its type {connection.conn_type!r} is not an SQL database; name one that is")
    # On the instance, so that nothing else in this process is changed.
    hook.get_connection = lambda _conn_id=None: quiet
    hook._connection = quiet  # where DbApiHook keeps it once it was looked up
    return hook


def _hook_of(connection: Any, conn_id: str, field: str) -> Any:
    from airflow.providers.common.compat.sdk import AirflowException

    try:
        return connection.get_hook()
    except (AirflowException, ImportError) as error:
        raise PlanError(
            field,
            conn_id,
            f"no hook for its type {connection.conn_type!r} ({error}); install the provider package of that database",
        ) from None


class Database:
    """A connection that is opened when needed and replaced when broken. Belongs to one thread."""

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
        """The backend; connects first if need be."""
        if self._backend is None:
            self.connection()
        assert self._backend is not None
        return self._backend

    def connection(self) -> Connection:
        """The connection, a new one if there is none.

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
        """The connection, for reading and for DDL; ends the transaction that reading opens.

        :raises SinkError: for any error of the database, in words of its own.
        """
        try:
            connection = self.connection()
            yield connection
            connection.rollback()
        except Exception as error:
            self.invalidate()
            if self.is_driver_error(error):
                kind = TransientSinkError if is_transient(error, self.backend) else SinkError
                raise kind(f"conn_id={self._conn_id!r}: {describe_error(error, self.backend)}") from None
            raise

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """A writing transaction: committed at the end, rolled back on any error.

        :raises SinkError: for any error of the database, in words of its own.
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
        """Roll back and let go of the connection, whatever state it is in."""
        connection, self._connection = self._connection, None
        if connection is None:
            return
        try:
            connection.rollback()
            connection.invalidate()
        except Exception:  # noqa: BLE001  # it is broken, that is why it is let go
            connection.invalidate()
        finally:
            connection.close()

    def rollback(self) -> None:
        """Undo the transaction; a connection that cannot even do that is let go."""
        if self._connection is None:
            return
        try:
            self._connection.rollback()
        except Exception:  # noqa: BLE001  # see above
            self.invalidate()

    def interrupt(self) -> None:
        """Break off what the connection is doing. The only method that may be called from another thread."""
        self._stopped.set()
        raw, backend = self._raw, self._backend
        if raw is not None and backend is not None:
            backend.session.interrupt(raw, self._hook.get_conn)

    def is_driver_error(self, error: BaseException) -> bool:
        """Whether an error comes from the database or its driver, and not from a mistake in the program."""
        import sqlalchemy as sa

        if isinstance(error, (sa.exc.DBAPIError, OverflowError, UnicodeError)):
            return True  # drivers report an integer or a text they cannot send with Python's own errors
        dbapi = None if self._engine is None else self._engine.dialect.dbapi
        base = getattr(dbapi, "Error", None)
        return base is not None and isinstance(error, base)

    def close(self) -> None:
        """Let go of everything."""
        self.invalidate()
        if self._engine is not None:
            self._engine.dispose()
        self._engine = None
        self._raw = None

    def _make_engine(self) -> Engine:
        import sqlalchemy as sa

        raw = self._open_raw()
        driver = type(raw).__module__.partition(".")[0]
        # Without user, password and host: a URL that is printed somewhere gives nothing away.
        known = _DIALECTS.get(driver)
        if known == DUCKDB:
            sa.dialects.registry.register(
                DUCKDB, "airflow_parallel_provider.sql.backends.duckdb.dialect", "DuckDialect"
            )
        url = sa.engine.make_url(f"{known}://" if known else self._hook_url())
        dialect = url.get_backend_name()
        self._backend = backend_class(dialect, driver)(dialect, *self._limits)
        waiting = [raw]

        def creator() -> Any:
            self._raw = self.backend.session.wrap(waiting.pop() if waiting else self._open_raw())
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
        """A driver connection. A file that another process has is waited for, as a lock is."""
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
                    f"conn_id={self._conn_id!r}: {holder} has the DuckDB file open and has not let go of it; only one "
                    "process at a time can. End it (an earlier attempt of this task? a shell?) or wait for its end, "
                    "and run the task again: nothing is lost or doubled"
                )
            pause = min(pause * 2, _LONGEST_PAUSE)

    def _wait(self, seconds: float) -> bool:
        """Pause; whether :meth:`interrupt` has ended it."""
        return self._stopped.wait(seconds)

    def _unreachable(self, error: Exception) -> SinkError:
        if isinstance(error, SinkError):
            return error
        return Unreachable(
            f"conn_id={self._conn_id!r}: cannot connect ({type(error).__name__}: {error}): "
            "check host, port, login and database of the Airflow connection (a SQLite file's path is its host)"
        )
