# SPDX-License-Identifier: Apache-2.0
"""The rows of a chunk as the bytes of a file: JSON lines, CSV or Parquet."""

from __future__ import annotations

import base64
import csv
import io
import json
import math
from collections.abc import Callable, Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from airflow_parallel_provider.errors import SchemaMismatch
from airflow_parallel_provider.rows.block import Block, to_block
from airflow_parallel_provider.rows.fit import WrongColumns
from airflow_parallel_provider.sinks.files import parquet_values
from airflow_parallel_provider.sinks.files.arrow_tables import are_arrow, joined
from airflow_parallel_provider.sinks.files.exact_casts import NotExact
from airflow_parallel_provider.values import json_text
from airflow_parallel_provider.values.intervals import DayTime
from airflow_parallel_provider.values.plain import plain
from airflow_parallel_provider.values.unreadable import Unreadable

SUFFIX = {"jsonl": "jsonl", "csv": "csv", "parquet": "parquet"}


class Encoder:
    """Turns rows into bytes. The columns, and for Parquet their types, are those of the first chunk.

    :param format: a key of ``SUFFIX``.
    :param columns: names, in order, for rows that have none, and for the columns of a file; None: those of the first
        chunk.
    """

    def __init__(self, format: str, columns: tuple[str, ...] | None) -> None:  # noqa: A002  # the name that authors write
        self._format = format
        self.suffix = SUFFIX[format]
        self._declared = columns
        self._columns = columns
        self._schema: Any = None

    def state(self) -> dict[str, Any]:
        """What later attempts must keep to, as JSON."""
        schema = None if self._schema is None else base64.b64encode(self._schema.serialize().to_pybytes()).decode()
        return {"columns": None if self._columns is None else list(self._columns), "parquet_schema": schema}

    def restore(self, state: dict[str, Any]) -> None:
        """Keep to what an earlier attempt has written."""
        if state.get("columns") is not None:
            self._columns = tuple(state["columns"])
        if state.get("parquet_schema") is not None:
            import pyarrow as pa

            self._schema = pa.ipc.read_schema(pa.py_buffer(base64.b64decode(state["parquet_schema"])))
            self._columns = tuple(self._schema.names)

    def encode(self, rows: Sequence[Any], where: str) -> tuple[bytes, int]:
        """The bytes of a part, and how many rows it has.

        :param where: which chunk, for errors.
        :raises SchemaMismatch: if the rows have other columns or types than the parts before them.
        """
        if self._format == "parquet" and are_arrow(rows):
            table = joined(rows, where)
            if not table.num_rows:
                return b"", 0
            return self._parquet(table.select(self._require_columns(table.column_names, where)), where)
        block = to_block(rows, self._declared)
        if not block.rows:  # an empty frame says nothing about the columns
            return b"", 0
        if self._format == "jsonl":
            return _encoded(_json_lines, block, where, _json), len(block.rows)
        block = self._arranged(block, where)
        if self._format == "csv":
            return _encoded(_csv, block, where, lambda value: str(_as_field(value)).encode()), len(block.rows)
        return self._parquet(self._arrow(block, where), where)

    def _arranged(self, block: Block, where: str) -> Block:
        """The block with exactly the columns of this load, in their order."""
        self._own_columns(block.names, where)
        assert self._columns is not None
        if block.names == self._columns:
            return block
        numbers = {name: number for number, name in enumerate(block.names)}
        order = [numbers.get(name) for name in self._columns]
        rows = [tuple(None if at is None else row[at] for at in order) for row in block.rows]
        return Block(self._columns, rows)

    def _own_columns(self, names: Sequence[str], where: str) -> list[str]:
        """Those columns of this load that a chunk has, in their order; those of the first chunk are those of the load.

        :raises SchemaMismatch: if the chunk has others, too.
        """
        if self._columns is None:
            if not names:
                raise WrongColumns(f"{where}: the rows have no columns at all: return dicts with keys")
            self._columns = tuple(names)
        extra = [name for name in names if name not in self._columns]
        if extra:
            raise WrongColumns(
                f"{where}: column {extra[0]!r} is not in the first part ({', '.join(self._columns)}): name "
                "all columns in SinkFiles(columns=[...]), or return the same keys from the last stage"
            )
        return [name for name in self._columns if name in names]

    def _require_columns(self, names: Sequence[str], where: str) -> list[str]:
        """The columns of this load, all of which an Arrow table must have."""
        found = self._own_columns(names, where)
        missing = [name for name in self._columns or () if name not in found]
        if missing:
            raise WrongColumns(f"{where}: its Arrow table has no column {missing[0]!r}: return one with all columns")
        return found

    def _arrow(self, block: Block, where: str) -> Any:
        import pyarrow as pa

        schema = self._schema
        arrays = [
            parquet_values.array(block.column(number), f"{where}: column {name!r}", schema and schema.field(name).type)
            for number, name in enumerate(block.names)
        ]
        return pa.Table.from_arrays(arrays, names=list(block.names))

    def _parquet(self, table: Any, where: str) -> tuple[bytes, int]:
        import pyarrow as pa
        import pyarrow.parquet as pq

        if self._schema is None:
            self._schema = table.schema
        elif table.schema != self._schema:
            try:
                table = parquet_values.as_before(table, self._schema)
            except (pa.ArrowException, NotExact):
                before, now = str(self._schema).replace("\n", ", "), str(table.schema).replace("\n", ", ")
                raise SchemaMismatch(f"{where}: the earlier parts have {before}; this one has {now}") from None
        buffer = io.BytesIO()
        pq.write_table(table, buffer)
        return buffer.getvalue(), table.num_rows


