"""Rows into MySQL and MariaDB: INSERTs of many rows, none larger than a packet."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, Any

from airflow_parallel_provider.errors import SchemaMismatch
from airflow_parallel_provider.sql.backends.mysql.error_classifier import error_number
from airflow_parallel_provider.sql.backends.mysql.quoting import quote
from airflow_parallel_provider.sql.backends.row_dml import RowDml, Rows
from airflow_parallel_provider.sql.backends.session import driver_connection

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from sqlalchemy.engine import Connection

    from airflow_parallel_provider.values.table_shape import TableShape

_RowList = list[tuple[Any, ...]]
_ROWS_PER_STATEMENT = 1_000
_OUT_OF_RANGE = 1690


class MysqlRowDml(RowDml):
    """On the driver's own cursor."""

    def insert(self, connection: Connection, shape: TableShape, names: Sequence[str], rows: Rows) -> None:
        """INSERTs of many rows each, none larger than the server takes."""
        self._insert(connection, shape, names, rows, "")

    def merge(
        self, connection: Connection, shape: TableShape, names: Sequence[str], rows: Rows, key: Sequence[str]
    ) -> None:
        """ON DUPLICATE KEY UPDATE, in order, so of equal keys the last one wins. Never REPLACE: it deletes.

        Known limitation: a unique index over only the beginning of a text is not seen here. A row that conflicts
        through such an index updates a row with another key.

        :raises SchemaMismatch: when a row conflicts with a row of another key, through another unique index.
        """
        rest = [name for name in names if name not in key] or list(key[:1])
        updates = [f"{quote(name)} = VALUES({quote(name)})" for name in rest]
        if any(other != frozenset(key) for other in shape.unique_keys) and set(key) <= set(names):
            updates.insert(0, _require_same_key(key))
        try:
            self._insert(connection, shape, names, rows, f" ON DUPLICATE KEY UPDATE {', '.join(updates)}")
        except Exception as error:
            if error_number(error) != _OUT_OF_RANGE:
                raise
            raise SchemaMismatch(
                f"table {shape.display_name!r}: a row has another ({', '.join(key)}) than the row of the table that "
                "has the same values in another unique index: correct it in a stage, or merge by the columns of that "
                "index"
            ) from None

    def _insert(self, connection: Connection, shape: TableShape, names: Sequence[str], rows: Rows, tail: str) -> None:
        table = f"{quote(shape.schema)}.{quote(shape.name)}" if shape.schema else quote(shape.name)
        head = f"INSERT INTO {table} ({', '.join(map(quote, names))}) VALUES "  # noqa: S608  # quoted
        marks = "(" + ", ".join(["%s"] * len(names)) + ")"
        cursor = driver_connection(connection).cursor()
        try:
            cursor.execute("SELECT @@max_allowed_packet")
            most_bytes = int(cursor.fetchone()[0]) // 2
            for part in _split(list(rows), most_bytes):
                cursor.execute(head + ", ".join([marks] * len(part)) + tail, list(chain.from_iterable(part)))
        finally:
            cursor.close()


def _require_same_key(key: Sequence[str]) -> str:
    """An assignment that changes nothing, and fails where another unique index has found the row to be updated.

    The statement itself accepts any index: it would update a row with another key, and lose the new one.
    """
    same = " AND ".join(f"{quote(name)} <=> VALUES({quote(name)})" for name in key)
    first = quote(key[0])
    # Out of range for every row, but not a constant, which the server might evaluate without need.
    return f"{first} = IF(({same}) OR ~0 + 1 + ISNULL({first}), {first}, {first})"


def _split(rows: _RowList, most_bytes: int) -> Iterator[_RowList]:
    """Slices of rows that each fit into one packet."""
    for start in range(0, len(rows), _ROWS_PER_STATEMENT):
        yield from _halve(rows[start : start + _ROWS_PER_STATEMENT], most_bytes)


def _halve(rows: _RowList, most_bytes: int) -> Iterator[_RowList]:
    size = sum(map(_size, chain.from_iterable(rows)))
    if size <= most_bytes or len(rows) == 1:
        yield rows
    else:
        middle = len(rows) // 2
        yield from _halve(rows[:middle], most_bytes)
        yield from _halve(rows[middle:], most_bytes)


def _size(value: Any) -> int:
    # A character takes up to four bytes, a byte that must be escaped two.
    return 4 * len(value) + 8 if isinstance(value, (str, bytes)) else 48
