"""MySQL and MariaDB: the driver's connection and INSERTs of many rows.

What these servers do silently is switched off or checked before: a session outside strict mode cuts texts and invents
numbers, DECIMAL rounds with no more than a note (see ``fit``), MyISAM ignores ROLLBACK, and a plain CREATE TABLE
commits. LOAD DATA LOCAL would be three times faster, but it drops duplicates and cuts values with no more than a
warning even in strict mode, so it is not used.

Times have no zone here: an instant is stored in UTC, and the session's time zone is UTC. NaN becomes NULL, infinity is
refused.
"""

from __future__ import annotations

import math
import re
from dataclasses import replace
from itertools import chain
from typing import TYPE_CHECKING, Any

from airflow_parallel_provider.errors import SchemaMismatch, UnsafeTable
from airflow_parallel_provider.sql.backends.base import Backend, Rows, temporary_name
from airflow_parallel_provider.sql.backends.types import KEY_LENGTH, generic_type
from airflow_parallel_provider.values.convert import ConversionError, to_json
from airflow_parallel_provider.values.kinds import Column, Kind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from sqlalchemy.engine import Connection

    from airflow_parallel_provider.values.convert import Converter
    from airflow_parallel_provider.values.table_shape import TableShape

_Listed = list[tuple[Any, ...]]
_ROWS_PER_STATEMENT = 1_000
_PASSING = frozenset(
    {
        1020, 1205, 1206, 1213, 1412, 1637, 1684, 1689, 3101,  # record or table changed, locks, deadlock, conflict
        1037, 1040, 1041, 1203, 1226,  # no memory, no connection, no quota left
        1053, 1317, 1927, 1969, 3024, 3169, 4031,  # shutting down, killed, out of time
        1047, 1180, 3032, 3100, 3168,  # a node not ready, a commit that failed, offline
        1290, 1792, 1836, 1874,  # read-only: what was the primary before a fail-over, or is not yet the new one
        1158, 1159, 1160, 1161, 2002, 2003, 2006, 2012, 2013, 2026, 2027, 2055,  # the connection broke
        9001,  # ProxySQL found no server
    }
)  # fmt: skip
"""Error numbers that may pass. Of none of them is a row to blame."""
_OUT_OF_RANGE = 1690
_QUOTED = re.compile(r"'[^']*'?")


def _finite(value: float) -> float | None:
    if math.isnan(value):
        return None
    if math.isinf(value):
        raise ConversionError("an infinite float")
    return value


def quote(name: str) -> str:
    """An identifier as SQL."""
    return "`" + name.replace("`", "``") + "`"


