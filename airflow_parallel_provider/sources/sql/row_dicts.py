# SPDX-License-Identifier: Apache-2.0
"""Rows of a query as dicts, without a SQLAlchemy object for each row."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from airflow_parallel_provider.sources.sql.lenient_driver import is_lenient, make_lenient, not_read_in, prepare
from airflow_parallel_provider.sql.backends.session import driver_connection
from airflow_parallel_provider.values.unreadable import Unreadable, UnreadableValue

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection


def fetch_dicts(
    connection: Connection, statement: Any, names: Sequence[str], *, first: int = 0, key: str = "the key"
) -> list[dict[str, Any]]:
    """Run a SELECT of columns and return its rows, with the same values that SQLAlchemy returns.

    SQLAlchemy's own rows cost as much as those of the driver. This function applies the conversions of SQLAlchemy's
    column types (from the texts of SQLite to dates, for example) a column at a time, and none where the driver already
    returns the right values.

    :param names: keys of the dicts, one for each column of the statement.
    :param first: position of the first row in the whole table, for error texts.
    :param key: the columns by which they are ordered, for error texts.
    :return: with :class:`Unreadable` in the place of a value that Python cannot hold.
    """
    readers, rows = _fetch(connection, statement)
    return _dicts(connection, readers, rows, names, partial(_place, first, key))


def stream_dicts(
    connection: Connection, statement: Any, names: Sequence[str], *, size: int, key: str
) -> Iterator[list[dict[str, Any]]]:
    """The same rows, a part at a time, over one cursor of the server where the driver has such cursors.

    :param size: rows of a part.
    """
    prepare(driver_connection(connection))
    make_lenient(driver_connection(connection))  # it cannot be read again from where a value fails
    result = connection.execute(statement.execution_options(stream_results=True))
    cursor: Any = result.cursor
    try:
        readers = _readers(connection, statement, cursor.description)
        first = 0
        # Not the cursor's own method: SQLAlchemy has fetched a row, without which some cursors describe no columns.
        while rows := result.cursor_strategy.fetchmany(result, cursor, size):
            yield _dicts(connection, readers, rows, names, partial(_place, first, key))
            first += len(rows)
    finally:
        result.close()


def _dicts(
    connection: Connection,
    readers: Sequence[Callable[[Any], Any] | None],
    rows: Iterable[Any],
    names: Sequence[str],
    place: Callable[[str, int], str],
) -> list[dict[str, Any]]:
    assert len(readers) == len(names)
    lenient = is_lenient(driver_connection(connection))
    if rows and (lenient or any(readers)):
        columns = [
            _read(read, values, partial(place, name), lenient=lenient) if read or lenient else values
            for read, values, name in zip(readers, zip(*rows, strict=True), names, strict=True)
        ]
        rows = zip(*columns, strict=True)
    return _maker(tuple(names))(rows)


def _fetch(connection: Connection, statement: Any) -> tuple[list[Callable[[Any], Any] | None], Iterable[Any]]:
    """The converters of the columns, and the rows as the driver gives them."""
    prepare(driver_connection(connection))
    result = connection.execute(statement)
    cursor: Any = result.cursor
    try:
        return _readers(connection, statement, cursor.description), cursor.fetchall()
    except Exception as error:
        if not make_lenient(driver_connection(connection), error):
            raise
    finally:
        result.close()
    return _fetch(connection, statement)


def _read(
    read: Callable[[Any], Any] | None, values: Sequence[Any], place: Callable[[int], str], *, lenient: bool
) -> list[Any]:
    """The values of a column.

    :param place: of a row of the range, for error texts.
    :param lenient: some may be marked as not read by the driver.
    """
    if not lenient and read is not None:
        with contextlib.suppress(UnreadableValue):
            return list(map(read, values))
    return [_read_or_mark(read, value, place, row) for row, value in enumerate(values)]


def _read_or_mark(read: Callable[[Any], Any] | None, value: Any, place: Callable[[int], str], row: int) -> Any:
    marked = not_read_in(value)
    if marked is not None:
        return Unreadable(marked.reason, place(row), marked.source_type, marked.text)
    try:
        return value if read is None else read(value)
    except UnreadableValue as error:
        return Unreadable(str(error), place(row))


def _place(first: int, key: str, name: str, row: int) -> str:
    return f"column {name!r} of row {first + row} in the order of {key}"


@functools.cache
def _maker(names: tuple[str, ...]) -> Callable[[Iterable[Any]], list[dict[str, Any]]]:
    """A function that turns tuples into dicts; a dict display for these names is twice as fast as ``dict(zip())``."""
    values = [f"v{number}" for number in range(len(names))]
    pairs = ", ".join(f"{name!r}: {value}" for name, value in zip(names, values, strict=True))
    text = f"lambda rows: [{{{pairs}}} for ({', '.join(values)},) in rows]"  # only literals and generated names
    return eval(text)  # type: ignore[no-any-return]  # noqa: S307


def _readers(connection: Connection, statement: Any, described: Sequence[Any]) -> list[Callable[[Any], Any] | None]:
    """For each column the function that converts the driver's value; None: no conversion."""
    dialect = connection.dialect
    return [
        column.type.dialect_impl(dialect).result_processor(dialect, about[1])
        for column, about in zip(statement.selected_columns, described, strict=True)
    ]
