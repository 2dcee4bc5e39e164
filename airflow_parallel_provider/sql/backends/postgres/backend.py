"""PostgreSQL through psycopg 3: COPY, in binary where every column's type is known to survive it, else as text.

Arrow tables go as CSV, which Arrow writes without a Python object per value.

Binary COPY is what a driver sends fastest, but the client does the conversions: psycopg would write 70000 into a
``smallint`` as 4464, and 1e300 into a ``real`` as infinity. So binary is used for a list of types, integers are checked
against the width of their column before (see ``fit``), and one column of any other type makes the whole chunk go as
text, which the server parses and checks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_parallel_provider.rows.arrow_rows import ArrowRows, numbered
from airflow_parallel_provider.sql.backends.base import Backend, Rows
from airflow_parallel_provider.sql.backends.postgres.catalog import column_names, unique_keys
from airflow_parallel_provider.sql.backends.postgres.copy_binary import send_rows
from airflow_parallel_provider.sql.backends.postgres.copy_csv import CSV_KINDS, copy_csv
from airflow_parallel_provider.sql.backends.postgres.keys import nulls_are_equal_in
from airflow_parallel_provider.sql.backends.quoting import column_list, on_conflict, place_of, quote
from airflow_parallel_provider.sql.backends.types import generic_type
from airflow_parallel_provider.values.convert import to_json
from airflow_parallel_provider.values.kinds import Column, Kind

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from sqlalchemy.engine import Connection

    from airflow_parallel_provider.values.convert import Converter
    from airflow_parallel_provider.values.table_shape import TableShape

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
_PASSING_ALONE = ("55P03", "25P03", "25P04", "25006", "58000", "58030")
"""And of other classes: lock not available, a transaction that was idle or open for too long, a server that is
read-only (what was the primary before a fail-over, or is not yet the new one), errors of its system and its disk."""
_INTERCHANGEABLE = """
SELECT o.relkind = 'r' AND n.relkind = 'r' AND o.relowner = n.relowner AND o.reltablespace = n.reltablespace
  AND o.relacl IS NOT DISTINCT FROM n.relacl AND o.reloptions IS NOT DISTINCT FROM n.reloptions
  AND o.relreplident = n.relreplident AND obj_description(o.oid, 'pg_class') IS NULL
  AND NOT (o.relispartition OR o.relhasrules OR o.relhastriggers OR o.relhassubclass OR o.relrowsecurity)
  AND NOT EXISTS (SELECT FROM pg_inherits i WHERE i.inhrelid = o.oid)
  AND NOT EXISTS (SELECT FROM pg_constraint c WHERE c.contype = 'f' AND o.oid IN (c.conrelid, c.confrelid))
  AND NOT EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = o.oid AND a.attacl IS NOT NULL)
  AND NOT EXISTS (SELECT FROM pg_publication_rel p WHERE p.prrelid = o.oid)
  AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.refobjid = o.oid AND d.classid = CAST('pg_rewrite' AS regclass))
  AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.refobjid = o.reltype AND d.deptype = 'n')
  AND NOT EXISTS (SELECT FROM pg_depend d JOIN pg_class s ON s.oid = d.objid
                  WHERE d.refobjid = o.oid AND d.deptype = 'a' AND s.relkind = 'S')
FROM pg_class o, pg_class n WHERE o.oid = CAST(:old AS regclass) AND n.oid = CAST(:new AS regclass)
"""
"""Whether nobody would notice a table being dropped and another one renamed to its name: no views, rules, triggers,
foreign keys, policies, grants, publications, comments, sequences of its own; same owner and storage."""
_COUNT_ON = """
SELECT setval(t.sequence, t.last) FROM (
  SELECT CAST(pg_get_serial_sequence(:new, :name) AS regclass) AS sequence,
         pg_sequence_last_value(CAST(pg_get_serial_sequence(:old, :name) AS regclass)) AS last) t
