"""A Snowflake to test against: the server of ``fakesnow``, nearer to the service where that decides a test.

``python -m tests.support.snowflake_server FILE`` writes its port there and serves until it is ended. Only
``.venv-snowflake`` has what it needs (``make test-snowflake``). What is changed in fakesnow, each after Snowflake's
documentation:

* A key is written down and not enforced.
* An UPDATE, DELETE or MERGE waits for the transaction that has changed the same table, for LOCK_TIMEOUT at most. (The
  service locks parts of a table; that loads wait for each other is what the ledger relies on.)
* A field of a CSV file is text. NULL is an empty field without quotes.
* To describe a table that does not exist fails, and leaves the transaction as it is.
* There is a stage of the user, and REMOVE removes a file of it. Settings of a session are taken.
* A session whose client died keeps its transaction and its locks: ``POST /end_sessions`` rolls them back, which the
  service does by itself after minutes.
"""

from __future__ import annotations

import importlib
import re
import socket
import sys
import threading
from pathlib import Path
from typing import Any

LOCK_TIMEOUT = 30.0
"""Seconds; less than the ``lock_timeout`` of a sink, so that the server's error is seen."""
_CHANGES = re.compile(r'\s*(UPDATE|DELETE\s+FROM|MERGE\s+INTO)\s+((?:"(?:[^"]|"")+"|\w|\.)+)', re.IGNORECASE)
_ENDS = re.compile(r"\s*(COMMIT|ROLLBACK|CREATE|DROP|ALTER\s+TABLE)\b", re.IGNORECASE)
_REMOVE = re.compile(r"\s*REMOVE\s+@user_stage/(\S+)", re.IGNORECASE)
_OF_A_SCHEMA = re.compile(r'"\w+"\."airflow_parallel_chunk"')
"""A temporary table of DuckDB is in no schema."""
_DESCRIBE = re.compile(r"\s*DESC(?:RIBE)?\s+TABLE\s+(.*)", re.IGNORECASE | re.DOTALL)
_QUOTED = re.compile(r'"((?:[^"]|"")+)"')
_SETTING = re.compile(r"\s*ALTER\s+SESSION\s+SET\b(?!\s+AUTOCOMMIT)", re.IGNORECASE)

_changed = threading.Condition()
_owners: dict[str, Any] = {}
"""Table -> the connection whose transaction has changed it."""


def _lock(table: str, owner: Any) -> None:
    with _changed:
        if not _changed.wait_for(lambda: _owners.get(table, owner) is owner, LOCK_TIMEOUT):
            raise _conflict("the lock of the table was not released")
        _owners[table] = owner


def _release(owner: Any) -> None:
    with _changed:
        for table in [each for each, holder in _owners.items() if holder is owner]:
            del _owners[table]
        _changed.notify_all()


def _conflict(why: str) -> Exception:
    from snowflake.connector.errors import ProgrammingError

    return ProgrammingError(msg=f"Statement was aborted: {why}", errno=625, sqlstate="57014")


def _with_user_stage(connection: Any, command: str, execute: Any) -> str:
    """A command with the stage that stands for the user's; made when a session names it first."""
    if "@~" not in command:
        return command
    if not getattr(connection, "_has_user_stage", False):
        assert not connection._in_transaction, "a file of this session was to be sent before its first transaction"
        execute("CREATE STAGE IF NOT EXISTS user_stage")
        connection._has_user_stage = True
    return command.replace("@~", "@user_stage")


def _require_table(connection: Any, described: str) -> None:
    """Refuse a table that does not exist: to DuckDB such a statement would break the transaction."""
    schema, table = _QUOTED.findall(described)[-2:] if described.count('"') >= 4 else (None, None)
    if table is None:
        return
    found = connection._duck_conn.execute(
        "SELECT count(*) FROM duckdb_tables() WHERE schema_name = ? AND table_name = ?", (schema, table)
    ).fetchone()
    if not found[0]:
        from snowflake.connector.errors import ProgrammingError

        raise ProgrammingError(msg=f"Table '{table}' does not exist or not authorized.", errno=2003, sqlstate="42S02")


