"""PostgreSQL through psycopg 3: COPY, in binary where every column's type is known to survive it, else as text.

Binary COPY is what a driver sends fastest, but the client does the conversions: psycopg would write 70000 into a
``smallint`` as 4464, and 1e300 into a ``real`` as infinity. So binary is used for a list of types, integers are checked
against the width of their column before (see ``fit``), and one column of any other type makes the whole chunk go as
text, which the server parses and checks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_parallel_provider.sinks.convert import to_json
from airflow_parallel_provider.sinks.kinds import Column, Kind
from airflow_parallel_provider.sinks.writers.base import Rows, Writer
from airflow_parallel_provider.sinks.writers.sqltypes import generic_type

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from sqlalchemy.engine import Connection

    from airflow_parallel_provider.sinks.shape import TableShape

_BINARY_OIDS = frozenset(
    {
        16,  # bool
        17,  # bytea
        20, 21, 23,  # bigint, smallint, integer
        25, 1043,  # text, varchar
        114, 3802,  # json, jsonb
        701,  # double precision
        1082, 1083, 1114, 1184, 1186,  # date, time, timestamp, timestamptz, interval
        1700,  # numeric
        2950,  # uuid
    }
)  # fmt: skip
_PASSING = ("08", "40", "53", "57")
"""Classes of SQLSTATE that may pass: connection, serialisation and deadlock, resources, shutdown and cancel."""
_LOCK_NOT_AVAILABLE = "55P03"


class PostgresWriter(Writer):
    """Writes to PostgreSQL on the psycopg connection itself."""

    merges = True
    takes_nul = False
    longest_name = 63

    def __init__(self, lock_timeout: float, statement_timeout: float) -> None:
        from psycopg.types.json import Jsonb

        super().__init__(lock_timeout, statement_timeout)
        # psycopg makes JSON of whatever goes into such a column, of our text too unless it is told that it is JSON.
        self.adapters = {Kind.JSON: lambda value: Jsonb(to_json(value), dumps=str)}

    def configure(self, raw: Any) -> None:
        """Limits on this session only; a session whose client is gone gives its locks back."""
        from psycopg.rows import tuple_row

        raw.autocommit = False
        raw.row_factory = tuple_row  # the Airflow connection's `cursor` extra may have made it dicts
        limits = {
            "lock_timeout": self.lock_timeout,
            "statement_timeout": self.statement_timeout,
            "idle_in_transaction_session_timeout": self.statement_timeout,
        }
        for name, seconds in limits.items():
            raw.execute("SELECT set_config(%s, %s, false)", (name, f"{max(1, int(seconds * 1000))}ms"))
        raw.commit()

    def interrupt(self, raw: Any, connect: Callable[[], Any]) -> None:  # noqa: ARG002  # the protocol can cancel
        """Ask the server to cancel the running statement."""
        self.stopped.set()
        raw.cancel()

    def sql_type(self, column: Column, *, in_key: bool) -> Any:
        """PostgreSQL's own types; only lengths and digits that were declared bound a value."""
        import sqlalchemy as sa
        from sqlalchemy.dialects import postgresql as pg

        if column.kind is Kind.TEXT:
            return sa.String(column.length) if column.length else sa.Text()
        if column.kind is Kind.DECIMAL:
            return sa.Numeric(column.precision, column.scale) if column.precision else sa.Numeric()
        own: Mapping[Kind, Any] = {
            Kind.HUGEINT: sa.Numeric(),
            Kind.BYTES: pg.BYTEA(),
            Kind.FLOAT: pg.DOUBLE_PRECISION(),
            Kind.TIMEDELTA: pg.INTERVAL(),
            Kind.UUID: pg.UUID(as_uuid=True),
            Kind.JSON: pg.JSONB(),
        }
        return own.get(column.kind or Kind.TEXT) or generic_type(column, in_key=in_key)

    def insert(self, connection: Connection, shape: TableShape, names: Sequence[str], rows: Rows) -> None:
        """COPY into the table itself."""
        _copy(_raw(connection), _place(shape), names, rows)

    def merge(
        self, connection: Connection, shape: TableShape, names: Sequence[str], rows: Rows, key: Sequence[str]
    ) -> None:
        """COPY into a temporary table, then one INSERT ... ON CONFLICT; the last of equal keys wins.

        Which keys are equal is the database's to say (collations, citext), so it is the database that picks the last.
        """
        from psycopg import sql

        raw = _raw(connection)
        number = "n"
        while number in names:
            number += "_"
        stage = sql.Identifier("parallel_stage")
        columns = _listed(names)
        fill = {"stage": stage, "place": _place(shape), "columns": columns, "number": sql.Identifier(number)}
        make = "CREATE TEMPORARY TABLE {stage} ON COMMIT DROP AS SELECT {columns}, 0::bigint AS {number} FROM {place}"
        raw.execute(sql.SQL(make + " WITH NO DATA").format(**fill))
        numbered = [(*row, at) for at, row in enumerate(rows)]
        _copy(raw, sql.SQL("pg_temp.{}").format(stage), [*names, number], numbered)
        rest = [name for name in names if name not in key]
        updates = sql.SQL(", ").join(sql.SQL("{0} = excluded.{0}").format(sql.Identifier(name)) for name in rest)
        action = sql.SQL("UPDATE SET {}").format(updates) if rest else sql.SQL("NOTHING")
        merge = (
            "INSERT INTO {place} ({columns}) SELECT DISTINCT ON ({key}) {columns} FROM pg_temp.{stage} "
            "ORDER BY {key}, {number} DESC ON CONFLICT ({key}) DO {action}"
        )
        raw.execute(sql.SQL(merge).format(**fill, key=_listed(key), action=action))

    def is_transient(self, error: BaseException) -> bool:
        """By SQLSTATE; an operational error without one is a lost connection."""
        import psycopg

        cause = getattr(error, "orig", error)
        state = getattr(cause, "sqlstate", None)
        if state is None:
            return isinstance(cause, (psycopg.OperationalError, psycopg.InterfaceError))
        return str(state)[:2] in _PASSING or state == _LOCK_NOT_AVAILABLE

    def explain(self, error: BaseException) -> str:
        """SQLSTATE and the names the server gives; its message and detail would quote values."""
        cause: Any = getattr(error, "orig", error)
        text = type(cause).__name__
        if getattr(cause, "sqlstate", None):
            text += f", SQLSTATE {cause.sqlstate}"
        diagnosis = getattr(cause, "diag", None)
        for part in ("table", "column", "constraint"):
            name = getattr(diagnosis, f"{part}_name", None)
            if name:
                text += f", {part} {name!r}"
        return text


def _copy(raw: Any, place: Any, names: Sequence[str], rows: Rows) -> None:
    from psycopg import sql

    fill = {"place": place, "columns": _listed(names)}
    with raw.cursor() as cursor:
        cursor.execute(sql.SQL("SELECT {columns} FROM {place} WHERE false").format(**fill))
        oids = [column.type_code for column in cursor.description]
        binary = _BINARY_OIDS.issuperset(oids)
        form = sql.SQL("BINARY" if binary else "TEXT")
        with cursor.copy(
            sql.SQL("COPY {place} ({columns}) FROM STDIN (FORMAT {form})").format(**fill, form=form)
        ) as copy:
            if binary:
                copy.set_types(oids)
            write = copy.write_row
            for row in rows:
                write(row)


def _listed(names: Sequence[str]) -> Any:
    from psycopg import sql

    return sql.SQL(", ").join(map(sql.Identifier, names))


def _place(shape: TableShape) -> Any:
    from psycopg import sql

    return sql.Identifier(shape.schema, shape.name) if shape.schema else sql.Identifier(shape.name)


def _raw(connection: Connection) -> Any:
    return connection.connection.driver_connection