WHERE t.last > coalesce(pg_sequence_last_value(t.sequence), 0) AND has_sequence_privilege(t.sequence, 'UPDATE')
"""
_STAGE = '"parallel_stage"'


class PostgresBackend(Backend):
    """Writes to PostgreSQL on the psycopg connection itself."""

    merges = True
    rows_ahead: int | None = 2_000
    transactional_ddl = True
    overriding = "OVERRIDING SYSTEM VALUE "
    takes_nul = False
    longest_name = 63
    arrow_kinds: frozenset[Kind] = CSV_KINDS

    def __init__(self, lock_timeout: float, statement_timeout: float) -> None:
        super().__init__(lock_timeout, statement_timeout)
        self.adapters = {Kind.JSON: self.json_adapter()}
        self._types = _Types()
        self._alone = False
        """Whether a claim asks no more than it must."""

    def json_adapter(self) -> Converter:
        """What becomes of a value of a JSON column."""
        from psycopg.types.json import Jsonb

        # psycopg makes JSON of whatever goes into such a column, of our text too unless it is told that it is JSON.
        return lambda value: Jsonb(to_json(value), dumps=str)

    def configure(self, raw: Any) -> None:
        """Limits on this session only; a session whose client is gone gives its locks back."""
        raw.autocommit = False
        self.plain_results(raw)
        limits = {
            "lock_timeout": self.lock_timeout,
            "statement_timeout": self.statement_timeout,
            "idle_in_transaction_session_timeout": self.statement_timeout,
        }
        with raw.cursor() as cursor:
            for name, seconds in limits.items():
                cursor.execute("SELECT set_config(%s, %s, false)", (name, f"{max(1, int(seconds * 1000))}ms"))
        raw.commit()

    def plain_results(self, raw: Any) -> None:
        """Tuples as results: the Airflow connection's ``cursor`` extra may have made them dicts."""
        from psycopg.rows import tuple_row

        raw.row_factory = tuple_row

    def interrupt(self, raw: Any, connect: Callable[[], Any]) -> None:  # noqa: ARG002  # the protocol can cancel
        """Ask the server to cancel the running statement."""
        self.stopped.set()
        raw.cancel()

    def column_names(self, connection: Connection, table: str, schema: str | None) -> frozenset[str] | None:
        """One query."""
        return column_names(connection, table, schema)

    def unique_keys(self, inspector: Any, name: str, place: str | None) -> tuple[Sequence[str], list[Any]]:
        """One query."""
        return unique_keys(inspector.bind, str(name), None if place is None else str(place))

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

    def before_part(self, connection: Connection) -> None:
        """What was put off to the COMMIT is checked at once, by name; the stage of a merge is made anew."""
        with _raw(connection).cursor() as cursor:
            cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
            cursor.execute(f"DROP TABLE IF EXISTS pg_temp.{_STAGE}")

    def begin(self, connection: Connection) -> None:
        """What is known of columns is known for one transaction, which keeps them as they are."""
        self._types.forget()
        super().begin(connection)

    def claim(
        self,
        connection: Connection,
        insert: Any,
        row: dict[str, Any],
        shape: TableShape | None,
        names: Sequence[str],
    ) -> None:
        """The INSERT, and with it the question what types the columns have: one way to the server for both."""
        from psycopg import ProgrammingError

        if shape is None or self._alone:
            super().claim(connection, insert, row, shape, names)
            return
        try:
            self._types.ask_with(connection, insert, row, place_of(shape), names)
        except ProgrammingError:
            self._alone = True  # the table is not as it was: next time the COPY is to say so, not the claim
            raise

    def insert(self, connection: Connection, shape: TableShape, names: Sequence[str], rows: Rows) -> None:
        """COPY into the table itself."""
        self._send(_raw(connection), place_of(shape), names, rows)

    def merge(
        self, connection: Connection, shape: TableShape, names: Sequence[str], rows: Rows, key: Sequence[str]
    ) -> None:
        """COPY into a temporary table, then one INSERT ... ON CONFLICT; the last of equal keys wins.

        Which keys are equal is the database's to say (collations, citext), so it is the database that picks the last.
        """
        raw = _raw(connection)
        number = "n"
        while number in names:
            number += "_"
        target, columns = place_of(shape), column_list(names)
        with raw.cursor() as cursor:
            by = nulls_are_equal_in(cursor, shape, key, number)
            cursor.execute(
                f"CREATE TEMPORARY TABLE {_STAGE} ON COMMIT DROP AS "  # noqa: S608  # quoted, here and below
                f"SELECT {columns}, 0::bigint AS {quote(number)} FROM {target} WITH NO DATA"
            )
            self._send(raw, f"pg_temp.{_STAGE}", [*names, number], numbered(rows))
            cursor.execute(
                f"INSERT INTO {target} ({columns}) SELECT DISTINCT ON ({by}) {columns} FROM pg_temp.{_STAGE} "  # noqa: S608
                f"ORDER BY {by}, {quote(number)} DESC {on_conflict(names, key)}"
            )

    def _send(self, raw: Any, target: str, names: Sequence[str], rows: Rows) -> None:
        if isinstance(rows, ArrowRows) and not rows.seen:
            copy_csv(raw, target, column_list(names), rows.table)
        else:
            self.copy(raw, target, names, rows)

    def copy(self, raw: Any, target: str, names: Sequence[str], rows: Rows) -> None:
        """COPY rows into a table."""
        with raw.cursor() as cursor:
            oids = self._types.of(cursor, target, names)
            binary = _BINARY_OIDS.issuperset(oids)
            form = "BINARY" if binary else "TEXT"
            with cursor.copy(f"COPY {target} ({column_list(names)}) FROM STDIN (FORMAT {form})") as copy:
                if binary:
                    copy.set_types(oids)
                    send_rows(copy, rows, oids)
                    return
                for row in rows:
                    copy.write_row(row)

    def create_like(self, connection: Connection, name: str, shape: TableShape) -> None:
        """With defaults, keys, checks and indexes."""
        made = self.place(connection, name, shape.schema)
        like = self.place(connection, shape.name, shape.schema)
        connection.exec_driver_sql(f"CREATE TABLE {made} (LIKE {like} INCLUDING ALL)")

    def renames(self, connection: Connection, staging: TableShape, old: TableShape | None) -> bool:
        """Where nothing hangs on the old table that the new one would not have."""
        if old is None:
            return True
        import sqlalchemy as sa

        names = {"old": self.place(connection, old.name, old.schema)}
        names["new"] = self.place(connection, staging.name, staging.schema)
        return bool(connection.execute(sa.text(_INTERCHANGEABLE), names).scalar())

    def copy_into(self, connection: Connection, staging: TableShape, table: TableShape) -> None:
        """The numbers that an identity has given in the staging table are not given again."""
        import sqlalchemy as sa

        super().copy_into(connection, staging, table)
        places = {
            "old": self.place(connection, staging.name, staging.schema),
            "new": self.place(connection, table.name, table.schema),
        }
        for column in table.columns:
            if column.identity:
                connection.execute(sa.text(_COUNT_ON), {**places, "name": column.name})

    def is_transient(self, error: BaseException) -> bool:
        """By SQLSTATE; an operational error without one is a lost connection."""
        cause: Any = getattr(error, "orig", error)
        state = sqlstate(cause)
        if state is None:
            return type(cause).__name__ in ("OperationalError", "InterfaceError")
        return state[:2] in _PASSING or state in _PASSING_ALONE

    def explain(self, error: BaseException) -> str:
        """SQLSTATE and the names the server gives; its message and detail would quote values."""
        cause: Any = getattr(error, "orig", error)
        text = type(cause).__name__
        if sqlstate(cause):
            text += f", SQLSTATE {sqlstate(cause)}"
        diagnosis = getattr(cause, "diag", None)
        for part in ("table", "column", "constraint"):
            name = getattr(diagnosis, f"{part}_name", None)
            if name:
                text += f", {part} {name!r}"
        return text


