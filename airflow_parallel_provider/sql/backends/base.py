# SPDX-License-Identifier: Apache-2.0
"""What the provider needs of a database, and how any SQLAlchemy dialect does it.

A backend holds what is true of one database (:class:`Backend`) and five small objects that do the work. To add a
database, subclass those whose general way is wrong or slow there, and name them in a subclass of :class:`Backend`::

    Backend           what the database can do: flags and limits, most of them a line
    ├── session       Session: set a driver connection up, begin, commit, interrupt
    ├── catalog       Catalog: read which columns and keys a table has
    ├── ddl           TableDdl: column types; create, alter, rename, empty and drop tables
    ├── dml           RowDml: write the ledger's claim and the rows
    └── errors        ErrorClassifier: which errors may pass, and what may be said of an error

    Backend           SQLAlchemy Core executemany: right everywhere, fast nowhere
    ├── SqliteBackend     raw executemany inside BEGIN IMMEDIATE
    ├── PostgresBackend   COPY, binary where the column types allow it
    │   └── Psycopg2Backend  COPY as text, for psycopg 2
    ├── MysqlBackend      the driver's INSERT of many rows
    └── DuckBackend       INSERT ... SELECT from an Arrow table

Each of these has a package here, with one module per class: ``mysql/session.py`` holds ``MysqlSession``, and so on.
:mod:`~airflow_parallel_provider.sql.backends.registry` chooses the backend of a connection.

A backend begins and commits a transaction only when its caller asks for it: the claim, the rows and the dead letters of
a chunk share one transaction, which belongs to :mod:`airflow_parallel_provider.sinks.commit.committer`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_parallel_provider.errors import SinkError
from airflow_parallel_provider.sql.backends.catalog import Catalog
from airflow_parallel_provider.sql.backends.error_classifier import ErrorClassifier
from airflow_parallel_provider.sql.backends.row_dml import RowDml
from airflow_parallel_provider.sql.backends.session import Session
from airflow_parallel_provider.sql.backends.table_ddl import TableDdl
from airflow_parallel_provider.values.convert import to_json
from airflow_parallel_provider.values.kinds import Kind

if TYPE_CHECKING:
    import re
    from collections.abc import Mapping

    from airflow_parallel_provider.values.convert import Converter


class Backend:
    """The backend that works with every SQLAlchemy dialect, and the base of those that know their database.

    :param dialect: name of the SQLAlchemy dialect.
    :param lock_timeout: seconds to wait for a lock that another transaction holds.
    :param statement_timeout: seconds that one statement may take.
    """

    session_class: type[Session] = Session
    catalog_class: type[Catalog] = Catalog
    ddl_class: type[TableDdl] = TableDdl
    dml_class: type[RowDml] = RowDml
    errors_class: type[ErrorClassifier] = ErrorClassifier

    merges = False
    """Whether :attr:`dml` has :meth:`~airflow_parallel_provider.sql.backends.row_dml.RowDml.merge`."""
    folds_case = False
    """Whether column names that differ only in case are the same column."""
    savepoints = True
    """Whether part of a transaction can be rolled back."""
    transactional_ddl = False
    """Whether CREATE, ALTER, DROP and RENAME are part of the transaction."""
    takes_nul = True
    """Whether a text may hold a NUL character."""
    longest_name: int | None = None
    """Bytes of the longest identifier that the database keeps whole."""
    refused_in_names: re.Pattern[str] | None = None
    """Characters that no name may hold."""
    adapters: Mapping[Kind, Converter] = {Kind.JSON: to_json}
    """Kind of column -> the last conversion of its values before the driver takes them."""
    arrow_kinds: frozenset[Kind] = frozenset()
    """Kinds of columns that :attr:`dml` can fill from an Arrow table as it is (``ArrowRows``)."""
    takes_lines = False
    """Whether :attr:`dml` takes the lines of COPY (``LineRows``)."""
    rows_ahead: int | None = None
    """How many rows are converted at a time, while the server works on those before; None: all before the first one."""

    def __init__(self, dialect: str, lock_timeout: float, statement_timeout: float) -> None:
        self.session = self.session_class(dialect, lock_timeout, statement_timeout)
        self.catalog = self.catalog_class()
        self.ddl = self.ddl_class(self.catalog)
        self.dml = self.dml_class()
        self.errors = self.errors_class(dialect)

    def check_disposition(self, disposition: str) -> None:
        """Refuse a way of writing that this database does not know.

        :raises SinkError: naming it and the cure.
        """
        if disposition == "merge" and not self.merges:
            raise SinkError(
                f"SinkTable.write_disposition={disposition!r} is not supported on this database: write 'append', "
                "or use a connection to PostgreSQL, MySQL, MariaDB, SQLite or DuckDB"
            )
