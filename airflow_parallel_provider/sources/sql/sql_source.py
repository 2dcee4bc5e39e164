# SPDX-License-Identifier: Apache-2.0
"""``SqlSource``: the rows of a table, read in ranges of a unique key."""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any, ClassVar

from airflow_parallel_provider.checks import check_mapping, check_text, check_whole
from airflow_parallel_provider.engine.interfaces.source import ChunkReader
from airflow_parallel_provider.errors import LoadMismatch, PlanError
from airflow_parallel_provider.sources.declared_source import DeclaredSource
from airflow_parallel_provider.sources.read_ahead import StopReading, read_ahead
from airflow_parallel_provider.sources.sql.table_query import TableQuery

if TYPE_CHECKING:
    from airflow_parallel_provider.sources.sql.table_reader import Ranges, TableReader

log = logging.getLogger(__name__)


class SqlSource(DeclaredSource):
    """The rows of a table as dicts, in the order of a unique key.

    ::

        SqlSource("orders", conn_id="shop", key="id", where="day = :day", parameters={"day": "{{ ds }}"})

    The first try walks the key once. It records the upper bound of the key and the bounds of ranges of ``range_size``
    rows. Then ``readers`` threads read ranges at the same time, each with ``key > low AND key <= high``, never with
    OFFSET. A key of several columns is compared as a whole, as the database does for ``ORDER BY``.
    Rows that are inserted above the bound later belong to the next load. A retry reads the same ranges, and fails with
    :class:`LoadMismatch` when one of them has another number of rows than before.

    :param table: name of a table or view; with its schema (``"shop.orders"``) if ``schema`` is not given and no table
        has that whole name. (templated)
    :param conn_id: Airflow connection of any SQL database but DuckDB. (templated)
    :param key: a column that is unique by itself, or the list of columns that are unique together, in the order of
        their index: ``key=["day", "id"]``. A table must declare them as unique; those of a view, which cannot, are
        counted first. Columns that may be NULL are checked first: no row that is read may have a NULL there.
    :param schema: schema of the table; None: the connection's default. (templated)
    :param columns: the columns to read; None: all.
    :param where: a condition in SQL, with ``:name`` for each parameter. It must select the same rows at a retry.
    :param parameters: values of the parameters in ``where``; they are never put into the text. (templated)
    :param range_size: rows per range, 100 to 1 000 000; at most twice ``readers`` ranges are in memory.
    :param readers: threads that read, each with its own connection, 1 to 64.
    :raises PlanError: when the DAG is parsed, for a wrong argument; when the run begins, for a key that is NULL in a
        row or is not unique.

    What it does not do: read one snapshot. Each range is read in its own transaction, so each row is read as it is at
    that moment.

    Known limitations: the walk runs before the stages start, and only ``execution_timeout`` interrupts it. It reads the
    key's index, which takes long with a hundred million rows. If within one range as many rows are added as removed
    between two tries, the retry does not notice it: select with ``where`` only rows that are no longer added or
    removed.
    """

    template_fields: ClassVar[tuple[str, ...]] = ("table", "conn_id", "schema", "parameters")

    def __init__(
        self,
        table: str,
        *,
        conn_id: str,
        key: str | Sequence[str],
        schema: str | None = None,
        columns: Sequence[str] | None = None,
        where: str | None = None,
        parameters: Mapping[str, Any] | None = None,
        range_size: int = 10_000,
        readers: int = 4,
    ) -> None:
        for name, text in (("table", table), ("conn_id", conn_id)):
            check_text(f"SqlSource.{name}", text)
        check_text("SqlSource.schema", schema, optional=True)
        check_text("SqlSource.where", where, optional=True)
        check_mapping("SqlSource.parameters", parameters)
        check_whole("SqlSource.range_size", range_size, 100, 1_000_000)
        check_whole("SqlSource.readers", readers, 1, 64)
        self.table = table
        self.conn_id = conn_id
        self.key = key
        self.key_columns = _checked_key(key)
        self.schema = schema
        self.columns = _checked_columns(columns, self.key_columns)
        self.where = where
        self.parameters = parameters
        self.range_size = range_size
        self.readers = readers
        self._reader: TableReader | None = None
        self._ranges: Ranges | None = None
        self._restored = False
        self._halt = StopReading()

    def prepare(self) -> None:
        """Get the connection from Airflow, check the key, and walk it once.

        :raises PlanError: when the connection, table or a column does not exist, or the key is unsuitable.
        """
        reader = self._new_reader()
        with reader.opened() as database:
            reader.check_key(database)
            self._ranges = reader.walk(database)

    def prepare_shard(self) -> None:
        """Get the connection from Airflow and check the key, which was walked when the load began."""
        reader = self._new_reader()
        with reader.opened() as database:
            reader.check_key(database)

    def _new_reader(self) -> TableReader:
        from airflow_parallel_provider.sources.sql.table_reader import TableReader

        self._restored = False
        self._halt = StopReading()
        self._ranges = None
        self._reader = TableReader(self._query())
        return self._reader

    @property
    def advice(self) -> str:
        """More readers, or fewer columns."""
        return f"more ranges at the same time (readers={self.readers}), or only the columns that are used (columns=)"

    def identity(self) -> str:
        """Connection, table, key and a digest of the rest of the query; the rows are not part of it."""
        return self._query().identity

    def _query(self) -> TableQuery:
        return TableQuery(
            conn_id=self.conn_id,
            table=self.table,
            schema=self.schema,
            key=self.key,
            key_columns=self.key_columns,
            columns=self.columns,
            where=self.where,
            parameters=self.parameters or {},
            range_size=self.range_size,
        )

    def get_state(self) -> Mapping[str, Any] | None:
        """The bounds of the ranges and the number of rows."""
        return None if self._ranges is None else self._ranges.as_json()

    def restore_state(self, state: Mapping[str, Any]) -> None:
        """Read the ranges of the first try, and check that each still has its number of rows."""
        from airflow_parallel_provider.sources.sql.table_reader import Ranges

        self._ranges = Ranges.of_json(state)
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
        if self._reader is None or self._ranges is None:
            self.prepare()
        assert self._ranges is not None
        with closing(self._read(range(len(self._ranges)))) as parts:
            for _, rows in parts:
                yield from rows

    def neighbors(self, chunk_size: int) -> int:
        """The chunks of one range."""
        return max(1, self.range_size // chunk_size)

    @property
    def can_jump(self) -> bool:
        """True: a range is read by its key."""
        return True

    def chunks(self, chunk_size: int, wanted: Callable[[int], bool]) -> ChunkReader:
        """Reads only the ranges that the wanted chunks are in."""
        if self._reader is None or self._ranges is None:
            self.prepare()
        ranges = self._ranges
        assert ranges is not None
        size, count = ranges.range_size, -(-ranges.rows // chunk_size)

        def needed(chunk: int) -> range:
            last = min((chunk + 1) * chunk_size, ranges.rows) - 1
            return range(chunk * chunk_size // size, last // size + 1)

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

    def _read(self, numbers: Sequence[int]) -> Generator[tuple[int, list[Any]], None, None]:
        """The rows of some ranges."""
        reader, ranges = self._reader, self._ranges
        assert reader is not None
        assert ranges is not None

        @contextmanager
        def connected() -> Iterator[Callable[[int], list[dict[str, Any]]]]:
            with reader.opened() as database:
                yield lambda number: reader.read(database, *ranges.range(number), first=number * ranges.range_size)

        readers = min(self.readers, max(1, len(numbers)))
        parts = read_ahead(connected, numbers, readers=readers, name="sql-source", halt=self._halt)
        with closing(parts):  # otherwise a reference to an error would keep the threads alive
            for number, rows in zip(numbers, parts, strict=True):
                self._check_count(ranges, number, len(rows))
                yield number, rows

    def _check_count(self, ranges: Ranges, number: int, found: int) -> None:
        expected = ranges.size(number)
        if found == expected:
            return
        # The text names positions, not the bounds of the range, which are data.
        first = number * ranges.range_size + 1
        where = f"{self.identity()}: rows {first} to {first + expected - 1} in the order of {self._query().key_text}"
        if self._restored:
            raise LoadMismatch(
                f"{where}: {expected} rows in the first try, {found} now, so the chunks would not be the same. Start a "
                "new load (another load_key, or clear the task), and select with where= only rows that are no longer "
                "added or removed"
            )
        log.warning("%s: %d rows when the key was walked, %d now", where, expected, found)


def _checked_key(key: Any) -> tuple[str, ...]:
    names = [key] if isinstance(key, str) else key
    if not isinstance(names, Sequence) or not names:
        raise PlanError("SqlSource.key", key, "give the name of a unique column, or a list of the columns of a key")
    for name in names:
        check_text("SqlSource.key", name)
    if len(set(names)) < len(names):
        raise PlanError("SqlSource.key", key, "name each column once")
    return tuple(names)


def _checked_columns(columns: Any, key: tuple[str, ...]) -> tuple[str, ...] | None:
    if columns is None:
        return None
    if isinstance(columns, str) or not isinstance(columns, Sequence) or not columns:
        raise PlanError("SqlSource.columns", columns, "give a list of column names, or leave it out for all columns")
    for name in columns:
        check_text("SqlSource.columns", name)
    for name in key:
        if name not in columns:
            raise PlanError("SqlSource.columns", columns, f"add the key {name!r} to the list")
    return tuple(columns)
