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

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_SIGNATURE = b"PGCOPY\n\xff\r\n\0" + bytes(8)
_TRAILER = b"\xff\xff"
_FIRST_ROWS, _MOST_ROWS = 16, 512
_BYTES_AT_ONCE = 32_768
"""What psycopg itself sends at once."""
_INT8 = 20


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


def send_rows(copy: Any, rows: Iterable[tuple[Any, ...]]) -> None:
    """Send rows to a binary COPY whose types have been set."""
    append = row_formatter()
    if append is None:
        for row in rows:
            copy.write_row(row)
        return
    remaining, transformer = iter(rows), repeat(copy.formatter.transformer)
    copy.write(_SIGNATURE)
    count = _FIRST_ROWS
    while True:
        data = bytearray()
        deque(map(append, islice(remaining, count), transformer, repeat(data)), maxlen=0)
        if not data:
            break
        copy.write(data)
        count = max(1, min(_MOST_ROWS, count * _BYTES_AT_ONCE // len(data)))
    copy.write(_TRAILER)
