# SPDX-License-Identifier: Apache-2.0
"""A SQLAlchemy dialect of DuckDB: as much as the ledger needs.

The published dialect (duckdb-engine) derives from PostgreSQL's and does not work with SQLAlchemy 2.1. DuckDB's own
``cursor()`` is another connection with a transaction of its own. So this dialect writes standard SQL, and its cursors
share the connection.
"""

from __future__ import annotations

import contextlib
from typing import Any

from sqlalchemy.engine.default import DefaultDialect
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.types import LargeBinary

CHUNK = "airflow_parallel_chunk"
"""The Arrow table that a statement scans."""
_MOST_PARSED = 50
_MARKER = "found by the name of a variable"


class DuckConnection:
    """A DuckDB connection that behaves as the DB-API says: one transaction for all its cursors, rows as tuples."""

    def __init__(self, raw: Any) -> None:
        self.raw = raw
        self.busy = False
        """Whether a transaction is open. Without one every statement commits by itself."""
        self._parsed: dict[str, Any] = {}
        self._scans_variables = False

    def parse(self, sql: str) -> Any:
        """A parsed statement for ``raw.execute``, kept for the next time: parsing takes a sixth of a small INSERT."""
        statement = self._parsed.get(sql)
        if statement is None:
            if len(self._parsed) >= _MOST_PARSED:
                self._parsed.clear()
            (statement,) = self.raw.extract_statements(sql)
            self._parsed[sql] = statement
        return statement

    def detect_variable_scan(self) -> None:
        """Find out whether DuckDB can scan an Arrow table by the name of a Python variable.

        That takes a millisecond less than registering the table, which creates a view. A setting of the connection
        (``python_enable_replacements``, ``enable_external_access``) may forbid it.
        """
        import pyarrow as pa

        airflow_parallel_chunk = pa.table({"c0": [_MARKER]})  # noqa: F841  # DuckDB finds it
        try:
            found = self.raw.execute(f"SELECT * FROM {CHUNK}").fetchall()  # noqa: S608
        except Exception:  # noqa: BLE001  # whatever the reason, register() works
            found = None
        self._scans_variables = found == [(_MARKER,)]

    def scan(self, sql: str, table: Any) -> int:
        """Run a statement that reads :data:`CHUNK`; return the number that is its result.

        :param table: what it reads, an Arrow table.
        """
        if self._scans_variables:
            airflow_parallel_chunk = table  # noqa: F841  # DuckDB finds it
            return int(self.raw.execute(self.parse(sql)).fetchone()[0])
        self.raw.register(CHUNK, table)
        try:
            return int(self.raw.execute(self.parse(sql)).fetchone()[0])
        finally:
            with contextlib.suppress(Exception):  # an aborted transaction accepts nothing more; the next one does
                self.raw.unregister(CHUNK)

    def begin(self) -> None:
        """Open a transaction."""
        self.raw.execute("BEGIN TRANSACTION")
        self.busy = True

    def commit(self) -> None:
        """Commit, if a transaction is open."""
        if self.busy:
            self.busy = False
            self.raw.execute("COMMIT")

    def rollback(self) -> None:
        """Roll back, if a transaction is open."""
        if self.busy:
            self.busy = False
            self.raw.execute("ROLLBACK")

    def cursor(self) -> DuckCursor:
        """A cursor on this connection."""
        return DuckCursor(self.raw)

    def interrupt(self) -> None:
        """Stop the running statement. Called from another thread."""
        self.raw.interrupt()

    def close(self) -> None:
        """Close the connection."""
        self.raw.close()


class DuckCursor:
    """Fetches each result at once: a connection has one result at a time."""

    arraysize = 1

    def __init__(self, raw: Any) -> None:
        self._raw = raw
        self._rows: list[tuple[Any, ...]] = []
        self.description: list[tuple[Any, ...]] | None = None
        self.rowcount = -1

    def execute(self, statement: str, parameters: Any = ()) -> None:
        """Run a statement."""
        self._raw.execute(statement, list(parameters or ()))
        self.description, self.rowcount = self._raw.description, -1
        self._rows = self._raw.fetchall() if self.description else []
        if self.description and [column[0] for column in self.description] == ["Count"]:
            # The result of INSERT, UPDATE and DELETE; no query of ours has a column of this name.
            self.rowcount = self._rows[0][0] if self._rows else 0
            self.description, self._rows = None, []

    def executemany(self, statement: str, parameters: Any) -> None:
        """Run a statement once for each set of parameters."""
        for each in parameters:
            self.execute(statement, each)

    def fetchone(self) -> tuple[Any, ...] | None:
        """The next row, or None."""
        return self._rows.pop(0) if self._rows else None

    def fetchmany(self, size: int = 1) -> list[tuple[Any, ...]]:
        """At most ``size`` of the next rows."""
        taken, self._rows = self._rows[:size], self._rows[size:]
        return taken

    def fetchall(self) -> list[tuple[Any, ...]]:
        """The remaining rows."""
        taken, self._rows = self._rows, []
        return taken

    def close(self) -> None:
        """Nothing to close."""


class _Compiler(SQLCompiler):
    def for_update_clause(self, select: Any, **_options: Any) -> str:  # noqa: ARG002
        return ""  # of two transactions that change a row the later one fails


class _Bytes(LargeBinary):
    def bind_processor(self, dialect: Any) -> None:  # noqa: ARG002  # DuckDB has no Binary(): bytes are bytes
        return None


class DuckDialect(DefaultDialect):
    """Standard SQL with question marks as parameters."""

    name = "duckdb"
    driver = "duckdb"
    default_paramstyle = "qmark"
    statement_compiler = _Compiler
    supports_statement_cache = True
    supports_native_boolean = True
    colspecs = {LargeBinary: _Bytes}  # noqa: RUF012  # as all dialects have it

    @classmethod
    def import_dbapi(cls) -> Any:
        """The driver, for its classes of errors."""
        import duckdb

        return duckdb

    dbapi = import_dbapi  # type: ignore[assignment]  # SQLAlchemy 1.4 asks by this name

    def has_table(self, connection: Any, table_name: str, schema: str | None = None, **_options: Any) -> bool:
        """Whether a table exists."""
        found = connection.exec_driver_sql(
            "SELECT count(*) AS n FROM duckdb_tables() WHERE database_name = current_database() "
            "AND lower(table_name) = lower(?) AND schema_name = coalesce(?, current_schema())",
            (str(table_name), schema),
        )
        return bool(found.scalar())

    def _get_default_schema_name(self, connection: Any) -> str:  # noqa: ARG002
        return "main"

    def do_rollback(self, dbapi_connection: Any) -> None:
        """Roll back the transaction."""
        dbapi_connection.rollback()

    def do_commit(self, dbapi_connection: Any) -> None:
        """Commit the transaction."""
        dbapi_connection.commit()
