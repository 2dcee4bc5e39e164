"""Rows in the format of COPY BINARY, as fast as psycopg 3 can make them.

``copy.write_row`` makes two Python calls for each row around the C function that does the work; together they take as
long as it does. Here that function is called from C (``map``). It is not part of psycopg's public interface, so it is
tried out once, and where it is not there or does something else, ``copy.write_row`` is used.
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
"""What psycopg itself sends at once."""
_INT8, _TEXT, _VARCHAR, _TIMESTAMP = 20, 25, 1043, 1114
_STRICT = frozenset({_INT8, _TEXT, _VARCHAR})
"""Types for which psycopg takes nothing but a value of that type, whole, and None.

An integer is what Python takes for one as an index; a text is a ``str``. Not so for floats, which Decimals are rounded
to, nor for narrower integers, which are cut. Of times without a zone, which are subtracted from one, those with a zone
are refused; but pandas' NaT is a time too, so their types are looked at.
"""


@cache
def row_formatter() -> Callable[[Any, Any, bytearray], object] | None:
    """Psycopg's function ``(row, transformer, buffer)`` that appends a row to a buffer; None: not as we know it."""
    from psycopg import adapt, pq

    try:
        from psycopg._copy_base import format_row_binary

        transformer, out = adapt.Transformer(None), bytearray()
        transformer.set_dumper_types([_INT8, _INT8], pq.Format.BINARY)
        format_row_binary((1, None), transformer, out)
    except Exception:  # noqa: BLE001  # whatever it is, there is another way
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
    form = _Form(append, copy.formatter.transformer)
    copy.write(_SIGNATURE)
    for data in _trusting(form, rows, oids) if isinstance(rows, RowSlices) else _plainly(form, iter(rows)):
        copy.write(data)
    copy.write(_TRAILER)


class _Form:
    """Makes bytes of rows, and says of how many at a time."""

    def __init__(self, append: Callable[[Any, Any, bytearray], object], transformer: Any) -> None:
        self._append, self._transformer = append, repeat(transformer)
        self.count = _FIRST_ROWS

    def bytes_of(self, rows: list[tuple[Any, ...]]) -> bytearray:
        data = bytearray()
        deque(map(self._append, rows, self._transformer, repeat(data)), maxlen=0)
        self.count = max(1, min(_MOST_ROWS, self.count * _BYTES_AT_ONCE // len(data)))
        return data


def _plainly(form: _Form, rows: Iterator[tuple[Any, ...]]) -> Iterator[bytearray]:
    while part := list(islice(rows, form.count)):
        yield form.bytes_of(part)


def _trusting(form: _Form, rows: RowSlices, oids: Sequence[int]) -> Iterator[bytearray]:
    """Look only for what psycopg does not refuse by itself; where it refuses something, look for everything.

    Most often everything is as it should be, and asking each value for its type takes half as long as sending it.
    """
    strict = DriverChecks(
        frozenset(number for number, oid in enumerate(oids) if oid in _STRICT),
        frozenset(number for number, oid in enumerate(oids) if oid == _TIMESTAMP),
    )
    for start in range(0, len(rows.block.rows), rows.size):
        fitting, at = rows.fit(start, start + rows.size, strict), 0
        while part := fitting[at : at + form.count]:
            try:
                data = form.bytes_of(part)
            except Exception:  # noqa: BLE001  # values may be of any class, and raise what they like
                data = form.bytes_of(rows.fit(start + at, start + at + len(part)))
            at += len(part)
            yield data