def _encoded(make: Callable[[Block], bytes], block: Block, where: str, one: Callable[[Any], object]) -> bytes:
    """The bytes of a part; an error names the column.

    :param one: writes a single value, to find the one that cannot be written.
    """
    try:
        return make(block)
    except (SchemaMismatch, TypeError, ValueError, RecursionError):
        for number, name in enumerate(block.names):
            for value in block.column(number):
                try:
                    one(value)
                except SchemaMismatch as error:
                    raise SchemaMismatch(f"{where}: column {name!r}: {error}") from None
                except (TypeError, ValueError, RecursionError) as error:
                    # Not the text of the error: it may contain a value of the row.
                    text = f"{where}: column {name!r}: a {type(value).__qualname__} cannot be written"
                    raise SchemaMismatch(f"{text} ({type(error).__name__}): make it a text in a stage") from None
        raise


def _json(value: Any) -> str:
    return json_text.dumps(value, _encode_finite, plain)


def _encode_finite(value: Any) -> str:
    try:
        return _encode(value)
    except ValueError:  # NaN or infinity, which JSON does not have
        return _encode(_finite(value))


def _json_lines(block: Block) -> bytes:
    lines = [_json(dict(zip(block.names, row, strict=True))) for row in block.rows]
    # UTF-8 cannot hold half of a surrogate pair; JSON has an escape for it.
    return "".join(f"{line}\n" for line in lines).encode("utf-8", "backslashreplace")


def _csv(block: Block) -> bytes:
    rows = [block.names, *[["" if value is None else _as_field(value) for value in row] for row in block.rows]]
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows(rows)
    if "\r" not in text.getvalue():
        return text.getvalue().encode()
    # The writer quotes a carriage return only where it is part of its line end. Unquoted, readers take it for one.
    lines = _Lines()
    csv.writer(lines, lineterminator="\r\n").writerows(rows)
    return "".join(lines).encode()


class _Lines(list[str]):
    """Lines as ``csv.writer`` writes them, with the line end that all parts have."""

    def write(self, line: str) -> None:
        """Take a line."""
        self.append(f"{line.removesuffix(chr(13) + chr(10))}\n")


def _as_field(value: Any) -> Any:
    value = plain(value)
    if value is None or isinstance(value, (str, int, float)):
        return "" if value is None else value
    if isinstance(value, (dict, list, tuple)):
        return _json(value)
    return _as_json(value)


_TEXTS: dict[type, Callable[[Any], Any]] = {
    datetime: datetime.isoformat,
    date: date.isoformat,
    time: time.isoformat,
    timedelta: timedelta.total_seconds,
    DayTime: timedelta.total_seconds,
    Decimal: str,
    UUID: str,
    bytes: lambda value: base64.b64encode(value).decode(),
    set: sorted,
    frozenset: sorted,
}


def _as_json(value: Any) -> Any:
    reduced = plain(value)
    if type(reduced) in _TEXTS:
        return _TEXTS[type(reduced)](reduced)
    if reduced is not value:
        return reduced
    if type(value) is Unreadable:
        raise SchemaMismatch(parquet_values.reason_of(value))
    raise SchemaMismatch(f"a value of type {type(value).__qualname__} cannot be written to a file: make it a text")


def _finite(value: Any) -> Any:
    value = plain(value)
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {name: _finite(each) for name, each in value.items()}
    return [_finite(each) for each in value] if isinstance(value, (list, tuple)) else value


_encode = json.JSONEncoder(ensure_ascii=False, default=_as_json, allow_nan=False).encode