def install() -> Any:  # noqa: C901  # all that is changed, in one place
    """Change fakesnow; return its application."""
    import duckdb
    from sqlglot import exp

    copy_into: Any = importlib.import_module("fakesnow.copy_into")
    cursor: Any = importlib.import_module("fakesnow.cursor")
    server: Any = importlib.import_module("fakesnow.server")

    transform, execute, run = (
        cursor.FakeSnowflakeCursor._transform,
        cursor.FakeSnowflakeCursor.execute,
        cursor.FakeSnowflakeCursor._execute,
    )
    source_urls = copy_into._source_urls
    read_csv = copy_into.ReadCSV.read_expression

    from snowflake.connector.errors import ProgrammingError

    def without_keys(self: Any, expression: Any, params: Any) -> Any:
        if isinstance(expression, exp.Create):
            for key in [*expression.find_all(exp.PrimaryKey), *expression.find_all(exp.UniqueColumnConstraint)]:
                key.pop()
        return transform(self, expression, params)

    def locking(self: Any, command: str, *args: Any, **kwargs: Any) -> Any:
        connection = self._conn
        command = _with_user_stage(connection, command, lambda made: execute(self, made))
        command = _OF_A_SCHEMA.sub('"airflow_parallel_chunk"', command)
        if _SETTING.match(command):
            return execute(self, "SELECT 1", *args, **kwargs)
        if removed := _REMOVE.match(command):
            for found in Path(server.stage.LOCAL_BUCKET_PATH).rglob(f"USER_STAGE/{removed[1]}*"):
                found.unlink()
            return execute(self, "SELECT 1", *args, **kwargs)
        if described := _DESCRIBE.match(command):
            _require_table(connection, described[1])
        if change := _CHANGES.match(command):
            _lock(change[2], connection)
        try:
            result = execute(self, command, *args, **kwargs)
        except duckdb.TransactionException as error:
            raise _conflict(str(error)) from None
        except Exception as error:
            if isinstance(error, server.snowflake.connector.errors.Error):
                raise
            # Or the client would repeat it for ever, as a failure of the service.
            raise ProgrammingError(msg=f"{type(error).__name__}: {error}", errno=9999, sqlstate="99999") from None
        if _ENDS.match(command):
            _release(connection)
        return result

    def telling_values(self: Any, transformed: Any, params: Any = None) -> None:
        if isinstance(transformed, exp.Create) and transformed.this.name.lower() == "merge_candidates":
            # A step of its MERGE, and no DDL of the client's, which would commit.
            if not (connection := self._conn)._autocommit and not connection._in_transaction:
                self._duck_conn.begin()
                connection._in_transaction = True
            self._duck_conn.execute(transformed.sql(dialect="duckdb"), params)
            return
        try:
            run(self, transformed, params)
        except duckdb.ConstraintException as error:
            number = 100072 if "NOT NULL" in str(error) else 100078
            raise ProgrammingError(msg=str(error), errno=number, sqlstate="22000") from None
        except duckdb.InvalidInputException as error:
            raise ProgrammingError(msg=str(error), errno=100069, sqlstate="22P02") from None
        except duckdb.OutOfRangeException as error:
            raise ProgrammingError(msg=str(error), errno=100046, sqlstate="22003") from None

    def as_texts(self: Any, url: str) -> Any:
        read = read_csv(self, url)
        for name in ("all_varchar", "allow_quoted_nulls"):
            read.append("expressions", self.make_eq(name, value=name == "all_varchar"))
        return read

    def named(source: str, files: list[str]) -> list[str]:
        inside = server.stage.is_internal(source)
        return [f"{source.rstrip('/')}/{file}" for file in files] if inside else source_urls(source, files)

    def by_position(select: Any) -> Any:
        for field in list(select.find_all(exp.Parameter)):
            field.replace(exp.Var(this=f"#{field.name}"))
        return select

    copy_into._source_urls, copy_into._strip_json_extract = named, by_position
    cursor.FakeSnowflakeCursor._transform = without_keys
    cursor.FakeSnowflakeCursor.execute = locking
    cursor.FakeSnowflakeCursor._execute = telling_values
    copy_into.ReadCSV.read_expression = as_texts

    async def end_sessions(request: Any) -> Any:
        for token, connection in list(server.sessions.items()):
            del server.sessions[token]
            connection._duck_conn.close()
            _release(connection)
        return server.JSONResponse({"success": True})

    async def staged_files(request: Any) -> Any:
        schema = request.query_params["schema"]
        files = Path(server.stage.LOCAL_BUCKET_PATH).rglob(f"{schema}/USER_STAGE/**/*")
        return server.JSONResponse(sorted(each.name for each in files if each.is_file()))

    server.app.router.routes.append(server.Route("/staged_files", staged_files, methods=["GET"]))
    server.app.router.routes.append(server.Route("/end_sessions", end_sessions, methods=["POST"]))
    return server.app


def serve(place: Path) -> None:
    """Serve on a free port, and write which one it is when the server listens."""
    import uvicorn

    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = uvicorn.Server(uvicorn.Config(install(), log_level="warning"))
        written = place.with_suffix(".new")
        written.write_text(str(listening.getsockname()[1]))
        written.rename(place)  # who connects before the server is up waits: the socket listens
        server.run(sockets=[listening])


if __name__ == "__main__":
    serve(Path(sys.argv[1]))