class _Types:
    """Type numbers of the columns that a COPY writes to."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, tuple[str, ...]], list[int]] = {}
        self._statements: dict[Any, str] = {}

    def forget(self) -> None:
        """Another transaction: somebody may have changed the table before it."""
        self._known.clear()

    def of(self, cursor: Any, target: str, names: Sequence[str]) -> list[int]:
        """One number for each column, asked for when they are not known."""
        found = self._known.get((target, tuple(names)))
        if found is None:
            cursor.execute(f"SELECT {column_list(names)} FROM {target} WHERE false")  # noqa: S608  # quoted
            found = [column.type_code for column in cursor.description]
        return found

    def ask_with(
        self, connection: Connection, insert: Any, row: dict[str, Any], target: str, names: Sequence[str]
    ) -> None:
        """Run an INSERT and ask in one statement. The INSERT of a WITH runs to its end, whatever is selected."""
        asked = (target, tuple(names))
        statement = self._statements.get((insert.table, asked))
        if statement is None:
            compiled = insert.compile(dialect=connection.dialect, column_keys=list(row))
            # A name that no table of one letter has, and no per cent sign that a parameter could begin with.
            alias = "i" if target != quote("i") else "j"
            question = f"SELECT {column_list(names)} FROM {target} WHERE false".replace("%", "%%")  # noqa: S608  # quoted
            statement = f"WITH {alias} AS ({compiled}) {question}"
            self._statements[insert.table, asked] = statement
        with _raw(connection).cursor() as cursor:  # a third of a millisecond faster than through SQLAlchemy
            cursor.execute(statement, row)
            self._known[asked] = [column.type_code for column in cursor.description]


def sqlstate(cause: Any) -> str | None:
    """SQLSTATE of an error of psycopg 3 or 2."""
    return getattr(cause, "sqlstate", None) or getattr(cause, "pgcode", None)


def _raw(connection: Connection) -> Any:
    return connection.connection.driver_connection
