"""Rows of a query as dicts, without a SQLAlchemy object for each row."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from airflow_parallel_provider.sources.sql.column_readers import UnreadableValue

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection


def fetch_dicts(
    connection: Connection, statement: Any, names: Sequence[str], *, first: int = 0
) -> list[dict[str, Any]]:
    """Run a SELECT of columns and return its rows, with the same values that SQLAlchemy returns.

    SQLAlchemy's own rows cost as much as those of the driver. This function applies the conversions of SQLAlchemy's
    column types (from the texts of SQLite to dates, for example) a column at a time, and none where the driver already
    returns the right values.

    :param names: keys of the dicts, one for each column of the statement.
    :param first: position of the first row in the whole table, for error texts.
    :raises UnreadableValue: naming column, position of the row and cure.
    """
    result = connection.execute(statement)
    cursor: Any = result.cursor
    try:
        readers = _readers(connection, statement, cursor.description)
        assert len(readers) == len(names)
        rows: Iterable[Any] = cursor.fetchall()
    finally:
        result.close()
    if rows and any(readers):
        columns = [
            _read(read, values, name, first) if read else values
            for read, values, name in zip(readers, zip(*rows, strict=True), names, strict=True)
        ]
        rows = zip(*columns, strict=True)
    return _maker(tuple(names))(rows)


def _read(read: Callable[[Any], Any], values: Sequence[Any], name: str, first: int) -> list[Any]:
    done: list[Any] = []
    try:
        done.extend(map(read, values))  # keeps what was read before an error
    except UnreadableValue as reason:
        raise UnreadableValue(
            f"column {name!r} has {reason} (row {first + len(done)} in the order of the key): correct the value in the "
            "table, leave the column out with columns=, or the row with where="
        ) from None
    return done


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
