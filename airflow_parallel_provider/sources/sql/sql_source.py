# SPDX-License-Identifier: Apache-2.0
"""``SqlSource``: the rows of a table or query, read in ranges of a unique key."""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from datetime import timedelta
from decimal import Decimal
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from airflow_parallel_provider.checks import check_text
from airflow_parallel_provider.engine.interfaces.records import STREAM, EarlierLoads, Narrow
from airflow_parallel_provider.engine.interfaces.sink import Sink
from airflow_parallel_provider.engine.interfaces.source import ChunkReader
from airflow_parallel_provider.sources.declared_source import DeclaredSource
from airflow_parallel_provider.sources.read_ahead import StopReading, read_ahead
from airflow_parallel_provider.sources.sql import arguments
from airflow_parallel_provider.sources.sql.ranges import Ranges, check_count, needed_ranges
from airflow_parallel_provider.sources.sql.since import Window, checked_cursor, last_window
from airflow_parallel_provider.sources.sql.table_query import TableQuery

if TYPE_CHECKING:
    from airflow_parallel_provider.sources.sql.table_reader import TableReader

log = logging.getLogger(__name__)


class SqlSource(DeclaredSource):
    """The rows of a table or query as dicts, in the order of a unique key.

    ::

        SqlSource("orders", conn_id="shop", key="id", where="day = :day", parameters={"day": "{{ ds }}"})

    The first try walks the key once. It records the upper bound of the key and the bounds of ranges of ``range_size``
    rows. Then ``readers`` threads read ranges at the same time, each with ``key > low AND key <= high``, never with
    OFFSET. A key of several columns is compared as a whole, as the database does for ``ORDER BY``.
    Rows that are inserted above the bound later belong to the next load. A retry reads the same ranges, and fails with
    :class:`LoadMismatch` when one of them has another number of rows than before.

    :param table: name of a table or view; with its schema (``"shop.orders"``) if ``schema`` is not given and no table
        has that whole name. (templated)
    :param query: instead of a table, one SELECT, which may begin with WITH and have ``:name`` for parameters. Each
        statement has it in brackets: its ORDER BY counts for LIMIT only. (templated)
    :param conn_id: Airflow connection of any SQL database but DuckDB. (templated)
    :param key: a column that is unique by itself, or the list of columns that are unique together, in the order of
        their index: ``key=["day", "id"]``. A table must declare them as unique; those of a view or query are counted
        first. So are columns that may be NULL: no row that is read may have a NULL there.
        None: there is no key. One reader then reads all rows in the order of all columns, as the database sorts them,
        and the report warns of it. A retry fails with :class:`LoadMismatch` if there are more or fewer rows by then; it
        does not notice rows that were changed, or replaced by as many others.
    :param schema: schema of the table; None: the connection's default. (templated)
    :param columns: the columns to read; None: all.
    :param where: a condition in SQL on what is read. It must select the same rows at a retry.
    :param parameters: values for each ``:name`` in ``where`` and ``query``, never put into the text. (templated)
    :param range_size: rows per range, 100 to 1 000 000; at most twice ``readers`` ranges are in memory.
    :param readers: threads that read, each with its own connection, 1 to 64.
    :param since: a column that is higher in new and changed rows (``"updated_at"``, ``"id"``): read only the rows above
        the highest value that the last complete load into the same table has read; the first load reads all. Needs a
        ``SinkTable`` that appends or merges, whose ledger keeps the value. A load that fails does not move it.
        ``chunk_size`` takes the place of ``range_size``. Let one run at a time load into the table
        (``max_active_runs=1``).
    :param since_lag: how much below that value to begin, for rows that appear later than others with a higher value: a
        timedelta for times and dates, a number for numbers. Those rows are read again, so the table must merge.
    :param since_null: what a NULL in that column means: ``"error"`` fails the run; ``"load"`` reads such rows in each
        load, which must merge; ``"skip"`` leaves them out.
    :raises PlanError: when the DAG is parsed, for a wrong argument; when the run begins, for a key that is NULL in a
        row or is not unique.

    What it does not do: read one snapshot. Each range is read in its own transaction, so each row is read as it is at
    that moment.

    Known limitations: the walk runs before the stages start, and only ``execution_timeout`` interrupts it. It reads the
    key's index, which takes long with a hundred million rows. If within one range as many rows are added as removed
    between two tries, the retry does not notice it: select with ``where`` only rows that are no longer added or
    removed.
    """

    # One method for each thing that a run asks of its source.

    template_fields: ClassVar[tuple[str, ...]] = ("table", "query", "conn_id", "schema", "parameters")

    def __init__(
        self,
        table: str | None = None,
        *,
        query: str | None = None,
        conn_id: str,
        key: str | Sequence[str] | None,
        schema: str | None = None,
        columns: Sequence[str] | None = None,
        where: str | None = None,
        parameters: Mapping[str, Any] | None = None,
        range_size: int = 10_000,
        readers: int = 4,
        since: str | None = None,
        since_lag: timedelta | float | Decimal | None = None,
        since_null: Literal["error", "load", "skip"] = "error",
    ) -> None:
        arguments.check_place(table, query, schema, conn_id)
        check_text("SqlSource.where", where, optional=True)
        arguments.check_sizes(parameters, range_size, readers)
        self.table = table
        self.query = query
        self.conn_id = conn_id
        self.key = key
        self.key_columns = arguments.checked_key(key)
        self.schema = schema
        self.columns = arguments.checked_columns(columns, self.key_columns)
        self.where = where
        self.parameters = parameters
        self.range_size = range_size
        self.readers = readers
        self._cursor = checked_cursor(since, since_lag, since_null)
        if since is not None:
            arguments.check_has_key("since", since, self.key_columns)
        self.since = since
        self.since_lag = since_lag
        self.since_null = since_null
        self._window: Window | None = None
        self._reader: TableReader | None = None
        self._ranges: Ranges | None = None
        self._restored = False
        self._halt = StopReading()

    def prepare(self) -> None:
        """Get the connection from Airflow, check the key, and walk it once.

        :raises PlanError: when the connection, table or a column does not exist, or the key is unsuitable.
        """
        self.prepare_shard()
        reader = self._reader
        assert reader is not None
        if self._cursor is None:
            with reader.opened() as database:
                self._ranges = reader.walk(database, self.range_size) if self.key_columns else reader.count(database)

    def prepare_shard(self) -> None:
        """Get the connection from Airflow and check the key, which was walked when the load began."""
        from airflow_parallel_provider.sources.sql.table_reader import TableReader

        self._restored = False
        self._halt = StopReading()
        self._ranges = self._window = None
        self._reader = TableReader(self._query())
        with self._reader.opened() as database:
            self._reader.check_key(database)

    def check_shards(self) -> None:
        """Without a key nothing says which rows a shard has.

        :raises PlanError: then.
        """
        arguments.check_has_key("key", self.key, self.key_columns)

    @property
    def warnings(self) -> Sequence[str]:
        """Without a key, what that costs."""
        return () if self.key_columns else (f"{self.identity()}: {arguments.NO_KEY}",)

    @property
    def advice(self) -> str:
        """More readers, or fewer columns."""
        if not self.key_columns:
            return "one thread reads all rows, since key=None: with a unique key, ranges are read at the same time"
        return f"more ranges at the same time (readers={self.readers}), or only the columns that are used (columns=)"

    def identity(self) -> str:
        """Connection, table, key and a digest of the rest; the rows are not part of it."""
        return self._query().identity

    def _query(self) -> TableQuery:
        return TableQuery(
            conn_id=self.conn_id,
            table=self.table or "query",
            query=self.query,
            schema=self.schema,
            key=self.key,
            key_columns=self.key_columns,
            columns=self.columns,
            where=self.where,
            parameters=self.parameters or {},
            range_size=self.range_size,
            since=self._cursor,
        )

    @property
    def narrow(self) -> Narrow | None:
        """With ``since``: leaves out what earlier loads have read."""
        return None if self._cursor is None else self._walk_new

    def check_sink(self, sink: Sink) -> None:
        """With ``since``: the sink must know the last load, and merge if rows come again."""
        if self._cursor is not None:
            sink.check_narrow("SqlSource.since", self.since, self._cursor.again)

    @property
    def has_loose_chunks(self) -> bool:
        """With ``since``: a chunk is a range of the key, from which rows may have been updated to a later moment."""
        return self._cursor is not None

    def _walk_new(self, earlier: EarlierLoads) -> Mapping[str, Any]:
        """Walk the key of the rows that are new since the last complete load."""
        reader, query = self._reader, self._query()
        assert reader is not None
        before = last_window(earlier, query.stream)
        with reader.opened() as database:
            reader.window = None
            self._window = reader.window = reader.next_window(database, before, merges=earlier.merges)
            self._ranges = reader.walk(database, earlier.chunk_size)
        log.info("%s: %d rows to read%s", query.identity, self._ranges.rows, "" if before is None else " since then")
        return self.get_state() or {}

    def get_state(self) -> Mapping[str, Any] | None:
        """The bounds of the ranges and the number of rows; with ``since`` the values of that column, too."""
        state: dict[str, Any] = {} if self._ranges is None else self._ranges.as_json()
        if self._cursor is not None:
            state[STREAM] = self._query().stream
        if self._window is not None:
            state["window"] = self._window.as_json()
        return state or None

    def restore_state(self, state: Mapping[str, Any]) -> None:
        """Read the ranges of the first try, and check that each still has its number of rows."""
        before, self._ranges = self._ranges, Ranges.of_json(state)
        if before is not None and not self.key_columns:
            check_count(self._query(), self._ranges, 0, before.rows, restored=True)
        if "window" in state:
            self._window = Window.of_json(state["window"])
        self._restored = True

    def interrupt(self) -> None:
        """Stop waiting for ranges, and cancel the running statements."""
        self._halt.set()
        if self._reader is not None:
            self._reader.interrupt()

    def __len__(self) -> int:
        """Number of rows when the key was walked.

        :raises TypeError: before that.
        """
        if self._ranges is None:
            raise TypeError("the key of the table has not been walked yet")
        return self._ranges.rows

    def __iter__(self) -> Iterator[Any]:
        """Yield the rows as dicts.

        :raises LoadMismatch: in a retry, when a range has another number of rows than in the first try.
        :raises SourceError: when the database still fails after all attempts.
        """
        ranges = self._found_ranges()
        if not self.key_columns:
            assert self._reader is not None
            with self._reader.opened() as database, closing(self._reader.stream(database, self.range_size)) as stream:
                for part in stream:
                    yield from part
            return
        with closing(self._read(range(len(ranges)))) as parts:
            for _, rows in parts:
                yield from rows

    def neighbors(self, chunk_size: int) -> int:
        """The chunks of one range."""
        return 1 if self.has_loose_chunks else max(1, self.range_size // chunk_size)

    @property
    def can_jump(self) -> bool:
        """Whether a range can be read by its key."""
        return bool(self.key_columns)

    def chunks(self, chunk_size: int, wanted: Callable[[int], bool]) -> ChunkReader:
        """Reads only the ranges that the wanted chunks are in."""
        ranges = self._found_ranges()
        if self.has_loose_chunks:
            with closing(self._read(list(filter(wanted, range(len(ranges)))), loose=True)) as parts:
                yield from parts
            return len(ranges)
        size, count, needed = (
            ranges.range_size,
            -(-ranges.rows // chunk_size),
            partial(needed_ranges, ranges, chunk_size),
        )
        chosen = list(filter(wanted, range(count)))
        read: dict[int, list[Any]] = {}
        with closing(self._read(sorted({part for chunk in chosen for part in needed(chunk)}))) as parts:
            for chunk in chosen:
                while needed(chunk)[-1] not in read:
                    part, rows = next(parts)
                    read[part] = rows
                read = {part: rows for part, rows in read.items() if part >= needed(chunk)[0]}
                first = chunk * chunk_size - needed(chunk)[0] * size
                yield chunk, [row for part in needed(chunk) for row in read[part]][first : first + chunk_size]
        return count

    def send_lines(self, offer: Any) -> None:
        """Lines of COPY, where the rows go from PostgreSQL to PostgreSQL into columns of the same types."""
        if self._reader is not None and self.key_columns:
            self._reader.send_lines(offer)

    def _found_ranges(self) -> Ranges:
        if self._reader is None or self._ranges is None:
            self.prepare()
        if self._ranges is None:  # since=, read by itself: all rows
            self._walk_new(EarlierLoads(lambda: (), lambda: iter(()), self.range_size, merges=False))
        assert self._ranges is not None
        return self._ranges

    def _read(self, numbers: Sequence[int], *, loose: bool = False) -> Generator[tuple[int, list[Any]], None, None]:
        """The rows of some ranges; a ``loose`` one may have more or fewer rows than it had."""
        reader, ranges = self._reader, self._ranges
        assert reader is not None
        assert ranges is not None
        reader.window = self._window

        @contextmanager
        def connected() -> Iterator[Callable[[int], list[dict[str, Any]]]]:
            with reader.opened() as database:
                yield lambda number: reader.read(database, *ranges.range(number), first=number * ranges.range_size)

        readers = min(self.readers, max(1, len(numbers)))
        parts = read_ahead(connected, numbers, readers=readers, name="sql-source", halt=self._halt)
        with closing(parts):  # otherwise a reference to an error would keep the threads alive
            for number, rows in zip(numbers, parts, strict=True):
                if not loose:
                    check_count(self._query(), ranges, number, len(rows), restored=self._restored)
                yield number, rows
