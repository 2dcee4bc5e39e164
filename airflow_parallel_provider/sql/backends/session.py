# SPDX-License-Identifier: Apache-2.0
"""A driver connection: setting it up, its transactions, and interrupting it."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from airflow_parallel_provider.sql.backends.timeouts import set_limits

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.engine import Connection


class Session:
    """The connections of one database.

    :param dialect: name of the SQLAlchemy dialect.
    :param lock_timeout: seconds to wait for a lock that another transaction holds.
    :param statement_timeout: seconds that one statement may take.
    """

    def __init__(self, dialect: str, lock_timeout: float, statement_timeout: float) -> None:
        self.dialect = dialect
        self.lock_timeout = lock_timeout
        self.statement_timeout = statement_timeout
        self.stopped = threading.Event()
        """Set by :meth:`interrupt`."""

    def wrap(self, raw: Any) -> Any:
        """The driver's connection in a form that SQLAlchemy can use."""
        return raw

    def configure(self, raw: Any) -> None:
        """Set up a new driver connection: time limits, no autocommit, tuples as results."""
        # Snowflake's driver, among others, commits every statement by default.
        switch = getattr(raw, "autocommit", None)
        if callable(switch):
            switch(False)  # the DB-API's way
        elif isinstance(switch, bool):
            raw.autocommit = False
        set_limits(raw, self.dialect, self.lock_timeout, self.statement_timeout)

    def learn(self, error: BaseException) -> None:
        """Called with an error of the database: the next connection may have to be set up another way."""

    def interrupt(self, raw: Any, connect: Callable[[], Any]) -> None:  # noqa: ARG002  # some need a second one
        """Stop what a driver connection is doing. Called from another thread.

        :param connect: opens another connection to the same database.
        """
        self.stopped.set()
        cancel = getattr(raw, "cancel", None)
        if callable(cancel):
            cancel()

    def begin(self, connection: Connection) -> None:
        """Start a transaction that is going to write."""
        if connection.in_transaction():
            connection.rollback()  # a failed statement, or a lost connection, has left it open
        connection.begin()

    def commit(self, connection: Connection) -> None:
        """End a transaction that :meth:`begin` started."""
        connection.commit()


def driver_connection(connection: Connection) -> Any:
    """The driver's connection, as :meth:`Session.wrap` has made it."""
    return connection.connection.driver_connection
