# SPDX-License-Identifier: Apache-2.0
"""Rows into MySQL and MariaDB: INSERTs of many rows, none larger than a packet."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, Any

from airflow_parallel_provider.errors import SchemaMismatch
from airflow_parallel_provider.sql.backends.mysql.error_classifier import error_number
from airflow_parallel_provider.sql.backends.mysql.quoting import quote
from airflow_parallel_provider.sql.backends.row_dml import RowDml, Rows
from airflow_parallel_provider.sql.backends.session import driver_connection
from airflow_parallel_provider.values.kinds import Kind

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from sqlalchemy.engine import Connection

    from airflow_parallel_provider.values.table_shape import TableShape

_RowList = list[tuple[Any, ...]]
_ROWS_PER_STATEMENT = 1_000
_OUT_OF_RANGE = 1690
_ESCAPED = (b"\0", b"\n", b"\r", b"\x1a", b"'", b'"', b"\\")
"""Bytes that a driver writes as two."""
_OTHER_KEY, _OTHER_SPACES = 1, 2
"""Numbers in the checks of a merge, by which their errors are told apart."""


class MysqlRowDml(RowDml):
    """On the driver's own cursor."""

    def insert(self, connection: Connection, shape: TableShape, names: Sequence[str], rows: Rows) -> int:
        """INSERTs of many rows each, none larger than the server takes."""
        return len(rows) - self._insert(connection, shape, names, rows, "")

    def merge(
        self,
        connection: Connection,
        shape: TableShape,
        names: Sequence[str],
        rows: Rows,
        key: Sequence[str],
        *,
        newest: str | None,
    ) -> int:
        """ON DUPLICATE KEY UPDATE, in order, so of equal keys the last or newest one wins. Never REPLACE: it deletes.

        What the server counts cannot be compared: 1 for a new row, 2 for a changed one, 0 for one that was the same.
        But these servers cannot drop a row without an error: a trigger can only raise, and IGNORE is not used.

        Known limitation: a unique index over only the beginning of a text is not seen here. A row that conflicts
        through such an index updates a row with another key.

        :raises SchemaMismatch: when a row conflicts with a row of another key, through another unique index.
        """
        rest = [name for name in names if name not in key] or list(key[:1])
        updates = _updates(rest) if newest is None else _updates_if_not_older(rest, newest)
        if set(key) <= set(names):
            updates[:0] = _checks(shape, key)
        try:
            self._insert(connection, shape, names, rows, f" ON DUPLICATE KEY UPDATE {', '.join(updates)}")
        except Exception as error:
            if error_number(error) != _OUT_OF_RANGE:
                raise
            raise SchemaMismatch(f"table {shape.display_name!r}: {_refusal(error, key)}") from None
        return 0

    def _insert(self, connection: Connection, shape: TableShape, names: Sequence[str], rows: Rows, tail: str) -> int:
        """Run the INSERTs; return what the server has counted."""
        table = f"{quote(shape.schema)}.{quote(shape.name)}" if shape.schema else quote(shape.name)
        head = f"INSERT INTO {table} ({', '.join(map(quote, names))}) VALUES "  # noqa: S608  # quoted
        marks = "(" + ", ".join(["%s"] * len(names)) + ")"
        cursor, counted = driver_connection(connection).cursor(), 0
        try:
            cursor.execute("SELECT @@max_allowed_packet")
            packet = int(cursor.fetchone()[0])
            for part in _split(list(rows), packet // 2):
                if len(part) == 1:
                    _require_packet(part[0], packet - len(head) - len(tail), shape, names)
                cursor.execute(head + ", ".join([marks] * len(part)) + tail, list(chain.from_iterable(part)))
                counted += int(cursor.rowcount)
        finally:
            cursor.close()
        return counted


def _require_packet(row: tuple[Any, ...], most_bytes: int, shape: TableShape, names: Sequence[str]) -> None:
    """Check that a row fits into one packet: a server that gets a larger one ends the connection.

    :raises SchemaMismatch: with the column that takes most of it.
    """
    if sum(map(_size, row)) <= most_bytes:
        return
    sizes = list(map(_sent_size, row))
    if sum(sizes) > most_bytes:
        name = names[sizes.index(max(sizes))]
        raise SchemaMismatch(
            f"table {shape.display_name!r}, column {name!r}: a row is larger than a packet of the server "
            f"(max_allowed_packet, {most_bytes} bytes of values): raise it on the server, or shorten the value in a "
            "stage"
        )


def _updates(names: Sequence[str]) -> list[str]:
    return [f"{quote(name)} = VALUES({quote(name)})" for name in names]


def _updates_if_not_older(names: Sequence[str], newest: str) -> list[str]:
    """Assignments that change a row only if the new one is not older: the clause has no WHERE.

    Each assignment sees those before it, so the column that they all ask comes last.
    """
    there = quote(newest)
    may_replace = f"{there} IS NULL OR VALUES({there}) >= {there}"
    last = [*(name for name in names if name != newest), newest]
    return [f"{quote(name)} = IF({may_replace}, VALUES({quote(name)}), {quote(name)})" for name in last]


def _checks(shape: TableShape, key: Sequence[str]) -> list[str]:
    """Assignments that change nothing, and fail where the row to be updated is not that of the key.

    The statement itself accepts any unique index: it would update a row with another key, and lose the new one. And
    most collations ignore spaces at the end: it would take 'a ' for 'a'. That two texts are equal otherwise, as in a
    collation without case, is for the author of the table to decide.
    """
    checks = []
    if any(other != frozenset(key) for other in shape.unique_keys):
        same = [f"{quote(name)} <=> VALUES({quote(name)})" for name in key]
        checks.append(_require(same, key[0], _OTHER_KEY))
    texts = [name for name in key if shape.by_name[name].kind is Kind.TEXT]
    if texts:
        same = [f"{_spaces(quote(name))} <=> {_spaces(f'VALUES({quote(name)})')}" for name in texts]
        checks.append(_require(same, key[0], _OTHER_SPACES))
    return checks


def _spaces(text: str) -> str:
    """The length of the spaces at the end of a text, as SQL."""
    return f"(LENGTH({text}) - LENGTH(RTRIM({text})))"


def _require(conditions: Sequence[str], column: str, number: int) -> str:
    """An assignment of a column to itself that fails unless all conditions hold.

    :param number: appears in the server's error.
    """
    first = quote(column)
    # Out of range for every row, but not a constant, which the server might evaluate without need.
    return f"{first} = IF(({' AND '.join(conditions)}) OR ~0 + {number} + ISNULL({first}), {first}, {first})"


def _refusal(error: Exception, key: Sequence[str]) -> str:
    """Which of the checks has failed."""
    names = ", ".join(key)
    if f"+ {_OTHER_SPACES}" in str(error):
        return (
            f"the ({names}) of a row differs from that of another one only in spaces at the end, which the collation "
            "of the column ignores: remove them in a stage, or give the column a NO PAD collation such as "
            "utf8mb4_nopad_bin (MariaDB) or utf8mb4_0900_bin (MySQL)"
        )
    return (
        f"a row has another ({names}) than the row of the table that has the same values in another unique index: "
        "correct it in a stage, or merge by the columns of that index"
    )


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


def _sent_size(value: Any) -> int:
    """How many bytes a value has in a statement."""
    if not isinstance(value, (str, bytes)):
        return _size(value)
    data = value.encode() if isinstance(value, str) else value
    return len(data) + sum(map(data.count, _ESCAPED)) + 16  # quotes, a comma, the name of an encoding


def _size(value: Any) -> int:
    # A character takes up to four bytes, a byte that must be escaped two.
    return 4 * len(value) + 8 if isinstance(value, (str, bytes)) else 48