class MysqlBackend(Backend):
    """Writes to MySQL or MariaDB with mysqlclient, mysql-connector-python or PyMySQL."""

    merges = True
    folds_case = True
    longest_name = 64
    refused_in_names = re.compile("[%`\n\v\f\r\x1c-\x1e\x85\u2028\u2029\U00010000-\U0010ffff]")
    """The drivers put values in by replacing ``%s`` wherever it stands, SQLAlchemy reads a backtick back as two and a
    line end as the end of a definition, and the servers know no characters beyond the basic plane in names."""
    adapters: Mapping[Kind, Converter] = {
        Kind.FLOAT: _finite,
        Kind.JSON: to_json,
        Kind.TIME: lambda value: value.isoformat(timespec="microseconds"),
        Kind.UUID: str,
    }

    def configure(self, raw: Any) -> None:
        """Strict, in UTC, all of Unicode, with limits: for this session only."""
        super().configure(raw)
        for name in ("set_character_set", "set_charset_collation", "set_charset"):  # the drivers must know it too
            if hasattr(raw, name):
                getattr(raw, name)("utf8mb4")
                break
        cursor = raw.cursor()
        # Out with NO_BACKSLASH_ESCAPES: not every driver notices that its way of quoting values no longer works.
        cursor.execute(
            "SET SESSION sql_mode = "
            "CONCAT(REPLACE(@@SESSION.sql_mode, 'NO_BACKSLASH_ESCAPES', ''), ',STRICT_ALL_TABLES')"
        )
        cursor.execute("SET SESSION time_zone = '+00:00'")
        cursor.execute(f"SET SESSION innodb_lock_wait_timeout = {max(1, round(self.lock_timeout))}")
        cursor.execute(f"SET SESSION lock_wait_timeout = {max(1, round(self.lock_timeout))}")
        cursor.execute("SELECT VERSION()")
        if "mariadb" in str(cursor.fetchone()[0]).lower():
            cursor.execute(f"SET SESSION max_statement_time = {self.statement_timeout:.3f}")
        cursor.close()
        raw.commit()

    def interrupt(self, raw: Any, connect: Callable[[], Any]) -> None:
        """Kill the running statement from a second connection: the protocol has no other way."""
        self.stopped.set()
        number = raw.thread_id() if callable(getattr(raw, "thread_id", None)) else raw.connection_id
        second = connect()
        try:
            cursor = second.cursor()
            cursor.execute(f"KILL QUERY {int(number)}")
            cursor.close()
        finally:
            second.close()

    def reflect(self, connection: Connection, table: str, schema: str | None) -> TableShape | None:
        """As ever, but MariaDB's JSON is a LONGTEXT that checks itself."""
        import sqlalchemy as sa

        shape = super().reflect(connection, table, schema)
        if shape is None or not getattr(connection.dialect, "is_mariadb", False):
            return shape
        found = connection.execute(
            sa.text(
                "SELECT check_clause FROM information_schema.check_constraints "
                "WHERE constraint_schema = COALESCE(:place, DATABASE()) AND table_name = :name"
            ),
            {"place": schema, "name": table},
        )
        clauses = {str(clause).casefold() for (clause,) in found.fetchall()}
        columns = tuple(
            replace(column, kind=Kind.JSON, length=None)
            if f"json_valid({quote(column.name)})".casefold() in clauses
            else column
            for column in shape.columns
        )
        return replace(shape, columns=columns)

    def check_transactional(self, connection: Connection, table: str, schema: str | None) -> None:
        """The table's engine must know ROLLBACK."""
        import sqlalchemy as sa

        found = connection.execute(
            sa.text(
                "SELECT t.engine FROM information_schema.tables t JOIN information_schema.engines e "
                "ON e.engine = t.engine WHERE t.table_schema = COALESCE(:place, DATABASE()) AND t.table_name = :name "
                "AND COALESCE(e.transactions, 'NO') <> 'YES'"
            ),
            {"place": schema, "name": table},
        ).scalar()
        if found is not None:
            raise UnsafeTable(
                f"table {table!r} has the engine {found}, which cannot roll back: "
                f"ALTER TABLE {quote(table)} ENGINE=InnoDB"
            )

    def sql_type(self, column: Column, *, in_key: bool) -> Any:
        """The widest type of each kind; what is in a key must have a length."""
        from sqlalchemy.dialects import mysql

        if column.kind is Kind.TEXT:
            length = column.length or (KEY_LENGTH if in_key else None)
            return mysql.VARCHAR(length) if length else mysql.LONGTEXT()
        if column.kind is Kind.BYTES:
            length = column.length or (KEY_LENGTH if in_key else None)
            return mysql.VARBINARY(length) if length else mysql.LONGBLOB()
        if column.kind is Kind.DECIMAL:
            return mysql.DECIMAL(column.precision or 65, column.scale if column.precision else 30)
        own: Mapping[Kind, Any] = {
            Kind.BOOL: mysql.TINYINT(1),
            Kind.HUGEINT: mysql.DECIMAL(65, 0),
            Kind.FLOAT: mysql.DOUBLE(asdecimal=False),
            Kind.DATETIME: mysql.DATETIME(fsp=6),
            Kind.DATETIMETZ: mysql.DATETIME(fsp=6),
            Kind.TIME: mysql.TIME(fsp=6),
            Kind.TIMEDELTA: mysql.DECIMAL(20, 6),
            Kind.UUID: mysql.CHAR(36),
            Kind.JSON: mysql.JSON(),
        }
        return own.get(column.kind or Kind.TEXT) or generic_type(column, in_key=in_key)

    def table_options(self) -> dict[str, Any]:
        """A transactional engine, all of Unicode, and keys that differ when their characters differ."""
        options = {"engine": "InnoDB", "charset": "utf8mb4", "collate": "utf8mb4_bin"}
        return {f"{dialect}_{name}": value for dialect in ("mysql", "mariadb") for name, value in options.items()}

    def create_like(self, connection: Connection, name: str, shape: TableShape) -> None:
        """With defaults, keys and indexes; foreign keys stay behind."""
        made = self.place(connection, name, shape.schema)
        connection.exec_driver_sql(f"CREATE TABLE {made} LIKE {self.place(connection, shape.name, shape.schema)}")

    def renames(self, connection: Connection, staging: TableShape, old: TableShape | None) -> bool:  # noqa: ARG002
        """Where the old table has neither triggers nor foreign keys, which would stay with it."""
        if old is None:
            return True
        import sqlalchemy as sa

        hanging = sa.text(
            "SELECT (SELECT COUNT(*) FROM information_schema.triggers WHERE event_object_table = :name "
            "AND event_object_schema = COALESCE(:place, DATABASE())) + "
            "(SELECT COUNT(*) FROM information_schema.key_column_usage WHERE referenced_table_name IS NOT NULL "
            "AND ((table_name = :name AND table_schema = COALESCE(:place, DATABASE())) OR "
            "(referenced_table_name = :name AND referenced_table_schema = COALESCE(:place, DATABASE()))))"
        )
        return not connection.execute(hanging, {"name": old.name, "place": old.schema}).scalar()

    def rename_into(self, connection: Connection, staging: str, table: str, schema: str | None, *, there: bool) -> None:
        """One RENAME TABLE, which is atomic and commits by itself; the old table is left aside."""
        source, target = self.place(connection, staging, schema), self.place(connection, table, schema)
        away = f"{target} TO {self.place(connection, temporary_name(staging), schema)}, " if there else ""
        connection.exec_driver_sql(f"RENAME TABLE {away}{source} TO {target}")

    def insert(self, connection: Connection, shape: TableShape, names: Sequence[str], rows: Rows) -> None:
        """INSERTs of many rows each, none larger than the server takes."""
        self._insert(connection, shape, names, rows, "")

    def merge(
        self, connection: Connection, shape: TableShape, names: Sequence[str], rows: Rows, key: Sequence[str]
    ) -> None:
        """ON DUPLICATE KEY UPDATE, in order, so of equal keys the last one wins. Never REPLACE: it deletes.

        :raises SchemaMismatch: when a row meets one with another key by another unique index of the table. Known
            limitation: unique indexes over the beginning of a text only are not known here, and such a row is updated.
        """
        rest = [name for name in names if name not in key] or list(key[:1])
        updates = [f"{quote(name)} = VALUES({quote(name)})" for name in rest]
        if any(other != frozenset(key) for other in shape.unique_keys) and set(key) <= set(names):
            updates.insert(0, _same_key(key))
        try:
            self._insert(connection, shape, names, rows, f" ON DUPLICATE KEY UPDATE {', '.join(updates)}")
        except Exception as error:
            if _number(error) != _OUT_OF_RANGE:
                raise
            raise SchemaMismatch(
                f"table {shape.display_name!r}: a row has another ({', '.join(key)}) than the row of the table that has the "
                "same values in another unique index: mend it in a stage, or merge by the columns of that index"
            ) from None

    def _insert(self, connection: Connection, shape: TableShape, names: Sequence[str], rows: Rows, tail: str) -> None:
        raw: Any = connection.connection.driver_connection
        place = f"{quote(shape.schema)}.{quote(shape.name)}" if shape.schema else quote(shape.name)
        head = f"INSERT INTO {place} ({', '.join(map(quote, names))}) VALUES "  # noqa: S608  # quoted
        marks = "(" + ", ".join(["%s"] * len(names)) + ")"
        cursor = raw.cursor()
        try:
            cursor.execute("SELECT @@max_allowed_packet")
            room = int(cursor.fetchone()[0]) // 2
            for part in _parts(list(rows), room):
                cursor.execute(head + ", ".join([marks] * len(part)) + tail, list(chain.from_iterable(part)))
        finally:
            cursor.close()

    def is_transient(self, error: BaseException) -> bool:
        """By error number; mysql-connector-python has none (-1) for a connection it has found closed."""
        lost = type(getattr(error, "orig", error)).__name__ == "OperationalError"
        number = _number(error)
        return number in _PASSING or (lost and number in (None, -1, 0))

    def explain(self, error: BaseException) -> str:
        """Number and message, without what the message quotes: that may be a value."""
        cause = getattr(error, "orig", error)
        texts = [getattr(cause, "msg", None), *getattr(cause, "args", ())]
        message = next((text for text in texts if isinstance(text, str)), "")
        return f"{type(cause).__name__} {_number(error) or ''}: {_QUOTED.sub('...', message)[:200]}"


