# SPDX-License-Identifier: Apache-2.0
"""Rows in the format of COPY BINARY, as fast as psycopg 3 can write them.

``copy.write_row`` makes two Python calls for each row around the C function that does the work; together they take as
long as that function. Here C code (``map``) calls the function. It is not part of psycopg's public interface: so it is
tested once, and ``copy.write_row`` is used where the function is missing or does something else.
"""

from __future__ import annotations

from collections import deque
from functools import cache
from itertools import islice, repeat
from typing import TYPE_CHECKING, Any

from airflow_parallel_provider.rows.fit import DriverChecks, RowSlices

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

_SIGNATURE = b"PGCOPY\n\xff\r\n\0" + bytes(8)
_TRAILER = b"\xff\xff"
_FIRST_ROWS, _MOST_ROWS = 16, 512
_BYTES_AT_ONCE = 32_768
"""The size of psycopg's own writes."""
_INT8, _TEXT, _VARCHAR, _TIMESTAMP = 20, 25, 1043, 1114
_STRICT_TYPES = frozenset({_INT8, _TEXT, _VARCHAR})
"""Types for which psycopg accepts only None and values of that type, which it writes whole.

For an integer column it accepts what Python accepts as an index, for a text column a ``str``. Other types are not
strict: psycopg rounds a Decimal to a float, and cuts off integers in narrower columns. For times without a zone it
refuses times with a zone (it subtracts them from one without), but accepts pandas' NaT: so their types are checked.
"""


@cache
def row_formatter() -> Callable[[Any, Any, bytearray], object] | None:
    """Psycopg's function ``(row, transformer, buffer)`` that appends a row to a buffer; None if it is another one."""
    from psycopg import adapt, pq

    try:
        from psycopg._copy_base import format_row_binary

        transformer, out = adapt.Transformer(None), bytearray()
        transformer.set_dumper_types([_INT8, _INT8], pq.Format.BINARY)
        format_row_binary((1, None), transformer, out)
    except Exception:  # noqa: BLE001  # whatever the reason, write_row works
        return None
    expected = b"\0\2" + b"\0\0\0\x08" + bytes(7) + b"\1" + b"\xff\xff\xff\xff"
    return format_row_binary if out == expected else None


def send_rows(copy: Any, rows: Iterable[tuple[Any, ...]], oids: Sequence[int]) -> None:
    """Send rows to a binary COPY whose types have been set.

    :param oids: the types, one for each column.
    """
    append = row_formatter()
    if append is None:
        for row in rows:
            copy.write_row(row)
        return
    formatter = _Formatter(append, copy.formatter.transformer)
    copy.write(_SIGNATURE)
    if isinstance(rows, RowSlices):
        parts = _format_relying_on_driver(formatter, rows, oids)
    else:
        parts = _format(formatter, iter(rows))
    for data in parts:
        copy.write(data)
    copy.write(_TRAILER)


class _Formatter:
    """Formats rows as bytes, and chooses how many at a time."""

    def __init__(self, append: Callable[[Any, Any, bytearray], object], transformer: Any) -> None:
        self._append, self._transformer = append, repeat(transformer)
        self.count = _FIRST_ROWS

    def format(self, rows: list[tuple[Any, ...]]) -> bytearray:
        data = bytearray()
        deque(map(self._append, rows, self._transformer, repeat(data)), maxlen=0)
        self.count = max(1, min(_MOST_ROWS, self.count * _BYTES_AT_ONCE // len(data)))
        return data


def _format(formatter: _Formatter, rows: Iterator[tuple[Any, ...]]) -> Iterator[bytearray]:
    while part := list(islice(rows, formatter.count)):
        yield formatter.format(part)


def _format_relying_on_driver(formatter: _Formatter, rows: RowSlices, oids: Sequence[int]) -> Iterator[bytearray]:
    """Check only what psycopg does not refuse itself; where it refuses a row, check everything.

    Most often all values are right, and a check of each value's type takes half as long as sending it.
    """
    driver_checks = DriverChecks(
        frozenset(number for number, oid in enumerate(oids) if oid in _STRICT_TYPES),
        frozenset(number for number, oid in enumerate(oids) if oid == _TIMESTAMP),
    )
    for start in range(0, len(rows.block.rows), rows.size):
        converted, at = rows.fit(start, start + rows.size, driver_checks), 0
        while part := converted[at : at + formatter.count]:
            try:
                data = formatter.format(part)
            except Exception:  # noqa: BLE001  # a value of any class may raise any error
                data = formatter.format(rows.fit(start + at, start + at + len(part)))
            at += len(part)
            yield data
