"""``SqlSource``: the rows of a table, read in ranges of a unique key."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any, ClassVar

from airflow_parallel_provider.checks import check_mapping, check_text, check_whole
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

    The first try walks the key once and writes down its upper bound and the bounds of ranges of ``range_size`` rows;
    then ``readers`` threads read ranges at the same time, each with ``key > low AND key <= high``, never with OFFSET.
    A key of several columns is compared as a whole, as the database does for ``ORDER BY``.
    Rows that come in above the bound later belong to the next load. A retry reads the same ranges, and fails with
    :class:`LoadMismatch` when one of them has another number of rows than it had.

    :param table: name of a table, without its schema. (templated)
    :param conn_id: Airflow connection of any SQL database but DuckDB. (templated)
    :param key: a column that is unique by itself, or the list of columns that are unique together, in the order of
        their index: ``key=["day", "id"]``. The database has declared them to be so and to be never NULL.
    :param schema: schema of the table; None: the connection's default. (templated)
    :param columns: the columns to read; None: all.
    :param where: a condition in SQL, with ``:name`` where a parameter goes. It must choose the same rows at a retry.
    :param parameters: values of the parameters in ``where``; they are never put into the text. (templated)
    :param range_size: rows per range, 100 to 1 000 000; twice ``readers`` ranges are in memory at most.
    :param readers: threads that read, each with a connection of its own, 1 to 64.
    :raises PlanError: when the DAG is parsed for a wrong argument; when the run begins for a key that may be NULL or
        is not unique.

    What it does not do: read one snapshot. Each range is read in a transaction of its own, so a row may be seen as it
    is when its range is read.

    Known limitations: the walk is made before the stages start, and only ``execution_timeout`` breaks it off; it reads
    the key's index, which takes its time with a hundred million rows. Rows that are added and removed in equal number
    within one range between two tries are not noticed: choose with ``where`` only rows that no longer come and go.
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
        """Ask Airflow for the connection, check the key, and walk it once.

        :raises PlanError: when there is no such connection, table or column, or the key will not do.
        """
        from airflow_parallel_provider.sources.sql.table_reader import TableReader

        self._restored = False
        self._halt = StopReading()
        self._reader = TableReader(self._query())
        with self._reader.opened() as database:
            self._reader.check_key(database)
            self._ranges = self._reader.walk(database)

    def identity(self) -> str:
        """Connection, table, key, columns and condition; not the rows."""
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
        """Read the ranges of the first try, and hold them to their numbers of rows."""
        from airflow_parallel_provider.sources.sql.table_reader import Ranges

        self._ranges = Ranges.of_json(state)
        self._restored = True

    def interrupt(self) -> None:
        """Wait for no further range, and break off the statements that are going on."""
        self._halt.set()
        if self._reader is not None:
            self._reader.interrupt()

    def __len__(self) -> int:
        """Number of rows when the key was walked.

        :raises TypeError: before that.
        """
        if self._ranges is None:
            raise TypeError("the table was not looked at yet")
        return self._ranges.rows

    def __iter__(self) -> Iterator[Any]:
        """Yield the rows as dicts.

        :raises LoadMismatch: at a retry, when a range has another number of rows than at the first try.
        :raises SourceError: when the database kept failing.
        """
        if self._reader is None or self._ranges is None:
            self.prepare()
        reader, ranges = self._reader, self._ranges
        assert reader is not None
        assert ranges is not None

        @contextmanager
        def connected() -> Iterator[Callable[[int], list[dict[str, Any]]]]:
            with reader.opened() as database:
                yield lambda number: reader.read(database, *ranges.range(number))

        numbers = range(len(ranges))
        readers = min(self.readers, max(1, len(ranges)))
        parts = read_ahead(connected, numbers, readers=readers, name="sql-source", halt=self._halt)
        with closing(parts):  # whoever holds on to an error would hold on to the threads, too
            for number, rows in zip(numbers, parts, strict=True):
                self._check_count(ranges, number, len(rows))
                yield from rows

    def _check_count(self, ranges: Ranges, number: int, found: int) -> None:
        expected = ranges.size(number)
        if found == expected:
            return
        # By their place, not by the bounds of the range: those are values of rows.
        first = number * ranges.range_size + 1
        where = f"{self.identity()}: rows {first} to {first + expected - 1} in the order of {self._query().key_text}"
        if self._restored:
            raise LoadMismatch(
                f"{where}: there were {expected} at the first try and are {found} now, so its chunks would not be the "
                "same chunks. Give the rows a load of their own (another load_key, or clear the task), and choose "
                "with where= only rows that no longer come and go"
            )
        log.warning("%s: there were %d when the table was looked at and are %d now", where, expected, found)


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
            raise PlanError("SqlSource.columns", columns, f"name the key {name!r} among them, too")
    return tuple(columns)