def _same_key(key: Sequence[str]) -> str:
    """An assignment that changes nothing, and fails where the row to be updated was met by another unique index.

    The statement itself does not ask by which index: it would update a row with another key, and lose the new one.
    """
    same = " AND ".join(f"{quote(name)} <=> VALUES({quote(name)})" for name in key)
    first = quote(key[0])
    # Out of range for every row, but not a constant, which might be worked out although nobody needs it.
    return f"{first} = IF(({same}) OR ~0 + 1 + ISNULL({first}), {first}, {first})"


def _number(error: BaseException) -> int | None:
    cause = getattr(error, "orig", error)
    number = getattr(cause, "errno", None)
    if number is None and getattr(cause, "args", None):
        number = cause.args[0]
    return number if isinstance(number, int) else None


def _parts(rows: _Listed, room: int) -> Iterator[_Listed]:
    """Slices of rows that each fit into one packet."""
    for start in range(0, len(rows), _ROWS_PER_STATEMENT):
        yield from _halved(rows[start : start + _ROWS_PER_STATEMENT], room)


def _halved(rows: _Listed, room: int) -> Iterator[_Listed]:
    size = sum(map(_size, chain.from_iterable(rows)))
    if size <= room or len(rows) == 1:
        yield rows
    else:
        middle = len(rows) // 2
        yield from _halved(rows[:middle], room)
        yield from _halved(rows[middle:], room)


def _size(value: Any) -> int:
    # A character takes up to four bytes, a byte that must be escaped two.
    return 4 * len(value) + 8 if isinstance(value, (str, bytes)) else 48
